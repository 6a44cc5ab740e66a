/** Passes around the operators of `kernels/sets/uncommon.ts`. */
export { expandExperts } from './expand-experts.ts';
export { expandGroupNorm, expandMeanVariance } from './expand-norms.ts';
