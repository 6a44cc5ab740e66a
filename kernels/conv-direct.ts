/** The arithmetic of reference convolutions, on flat arrays in double precision. */
import { sizeOf } from '../src/core/tensor.ts';
import { tapTable, type Window } from './conv-window.ts';
import { product, type Reals } from './matmul-product.ts';

/** Entries of the unfolded image that are worked on at a time. */
const CHUNK = 1 << 21;

/** x [n, c, ...] and weights [m, c / group, ...] to [n, m, ...]; padding counts as 0. */
export function convolve(x: Reals, xShape: readonly number[], weights: Reals, m: number, w: Window): Float64Array {
  const [n, c] = [xShape[0]!, xShape[1]!];
  const spatial = xShape.slice(2);
  const image = sizeOf(spatial);
  const out = sizeOf(w.output);
  const taps = sizeOf(w.kernel);
  const channels = c / w.group;
  const filters = m / w.group;
  const depth = channels * taps;
  const y = new Float64Array(n * m * out);
  if (taps === 1 && out === image && w.strides.every((s) => s === 1) && w.pads.every((p) => p === 0)) {
    for (let b = 0; b < n; b++)
      for (let g = 0; g < w.group; g++) {
        product(
          { data: y, at: (b * m + g * filters) * out, row: out, col: 1 },
          { data: weights, at: g * filters * depth, row: depth, col: 1 },
          { data: x, at: (b * c + g * channels) * image, row: image, col: 1 },
          filters,
          out,
          depth,
        );
      }
    return y;
  }
  const step = Math.max(1, Math.min(out, Math.floor(CHUNK / depth)));
  const columns = x instanceof Float32Array ? new Float32Array(depth * step) : new Float64Array(depth * step);
  for (let from = 0; from < out; from += step) {
    const count = Math.min(step, out - from);
    const table = tapTable(w, spatial, w.output, from, from + count);
    for (let b = 0; b < n; b++)
      for (let g = 0; g < w.group; g++) {
        for (let ch = 0; ch < channels; ch++)
          unfold(x, (b * c + g * channels + ch) * image, table, columns, ch * taps * count);
        product(
          { data: y, at: (b * m + g * filters) * out + from, row: out, col: 1 },
          { data: weights, at: g * filters * depth, row: depth, col: 1 },
          { data: columns, at: 0, row: count, col: 1 },
          filters,
          count,
          depth,
        );
      }
  }
  return y;
}
function unfold(x: Reals, at: number, table: Int32Array, to: Reals, start: number): void {
  for (let i = 0; i < table.length; i++) {
    const from = table[i]!;
    to[start + i] = from < 0 ? 0 : x[at + from]!;
  }
}

/** y[at + table[i]] += columns[start + i] wherever the table points into the image. */
export function fold(columns: ArrayLike<number>, start: number, table: Int32Array, y: Float64Array, at: number): void {
  for (let i = 0; i < table.length; i++) {
    const to = table[i]!;
    if (to >= 0) y[at + to]! += columns[start + i]!;
  }
}

/**
 * x [n, c, ...] and weights [c, m / group, ...] to [n, m, ...w.output]: every input spreads its window over the output.
 */
export function convolveTransposed(
  x: Reals,
  xShape: readonly number[],
  weights: Reals,
  m: number,
  w: Window,
): Float64Array {
  const [n, c] = [xShape[0]!, xShape[1]!];
  const spatial = xShape.slice(2);
  const image = sizeOf(spatial);
  const out = sizeOf(w.output);
  const taps = sizeOf(w.kernel);
  const channels = c / w.group;
  const filters = m / w.group;
  const depth = filters * taps;
  const y = new Float64Array(n * m * out);
  const step = Math.max(1, Math.min(image, Math.floor(CHUNK / depth)));
  const columns = new Float64Array(depth * step);
  for (let from = 0; from < image; from += step) {
    const count = Math.min(step, image - from);
    const table = tapTable(w, w.output, spatial, from, from + count);
    for (let b = 0; b < n; b++)
      for (let g = 0; g < w.group; g++) {
        columns.fill(0);
        product(
          { data: columns, at: 0, row: count, col: 1 },
          { data: weights, at: g * channels * depth, row: 1, col: depth },
          { data: x, at: (b * c + g * channels) * image + from, row: image, col: 1 },
          depth,
          count,
          channels,
        );
        for (let f = 0; f < filters; f++) fold(columns, f * taps * count, table, y, (b * m + g * filters + f) * out);
      }
  }
  return y;
}

/** y [n, m, size] += bias[m]. */
export function addBias(y: Float64Array, bias: ArrayLike<number>, size: number): Float64Array {
  for (let i = 0, at = 0; at < y.length; i = (i + 1) % bias.length) {
    const b = bias[i]!;
    for (const end = at + size; at < end; at++) y[at]! += b;
  }
  return y;
}

/** [n, c, ...] to [n, ..., c]. */
export function toChannelsLast(x: ArrayLike<number>, n: number, c: number, size: number): Float64Array {
  const y = new Float64Array(n * c * size);
  for (let b = 0; b < n; b++)
    for (let i = 0; i < c; i++) for (let p = 0; p < size; p++) y[(b * size + p) * c + i] = x[(b * c + i) * size + p]!;
  return y;
}
/** [n, ..., c] to [n, c, ...]. */
export const toChannelsFirst = (x: ArrayLike<number>, n: number, c: number, size: number): Float64Array =>
  toChannelsLast(x, n, size, c);
