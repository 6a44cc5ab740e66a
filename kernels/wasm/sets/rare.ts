/** WASM kernels of the operators that `kernels/sets.ts` calls rare. */
import type { KernelTable, WasmKernel } from '../../define.ts';
import { lossWasm } from '../loss.ts';

export const kernels: KernelTable<WasmKernel> = {
  NegativeLogLikelihoodLoss: [lossWasm(false)],
  SoftmaxCrossEntropyLoss: [lossWasm(true)],
};
