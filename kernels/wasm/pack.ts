/** How constants are rearranged for WASM kernels. */
import { numbers } from '../../src/core/numbers.ts';
import { bytes, cells, ints, type Packer, type Packers, resizeTaps, up } from '../pack.ts';

/** Elements along k that are rearranged at once: what is read and written in turns stays in the first cache. */
const BLOCK = 256;
/**
 * "gemm.panels" [nr, K, N, row, col, matrices, matrix]: float32 panels of `nr` columns, [panel][k][column], the last
 * panel as wide as its columns rounded up to 4. Element (k, n) of matrix i is at i·matrix + k·row + n·col of the
 * source.
 */
const gemmPanels: Packer = (t, args, into) => {
  const [nr, K, N, row, col, matrices, matrix] = ints(args) as [number, number, number, number, number, number, number];
  const from = numbers(t);
  const per = K * (Math.floor(N / nr) * nr + up(N % nr, 4));
  const out = cells(Float32Array, matrices * per, into, (N % nr) % 4 === 0);
  for (let i = 0; i < matrices; i++)
    for (let k0 = 0; k0 < K; k0 += BLOCK)
      for (let n0 = 0; n0 < N; n0 += nr) {
        const cols = Math.min(nr, N - n0);
        const width = up(cols, 4);
        const ks = Math.min(BLOCK, K - k0);
        woven(from, i * matrix + k0 * row + n0 * col, row, col, out, i * per + n0 * K + k0 * width, width, ks, cols);
      }
  return bytes(out);
};
/**
 * Weaves `n` runs, `apart` elements apart, of `length` elements, every `step`th: element i of run j comes to `to` +
 * i·width + j. Four runs at once are read twice as fast as one.
 */
function woven(
  from: ArrayLike<number>,
  at: number,
  step: number,
  apart: number,
  out: Float32Array | Int16Array,
  to: number,
  width: number,
  length: number,
  n: number,
): void {
  let j = 0;
  for (; j + 4 <= n; j += 4) {
    let a = at + j * apart;
    let o = to + j;
    for (let i = 0; i < length; i++, a += step, o += width) {
      out[o] = from[a]!;
      out[o + 1] = from[a + apart]!;
      out[o + 2] = from[a + 2 * apart]!;
      out[o + 3] = from[a + 3 * apart]!;
    }
  }
  for (; j < n; j++)
    for (let i = 0, a = at + j * apart, o = to + j; i < length; i++, a += step, o += width) out[o] = from[a]!;
}

/**
 * "conv.tiles" [mr, groups, filters, K]: float32 weights [groups, filters, K] as [group][tile of mr
 * filters][k][filter]; the last tile of a group is as tall as it is.
 */
const convTiles: Packer = (t, args, into) => {
  const [mr, groups, filters, K] = ints(args) as [number, number, number, number];
  const from = numbers(t);
  const out = cells(Float32Array, groups * filters * K, into, true);
  for (let g = 0; g < groups; g++)
    for (let m0 = 0; m0 < filters; m0 += mr) {
      const rows = Math.min(mr, filters - m0);
      const first = (g * filters + m0) * K;
      for (let k0 = 0; k0 < K; k0 += BLOCK)
        woven(from, first + k0, 1, K, out, first + k0 * rows, rows, Math.min(BLOCK, K - k0), rows);
    }
  return bytes(out);
};

/**
 * "gemm.pairs" [K, N, row, col, matrices]: 8-bit values as int16 in panels of 8 columns (zeros beyond N), [panel][k /
 * 2][column][k & 1]; an odd K is filled up with 0.
 */
const gemmPairs: Packer = (t, args, into) => {
  const [K, N, row, col, matrices] = ints(args) as [number, number, number, number, number];
  const from = numbers(t);
  const half = Math.ceil(K / 2);
  const matrix = half * up(N, 8) * 2;
  const out = cells(Int16Array, matrices * matrix, into);
  for (let i = 0; i < matrices; i++)
    for (let n = 0; n < N; n++)
      for (let k = 0; k < K; k++)
        out[i * matrix + (((n >> 3) * half + (k >> 1)) * 8 + (n & 7)) * 2 + (k & 1)] =
          from[i * K * N + k * row + n * col]!;
  return bytes(out);
};
/**
 * "conv.pairs" [mr, groups, filters, channels, taps, zero point, or one of each filter …]: 8-bit weights [groups,
 * filters, channels, taps] less their zero points as int16, [group][tile of mr filters][pair of
 * channels][tap][filter][2]; a channel that a last pair lacks is 0.
 */
