/** Pictures by the CPU: what `image.ts` loads when it is first needed. */
import { fail } from '../core/errors.ts';
import { halfBits, halfValue } from '../core/floats.ts';
import { type Tensor, zeros } from '../core/tensor.ts';
import {
  drawingOf,
  type ImageSource,
  isPixels,
  type PixelOptions,
  type Pixels,
  type PixelType,
  type Reading,
  shapeOf,
  sizeOfImage,
} from './pixels.ts';

export { drawingOf, readingOf, sizeOfImage } from './pixels.ts';

/** Draws on a canvas, which takes the tensor's size. @throws option_invalid, input_shape, input_dtype */
export function drawPixels(tensor: Tensor, canvas: HTMLCanvasElement | OffscreenCanvas, options: PixelOptions): void {
  const { width, height, planar, dtype, weights, bias } = drawingOf(tensor, options);
  const channels = weights.length;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context =
    (canvas as OffscreenCanvas).getContext('2d') ??
    fail('option_invalid', 'the canvas has a context of another kind; a tensor of the host needs one for 2d');
  const { data } = tensor as Tensor<PixelType>;
  const value = dtype === 'float16' ? (i: number): number => halfValue(data[i]!) : (i: number): number => data[i]!;
  const pixels = new Uint8ClampedArray(4 * width * height);
  const area = width * height;
  for (let p = 0; p < area; p++)
    for (let k = 0; k < 4; k++) {
      let v = bias[k]!;
      for (let c = 0; c < channels; c++) v += value(planar ? c * area + p : p * channels + c) * weights[c]![k]!;
      pixels[4 * p + k] = 255 * v;
    }
  context.putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** The arithmetic of `wgsl/image_in.wgsl`. */
export function tensorFromPixels(source: ImageSource, r: Reading): Tensor<PixelType> {
  const pixels = pixelsOf(source);
  const t = zeros(r.dtype, shapeOf(r));
  const { data } = pixels;
  const channels = r.weights.length;
  const area = r.width * r.height;
  const clamp = (v: number, k: 0 | 1): number => Math.min(r.high[k], Math.max(r.low[k], v));
  const store =
    r.dtype === 'float32'
      ? (v: number): number => v
      : r.dtype === 'float16'
        ? halfBits
        : (v: number): number => Math.min(255, Math.max(0, Math.floor(v + 0.5)));
  const rgba = [0, 0, 0, 1];
  for (let oy = 0; oy < r.height; oy++)
    for (let ox = 0; ox < r.width; ox++) {
      rgba.fill(0, 0, 3);
      rgba[3] = 1;
      if (ox >= r.place[0] && oy >= r.place[1] && ox < r.place[2] && oy < r.place[3]) {
        const sx = r.origin[0] + (ox - r.place[0] + 0.5) * r.stride[0];
        const sy = r.origin[1] + (oy - r.place[1] + 0.5) * r.stride[1];
        const [fx, fy] = r.nearest ? [Math.floor(sx), Math.floor(sy)] : [Math.floor(sx - 0.5), Math.floor(sy - 0.5)];
        const [tx, ty] = r.nearest ? [0, 0] : [sx - 0.5 - fx, sy - 0.5 - fy];
        const [x0, x1, y0, y1] = [
          clamp(fx, 0),
          clamp(fx + 1, 0),
          clamp(fy, 1) * pixels.width,
          clamp(fy + 1, 1) * pixels.width,
        ];
        for (let k = 0; k < 4; k++) {
          const top = data[4 * (y0 + x0) + k]! * (1 - tx) + data[4 * (y0 + x1) + k]! * tx;
          const bottom = data[4 * (y1 + x0) + k]! * (1 - tx) + data[4 * (y1 + x1) + k]! * tx;
          rgba[k] = (top * (1 - ty) + bottom * ty) / 255;
        }
      }
      const p = oy * r.width + ox;
      for (let c = 0; c < channels; c++) {
        const share = r.weights[c]!;
        t.data[r.planar ? c * area + p : p * channels + c] = store(
          rgba[0]! * share[0]! + rgba[1]! * share[1]! + rgba[2]! * share[2]! + rgba[3]! * share[3]! + r.bias[c]!,
        );
      }
    }
  return t;
}

/** The pixels of an image of the page, drawn on a canvas of its size. */
function pixelsOf(source: ImageSource): Pixels {
  if (isPixels(source)) return source;
  if (typeof OffscreenCanvas === 'undefined')
    fail('option_invalid', 'only a page has images; give pixels as { width, height, data }');
  const [width, height] = sizeOfImage(source);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })!;
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
