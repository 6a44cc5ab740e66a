/**
 * Rearrangements of constants, made once when a model is loaded; a plan names them (`Pack` in src/core/plan.ts).
 * Each is a pure function of the tensor and of numbers.
 */
import { numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { packTaps } from './webgpu/resize.ts';

export type Packer = (t: Tensor, args: readonly (number | string)[]) => Uint8Array<ArrayBuffer>;
const bytes = (a: Float32Array<ArrayBuffer> | Int16Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
const up = (n: number, to: number): number => Math.ceil(n / to) * to;
const ints = (args: readonly (number | string)[]): number[] => args as number[];

/**
 * "gemm.panels" [nr, K, N, row, col, matrices, matrix]: float32 panels of `nr` columns, [panel][k][column], the last panel as wide as its columns
 * rounded up to 4. Element (k, n) of matrix i is at i·matrix + k·row + n·col of the source.
 */
const gemmPanels: Packer = (t, args) => {
  const [nr, K, N, row, col, matrices, matrix] = ints(args) as [number, number, number, number, number, number, number];
  const from = numbers(t);
  const out = new Float32Array(matrices * K * (Math.floor(N / nr) * nr + up(N % nr, 4)));
  let to = 0;
  for (let i = 0; i < matrices; i++) for (let n0 = 0; n0 < N; n0 += nr) {
    const cols = Math.min(nr, N - n0);
    const width = up(cols, 4);
    for (let k = 0; k < K; k++, to += width) for (let n = 0, at = i * matrix + k * row + n0 * col; n < cols; n++, at += col) out[to + n] = from[at]!;
  }
  return bytes(out);
};

/** "conv.tiles" [mr, groups, filters, K]: float32 weights [groups, filters, K] as [group][tile of mr filters][k][filter]; the last tile of a group is as tall as it is. */
const convTiles: Packer = (t, args) => {
  const [mr, groups, filters, K] = ints(args) as [number, number, number, number];
  const from = numbers(t);
  const out = new Float32Array(groups * filters * K);
  let to = 0;
  for (let g = 0; g < groups; g++) for (let m0 = 0; m0 < filters; m0 += mr) {
    const rows = Math.min(mr, filters - m0);
    for (let i = 0; i < rows; i++) for (let at = (g * filters + m0 + i) * K, end = at + K, o = to + i; at < end; at++, o += rows) out[o] = from[at]!;
    to += rows * K;
  }
  return bytes(out);
};

/** "gemm.pairs" [K, N, row, col, matrices]: 8-bit values as int16 in panels of 8 columns (zeros beyond N), [panel][k / 2][column][k & 1]; an odd K is filled up with 0. */
const gemmPairs: Packer = (t, args) => {
  const [K, N, row, col, matrices] = ints(args) as [number, number, number, number, number];
  const from = numbers(t), half = Math.ceil(K / 2), matrix = half * up(N, 8) * 2, out = new Int16Array(matrices * matrix);
  for (let i = 0; i < matrices; i++) for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) out[i * matrix + (((n >> 3) * half + (k >> 1)) * 8 + (n & 7)) * 2 + (k & 1)] = from[i * K * N + k * row + n * col]!;
  return bytes(out);
};
/**
 * "nbits.panels" [bits, block, K, N]: weights of MatMulNBits, [N][block][k], as panels of 8 columns (zeros beyond N): 16 bytes hold the columns
 * of neighbouring k's. Bits i·bits … of byte b are column b & 7 at k = 2·i + (b >> 3) of the 16 / bits k's of those 16 bytes.
 */
const nbitsPanels: Packer = (t, args) => {
  const [bits, block, K, N] = ints(args) as [number, number, number, number];
  const from = t.data as Uint8Array, per = 8 / bits, mask = 2 ** bits - 1, row = (Math.ceil(K / block) * block) / per, group = 2 * per;
  const out = new Uint8Array(up(N, 8) * K * bits / 8);
  for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) {
    const q = (from[n * row + Math.floor(k / per)]! >> ((k % per) * bits)) & mask, inGroup = k % group;
    const at = ((n >> 3) * (K / group) + Math.floor(k / group)) * 16 + (inGroup & 1) * 8 + (n & 7);
    out[at] = out[at]! | (q << ((inGroup >> 1) * bits));
  }
  return out;
};
/** "nbits.scales" [blocks, N]: [N][blocks] as float32 [panel of 8 columns][block][column]. */
const nbitsScales: Packer = (t, args) => {
  const [blocks, N] = ints(args) as [number, number];
  const from = numbers(t), out = new Float32Array(up(N, 8) * blocks);
  for (let n = 0; n < N; n++) for (let b = 0; b < blocks; b++) out[((n >> 3) * blocks + b) * 8 + (n & 7)] = from[n * blocks + b]!;
  return bytes(out);
};
/** "nbits.zeros" [bits, blocks, N]: packed zero points as bytes [panel of 8 columns][block][column]. */
const nbitsZeros: Packer = (t, args) => {
  const [bits, blocks, N] = ints(args) as [number, number, number];
  const from = t.data as Uint8Array, per = 8 / bits, row = Math.ceil(blocks / per), out = new Uint8Array(up(N, 8) * blocks);
  for (let n = 0; n < N; n++) for (let b = 0; b < blocks; b++) out[((n >> 3) * blocks + b) * 8 + (n & 7)] = (from[n * row + Math.floor(b / per)]! >> ((b % per) * bits)) & (2 ** bits - 1);
  return out;
};