const convPairs: Packer = (t, args, into) => {
  const [mr, groups, filters, channels, taps, ...zeros] = ints(args) as [
    number,
    number,
    number,
    number,
    number,
    ...number[],
  ];
  const from = numbers(t);
  const pairs = Math.ceil(channels / 2);
  const out = cells(Int16Array, groups * filters * pairs * taps * 2, into, channels % 2 === 0);
  for (let g = 0; g < groups; g++)
    for (let f = 0; f < filters; f++) {
      const first = f - (f % mr);
      const rows = Math.min(mr, filters - first);
      const filter = g * filters + f;
      const zero = zeros[zeros.length > 1 ? filter : 0]!;
      const tile = ((g * filters + first) * pairs * taps + (f - first)) * 2;
      for (let c = 0; c < channels; c++)
        for (let k = 0; k < taps; k++)
          out[tile + ((c >> 1) * taps + k) * rows * 2 + (c & 1)] = from[(filter * channels + c) * taps + k]! - zero;
    }
  return bytes(out);
};
/** "conv.floats" [filters, run, zero point, or one of each filter …]: bytes less their zero points as float32. */
const convFloats: Packer = (t, args, into) => {
  const [filters, run, ...zeros] = ints(args) as [number, number, ...number[]];
  const from = numbers(t);
  const out = cells(Float32Array, filters * run, into, true);
  for (let i = 0; i < out.length; i++) out[i] = from[i]! - zeros[zeros.length > 1 ? Math.floor(i / run) : 0]!;
  return bytes(out);
};
/**
 * "nbits.panels" [bits, block, K, N]: weights of MatMulNBits, [N][block][k], as panels of 8 columns (zeros beyond N):
 * 16 bytes hold the columns of neighbouring k's. Bits i·bits … of byte b are column b & 7 at k = 2·i + (b >> 3) of the
 * 16 / bits k's of those 16 bytes.
 */
const nbitsPanels: Packer = (t, args, into) => {
  const [bits, block, K, N] = ints(args) as [number, number, number, number];
  const from = t.data as Uint8Array;
  const per = 8 / bits;
  const mask = 2 ** bits - 1;
  const row = (Math.ceil(K / block) * block) / per;
  const group = 2 * per;
  const out = cells(Uint8Array, (up(N, 8) * K * bits) / 8, into);
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) {
      const q = (from[n * row + Math.floor(k / per)]! >> ((k % per) * bits)) & mask;
      const inGroup = k % group;
      const at = ((n >> 3) * (K / group) + Math.floor(k / group)) * 16 + (inGroup & 1) * 8 + (n & 7);
      out[at] = out[at]! | (q << ((inGroup >> 1) * bits));
    }
  return out;
};
/** "nbits.scales" [blocks, N]: [N][blocks] as float32 [panel of 8 columns][block][column]. */
const nbitsScales: Packer = (t, args, into) => {
  const [blocks, N] = ints(args) as [number, number];
  const from = numbers(t);
  const out = cells(Float32Array, up(N, 8) * blocks, into);
  for (let n = 0; n < N; n++)
    for (let b = 0; b < blocks; b++) out[((n >> 3) * blocks + b) * 8 + (n & 7)] = from[n * blocks + b]!;
  return bytes(out);
};
/** "nbits.zeros" [bits, blocks, N]: packed zero points as bytes [panel of 8 columns][block][column]. */
const nbitsZeros: Packer = (t, args, into) => {
  const [bits, blocks, N] = ints(args) as [number, number, number];
  const from = t.data as Uint8Array;
  const per = 8 / bits;
  const row = Math.ceil(blocks / per);
  const out = cells(Uint8Array, up(N, 8) * blocks, into);
  for (let n = 0; n < N; n++)
    for (let b = 0; b < blocks; b++)
      out[((n >> 3) * blocks + b) * 8 + (n & 7)] =
        (from[n * row + Math.floor(b / per)]! >> ((b % per) * bits)) & (2 ** bits - 1);
  return out;
};

export const packers: Packers = new Map([
  ['gemm.panels', gemmPanels],
  ['conv.tiles', convTiles],
  ['gemm.pairs', gemmPairs],
  ['conv.pairs', convPairs],
  ['conv.floats', convFloats],
  ['nbits.panels', nbitsPanels],
  ['nbits.scales', nbitsScales],
  ['nbits.zeros', nbitsZeros],
  ['resize.taps', resizeTaps],
]);
