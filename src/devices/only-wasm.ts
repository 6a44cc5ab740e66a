/** In place of `index.ts` in `sardonyx/wasm`: the CPU path alone. */
import type { Kernels } from '../../kernels/define.ts';
import type { SetName } from '../../kernels/sets.ts';
import { fail } from '../core/errors.ts';
import type { Caps } from '../core/plan.ts';
import type { Device, OpenDevice } from './index.ts';
import { type EngineOptions, openWasm, wasmKernels } from './wasm.ts';

export async function openDevice(device: Device, engine: EngineOptions): Promise<OpenDevice> {
  if (device !== 'auto' && device !== 'wasm')
    fail(
      'option_invalid',
      `sardonyx/wasm runs on 'wasm', not ${typeof device === 'object' ? 'a GPUDevice' : JSON.stringify(device)}; import from 'sardonyx' for every device`,
    );
  return openWasm(engine);
}

export async function kernelsFor(kind: Caps['kind'], sets: readonly SetName[]): Promise<Kernels> {
  return kind === 'wasm'
    ? { wasm: await wasmKernels(sets) }
    : fail('option_invalid', `sardonyx/wasm plans for 'wasm', not '${kind}'; import from 'sardonyx' for every device`);
}

export const shards = async (): Promise<never> => fail('internal', 'the CPU binds nothing');
