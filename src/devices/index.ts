/**
 * The devices of a build and the operators with the kernels they run. The entries `sardonyx/webgpu` and `sardonyx/wasm` are built with
 * `only-webgpu.ts` and `only-wasm.ts` in place of this file; it leaves the CPU path out of what a page with a GPU loads.
 */
import type { Op } from '../../kernels/define.ts';
import { operators } from '../../kernels/operators.ts';
import type { Backend } from '../4-run/executable.ts';
import { referenceBackend } from '../4-run/reference.ts';
import { fail } from '../core/errors.ts';
import type { Caps } from '../core/plan.ts';
import { gpuOps, webgpuBackend } from './webgpu.ts';

export interface OpenDevice { readonly backend: Backend; readonly ops: ReadonlyMap<string, Op> }
export type Device = 'auto' | 'webgpu' | 'wasm' | 'reference' | GPUDevice;

/**
 * The device asked for. 'auto' takes a hardware GPU, else WASM; a software adapter is used only when 'webgpu' is asked for by name.
 * @throws device_unavailable, option_invalid
 */
export async function openDevice(device: Device): Promise<OpenDevice> {
  if (device === 'reference') return { backend: referenceBackend(), ops: operators };
  if (device === 'wasm') return openWasm();
  if (typeof device === 'object') return { backend: await webgpuBackend(device), ops: gpuOps };
  if (device === 'webgpu') return { backend: await webgpuBackend(), ops: gpuOps };
  if (device !== 'auto') fail('option_invalid', `device must be 'auto', 'webgpu', 'wasm', 'reference' or a GPUDevice, not ${JSON.stringify(device)}`);
  try {
    return { backend: await webgpuBackend(undefined, { allowSoftware: false }), ops: gpuOps };
  } catch {
    return openWasm();
  }
}

async function openWasm(): Promise<OpenDevice> {
  const { wasmBackend, wasmCaps, wasmOps } = await import('./wasm.ts');
  return { backend: wasmBackend(wasmCaps()), ops: wasmOps };
}

/** The operators as a device of this kind runs them, for planning without it. */
export const opsFor = async (kind: Caps['kind']): Promise<ReadonlyMap<string, Op>> => (kind === 'webgpu' ? gpuOps : kind === 'wasm' ? (await import('./wasm.ts')).wasmOps : operators);
