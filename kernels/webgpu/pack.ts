/** How constants are rearranged for WGSL kernels. */
import { numbers } from '../../src/core/numbers.ts';
import { bytes, cells, ints, type Packer, type Packers, resizeTaps, up } from '../pack.ts';

/**
 * "matrix.rows" [count, rows, cols, row, col]: `count` matrices, one after the other, whose element (i, j) is at i·row
 * + j·col, as rows of `cols` rounded up to 4, zeros behind. Elements keep their type.
 */
const matrixRows: Packer = (t, args, into) => {
  const [count, rows, cols, row, col] = ints(args) as [number, number, number, number, number];
  const from = t.data as Float32Array<ArrayBuffer>;
  const wide = up(cols, 4);
  const out = cells(from.constructor as Float32ArrayConstructor, count * rows * wide, into, wide === cols);
  for (let m = 0; m < count; m++)
    for (let i = 0; i < rows; i++) {
      for (let j = 0, at = m * rows * cols + i * row, to = (m * rows + i) * wide; j < cols; j++, at += col)
        out[to + j] = from[at]!;
    }
  return bytes(out);
};

/**
 * "conv.quads" [groups, filters, channels, taps, transposed]: weights [groups, filters, channels, taps], or [groups,
 * channels, filters, taps] if transposed, as [group][quad of filters][channel][tap][filter], zeros for filters that a
 * last quad lacks. Elements keep their type.
 */
const convQuads: Packer = (t, args, into) => {
  const [groups, filters, channels, taps, transposed] = ints(args) as [number, number, number, number, number];
  const from = t.data as Float32Array<ArrayBuffer>;
  const quads = Math.ceil(filters / 4);
  const out = cells(
    from.constructor as Float32ArrayConstructor,
    groups * quads * channels * taps * 4,
    into,
    filters % 4 === 0,
  );
  for (let g = 0; g < groups; g++)
    for (let f = 0; f < filters; f++)
      for (let c = 0; c < channels; c++) {
        const at = (transposed ? (g * channels + c) * filters + f : (g * filters + f) * channels + c) * taps;
        const to = ((g * quads + (f >> 2)) * channels + c) * taps * 4 + (f & 3);
        for (let k = 0; k < taps; k++) out[to + k * 4] = from[at + k]!;
      }
  return bytes(out);
};

/**
 * "winograd.filters" [filters, channels]: G g G^T of filters of 3 x 3 as float32, [16][filter][channel], channels up to
 * a multiple of 4 (`kernels/webgpu/winograd.ts`).
 */
const winogradFilters: Packer = (t, args, into) => {
  const [filters, channels] = ints(args) as [number, number];
  const from = numbers(t);
  const deep = up(channels, 4);
  const out = cells(Float32Array, 16 * filters * deep, into);
  const place = filters * deep;
  const columns = new Float64Array(12);
  // G [a b c] = [a, (a + b + c) / 2, (a - b + c) / 2, c]
  const spread = (a: number, b: number, c: number, to: { [i: number]: number }, at: number, step: number): void => {
    to[at] = a;
    to[at + step] = (a + b + c) / 2;
    to[at + 2 * step] = (a - b + c) / 2;
    to[at + 3 * step] = c;
  };
  for (let f = 0; f < filters; f++)
    for (let ch = 0; ch < channels; ch++) {
      const g = (f * channels + ch) * 9;
      const to = f * deep + ch;
      for (let c = 0; c < 3; c++) spread(from[g + c]!, from[g + 3 + c]!, from[g + 6 + c]!, columns, c, 3);
      for (let r = 0; r < 4; r++)
        spread(columns[r * 3]!, columns[r * 3 + 1]!, columns[r * 3 + 2]!, out, r * 4 * place + to, place);
    }
  return bytes(out);
};
/**
 * "bytes.quads" [K, N, row, col, matrices, flip]: 8-bit values, `flip` changed by XOR, [k / 4][column][k & 3], columns
 * up to a multiple of 4; 4 divides K.
 */
const bytesQuads: Packer = (t, args, into) => {
  const [K, N, row, col, matrices, flip] = ints(args) as [number, number, number, number, number, number];
  const from = numbers(t);
  const wide = up(N, 4) * 4;
  const out = cells(Uint8Array, (matrices * K * wide) / 4, into, N % 4 === 0);
  for (let i = 0; i < matrices; i++)
    for (let k = 0; k < K; k++)
      for (let n = 0; n < N; n++)
        out[(i * (K >> 2) + (k >> 2)) * wide + n * 4 + (k & 3)] = from[i * K * N + k * row + n * col]! ^ flip;
  return bytes(out);
};
export const packers: Packers = new Map([
  ['matrix.rows', matrixRows],
  ['conv.quads', convQuads],
  ['bytes.quads', bytesQuads],
  ['winograd.filters', winogradFilters],
  ['resize.taps', resizeTaps],
]);
