/** WGSL kernels of the operators that `kernels/sets.ts` calls rare. */
import type { GpuKernel, KernelTable } from '../../define.ts';
import { lossKernel } from '../loss.ts';
import {
  bernoulliKernel,
  multinomialKernel,
  normalKernel,
  normalLikeKernel,
  uniformKernel,
  uniformLikeKernel,
} from '../random.ts';

export const kernels: KernelTable<GpuKernel> = {
  NegativeLogLikelihoodLoss: [lossKernel(false)],
  SoftmaxCrossEntropyLoss: [lossKernel(true)],
  RandomUniform: [uniformKernel],
  RandomUniformLike: [uniformLikeKernel],
  RandomNormal: [normalKernel],
  RandomNormalLike: [normalLikeKernel],
  Bernoulli: [bernoulliKernel],
  Multinomial: [multinomialKernel],
};
