/** Passes around the operators of `kernels/sets/rare.ts`. */
export { drawOnDevice } from './draw-on-device.ts';
export { expandFeatures } from './expand-features.ts';
