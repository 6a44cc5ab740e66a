/** Passes around the operators of `kernels/sets/spatial.ts`. */
export { channelsFirst } from './channels-first.ts';
export { expandFusedConv } from './expand-conv.ts';
export { foldBatchNorm } from './fold-batchnorm.ts';
export { foldScale } from './fold-scale.ts';
export { fuseConvSum } from './fuse-conv-sum.ts';