/**
 * "matrix.rows" [count, rows, cols, row, col]: `count` matrices, one after the other, whose element (i, j) is at i·row + j·col, as rows of `cols`
 * rounded up to 4, zeros behind. Elements keep their type.
 */
const matrixRows: Packer = (t, args) => {
  const [count, rows, cols, row, col] = ints(args) as [number, number, number, number, number];
  const from = t.data as Float32Array<ArrayBuffer>, wide = up(cols, 4);
  const out = new (from.constructor as Float32ArrayConstructor)(count * rows * wide);
  for (let m = 0; m < count; m++) for (let i = 0; i < rows; i++) {
    for (let j = 0, at = m * rows * cols + i * row, to = (m * rows + i) * wide; j < cols; j++, at += col) out[to + j] = from[at]!;
  }
  return bytes(out);
};

/**
 * "conv.quads" [groups, filters, channels, taps, transposed]: weights [groups, filters, channels, taps], or [groups, channels, filters, taps] if
 * transposed, as [group][quad of filters][channel][tap][filter], zeros for filters that a last quad lacks. Elements keep their type.
 */
const convQuads: Packer = (t, args) => {
  const [groups, filters, channels, taps, transposed] = ints(args) as [number, number, number, number, number];
  const from = t.data as Float32Array<ArrayBuffer>, quads = Math.ceil(filters / 4);
  const out = new (from.constructor as Float32ArrayConstructor)(groups * quads * channels * taps * 4);
  for (let g = 0; g < groups; g++) for (let f = 0; f < filters; f++) for (let c = 0; c < channels; c++) {
    const at = (transposed ? (g * channels + c) * filters + f : (g * filters + f) * channels + c) * taps;
    const to = ((g * quads + (f >> 2)) * channels + c) * taps * 4 + (f & 3);
    for (let k = 0; k < taps; k++) out[to + k * 4] = from[at + k]!;
  }
  return bytes(out);
};

/** Every packer by its name. */
export const packers: ReadonlyMap<string, Packer> = new Map([
  ['resize.taps', (_, args) => packTaps(args[0] as string)],
  ['gemm.panels', gemmPanels], ['conv.tiles', convTiles],
  ['matrix.rows', matrixRows], ['conv.quads', convQuads], ['gemm.pairs', gemmPairs], ['nbits.panels', nbitsPanels], ['nbits.scales', nbitsScales], ['nbits.zeros', nbitsZeros],
]);
