/** Passes that make the operators of `kernels/sets/transformers.ts`. */
export { expandEmbedding } from './expand-embedding.ts';
export { fuseAttention } from './fuse-attention.ts';
export { fuseRotary } from './fuse-rotary.ts';
export { hoistMoves, mergeMoves } from './merge-moves.ts';
export { mergeProjections } from './merge-projections.ts';
export { packHeads } from './pack-heads.ts';
export { relativePositions } from './relative-positions.ts';
