/**
 * The devices of a build and the kernels they run. The entries `sardonyx/webgpu` and `sardonyx/wasm` are built with
 * `only-webgpu.ts` and `only-wasm.ts` in place of this file; it leaves the CPU path out of what a page with a GPU loads.
 */
import type { Kernels } from '../../kernels/define.ts';
import type { Packers } from '../../kernels/pack.ts';
import type { SetName } from '../../kernels/sets.ts';
import type { Tuning } from '../3-plan/choose.ts';
import type { TuningTable } from '../3-plan/tuning.ts';
import type { Backend } from '../4-run/executable.ts';
import { referenceBackend } from '../4-run/reference.ts';
import { fail } from '../core/errors.ts';
import type { Graph } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import type { EngineOptions } from './wasm.ts';
import { gpuKernels, openGpu } from './webgpu.ts';

export interface OpenDevice {
  readonly backend: Backend;
  /** The kernels of common operators and of these sets, which the graph needs. */
  readonly kernels: (sets: readonly SetName[], graph: Graph) => Promise<Kernels>;
  /** How its kernels want constants. */
  readonly packers: Packers;
  /**
   * On a GPU: measured choices of kernels, of the caller's tables before those that ship; undefined where there are
   * none. @throws option_invalid
   */
  readonly tuningFor?: (tables: readonly TuningTable[]) => Promise<Tuning | undefined>;
}
export type Device = 'auto' | 'webgpu' | 'wasm' | 'reference' | GPUDevice;

/**
 * The device asked for. 'auto' takes a hardware GPU, else WASM; a software adapter is used only when 'webgpu' is asked
 * for by name.
 * @throws device_unavailable, option_invalid
 */
export async function openDevice(device: Device, engine: EngineOptions): Promise<OpenDevice> {
  if (device === 'reference') return { backend: referenceBackend(), kernels: async () => ({}), packers: new Map() };
  if (device === 'wasm') return openWasm(engine);
  if (typeof device === 'object') return openGpu(device);
  if (device === 'webgpu') return openGpu();
  if (device !== 'auto')
    fail(
      'option_invalid',
      `device must be 'auto', 'webgpu', 'wasm', 'reference' or a GPUDevice, not ${JSON.stringify(device)}`,
    );
  try {
    return await openGpu(undefined, { allowSoftware: false });
  } catch {
    return openWasm(engine);
  }
}

const openWasm = async (engine: EngineOptions): Promise<OpenDevice> => (await import('./wasm.ts')).openWasm(engine);

/** The kernels of devices of this kind, for planning without one. */
export async function kernelsFor(kind: Caps['kind'], sets: readonly SetName[]): Promise<Kernels> {
  return kind === 'webgpu'
    ? { webgpu: await gpuKernels(sets) }
    : kind === 'wasm'
      ? { wasm: await (await import('./wasm.ts')).wasmKernels(sets) }
      : {};
}

/** What cuts that which a GPU cannot bind at once. */
export const shards = async () => import('../3-plan/shards.ts');
