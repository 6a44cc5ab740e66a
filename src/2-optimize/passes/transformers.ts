/** Passes that make the operators of `kernels/sets/transformers.ts`. */
export { fuseAttention } from './fuse-attention.ts';
export { fuseRotary } from './fuse-rotary.ts';
export { packHeads } from './pack-heads.ts';
