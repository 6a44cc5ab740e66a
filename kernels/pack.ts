/**
 * Rearrangements of constants, made once when a model is loaded; a plan names them (`Pack` in src/core/plan.ts).
 * Each is a pure function of the tensor and of numbers.
 */
import { fail } from '../src/core/errors.ts';
import { numbers } from '../src/core/numbers.ts';
import type { Pack } from '../src/core/plan.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { packTaps } from './webgpu/resize-pack.ts';

/**
 * Gives the bytes; they are written into `into` if it is given (aligned, exactly as long as the pack, of any content),
 * else into new memory.
 */
export type Packer = (
  t: Tensor,
  args: readonly (number | string)[],
  into?: Uint8Array<ArrayBuffer>,
) => Uint8Array<ArrayBuffer>;
type Cells = Float32Array<ArrayBuffer> | Int16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;
const bytes = (a: Cells): Uint8Array<ArrayBuffer> => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
/** `n` elements to be written. `whole`: all of them will be; else they are zero. */
function cells<T extends Cells>(
  Type: { new (n: number): T; new (b: ArrayBuffer, at: number, n: number): T },
  n: number,
  into: Uint8Array<ArrayBuffer> | undefined,
  whole = false,
): T {
  if (into === undefined) return new Type(n);
  const a = new Type(into.buffer, into.byteOffset, n);
  if (!whole) a.fill(0);
  return a;
}
/** Elements along k that are rearranged at once: what is read and written in turns stays in the first cache. */
const BLOCK = 256;
const up = (n: number, to: number): number => Math.ceil(n / to) * to;
const ints = (args: readonly (number | string)[]): number[] => args as number[];

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
  out: Cells,
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

/** Every packer by its name. */
const packers: ReadonlyMap<string, Packer> = new Map([
  [
    'resize.taps',
    (_, args, into) => {
      const taps = packTaps(args[0] as string);
      into?.set(taps);
      return into ?? taps;
    },
  ],
  ['gemm.panels', gemmPanels],
  ['conv.tiles', convTiles],
  ['matrix.rows', matrixRows],
  ['conv.quads', convQuads],
  ['bytes.quads', bytesQuads],
  ['winograd.filters', winogradFilters],
  ['gemm.pairs', gemmPairs],
  ['conv.pairs', convPairs],
  ['conv.floats', convFloats],
  ['nbits.panels', nbitsPanels],
  ['nbits.scales', nbitsScales],
  ['nbits.zeros', nbitsZeros],
]);

/**
 * What a plan's `pack` makes of a constant: in `into` if given, which is `pack.bytes` long. @throws internal if there
 * is no such packer, or it made something else, or elsewhere
 */
export function packed(
  t: Tensor,
  { name, args, bytes: size }: Pack,
  into?: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const made = (packers.get(name) ?? fail('internal', `no packer ${name}`))(t, args, into);
  if (made.byteLength !== size)
    fail('internal', `packer ${name} made ${made.byteLength} bytes of ${t.dtype}[${t.shape}], announced ${size}`);
  if (into && (made.buffer !== into.buffer || made.byteOffset !== into.byteOffset))
    fail('internal', `packer ${name} wrote ${t.dtype}[${t.shape}] to memory of its own`);
  return made;
}
