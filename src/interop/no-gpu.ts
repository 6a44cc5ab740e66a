/** In place of `image-gpu.ts` and `sampling-gpu.ts` in `sardonyx/wasm`. */
import { fail } from '../core/errors.ts';

const noGpu = (): never =>
  fail('option_invalid', "sardonyx/wasm knows no GPU; import from 'sardonyx' or 'sardonyx/webgpu'");
export const tensorOnGpu = noGpu;
export const drawOnGpu = noGpu;
export const sampleOnGpu = noGpu;
