/** Passes around the operators of `kernels/sets/spatial.ts`. */
export { channelsFirst } from './channels-first.ts';
export { expandBatchNorm } from './expand-batchnorm.ts';
export { expandFusedConv, expandNhwcConv } from './expand-conv.ts';
export { foldBatchNorm } from './fold-batchnorm.ts';
export { foldPad } from './fold-pad.ts';
export { foldScale } from './fold-scale.ts';
export { fuseConvSum } from './fuse-conv-sum.ts';
export { gatherTransposed } from './gather-transposed.ts';
export { lowerBatchNorm } from '../lower-batchnorm.ts';
