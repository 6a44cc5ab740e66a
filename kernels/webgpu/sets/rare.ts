/** WGSL kernels of the operators that `kernels/sets.ts` calls rare. */
import type { GpuKernel, KernelTable } from '../../define.ts';
import { lossKernel } from '../loss.ts';

export const kernels: KernelTable<GpuKernel> = {
  NegativeLogLikelihoodLoss: [lossKernel(false)], SoftmaxCrossEntropyLoss: [lossKernel(true)],
};
