/** Passes around the operators of `kernels/sets/quantized.ts`. */
export { expandQuantized } from './expand-quantized.ts';
export { foldPad } from './fold-pad.ts';
export { fuseQuantized, moveQuantized } from './fuse-quantized.ts';
export { lowerQuantized } from '../lower-quantized.ts';
