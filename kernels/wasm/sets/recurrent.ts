/** WASM kernels of the operators that `kernels/sets.ts` calls recurrent. */
import type { KernelTable, WasmKernel } from '../../define.ts';
import { rnnWasm } from '../rnn.ts';

export const kernels: KernelTable<WasmKernel> = {
  ...rnnWasm,
};
