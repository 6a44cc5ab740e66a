/** Passes around the operators of `kernels/sets/norms.ts`. */
export { expandSplitGelu } from './expand-gelu.ts';
export { fuseNorm } from './fuse-norm.ts';
export { fuseSoftmax } from './fuse-softmax.ts';
