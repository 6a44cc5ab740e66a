/** Passes that make the operators of `kernels/sets/norms.ts`. */
export { fuseNorm } from './fuse-norm.ts';
