/** Weights of a few bits that are widened as they are used. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, INDEX, int, type Op, required } from './define.ts';
import { product, reals } from './matmul-product.ts';
import { matMulBnb4 } from './quantize-bnb4.ts';
import { axisOf, eachOffset } from './shapes.ts';

type Shape = readonly number[];
const REAL: readonly DType[] = ['float32', 'float16', 'bfloat16'];
/** Rows of weights that are widened at a time. */
const ROWS = 64;

export interface NBitsAttrs {
  readonly K: number;
  readonly N: number;
  readonly bits: number;
  readonly block_size: number;
  readonly weight_prepacked?: number;
}
/** Blocks along K, bytes of one block, bytes of one row of packed zero points. */
export const nbitsLayout = (a: NBitsAttrs): { blocks: number; blob: number; zeroBytes: number } => {
  const blocks = Math.ceil(a.K / a.block_size);
  return { blocks, blob: (a.block_size * a.bits) / 8, zeroBytes: Math.ceil((blocks * a.bits) / 8) };
};

function checkNBits(a: NBitsAttrs): void {
  if (![2, 4, 8].includes(a.bits)) fail('attribute_invalid', `bits ${a.bits} must be 2, 4 or 8`);
  if (a.block_size < 16 || (a.block_size & (a.block_size - 1)) !== 0)
    fail('attribute_invalid', `block_size ${a.block_size} must be a power of two of at least 16`);
  if (a.K < 1 || a.N < 1) fail('attribute_invalid', `K ${a.K} and N ${a.N} must be positive`);
  if (a.weight_prepacked)
    fail(
      'attribute_invalid',
      `weight_prepacked ${a.weight_prepacked}: weights arranged for one vendor's kernels cannot be read`,
    );
}

/** Rows [from, to) of the weights as real numbers, [to - from, K]. */
function widen(
  b: ArrayLike<number>,
  scales: ArrayLike<number>,
  zeros: ArrayLike<number> | null,
  packed: boolean,
  groups: ArrayLike<number> | null,
  a: NBitsAttrs,
  from: number,
  to: number,
): Float64Array {
  const { blocks, blob, zeroBytes } = nbitsLayout(a);
  const out = new Float64Array((to - from) * a.K);
  const mask = (1 << a.bits) - 1;
  const per = 8 / a.bits;
  for (let n = from; n < to; n++)
    for (let k = 0; k < a.K; k++) {
      const block = groups === null ? Math.floor(k / a.block_size) : groups[k]!;
      const stored = Math.floor(k / a.block_size);
      const i = k - stored * a.block_size;
      const value = (b[(n * blocks + stored) * blob + Math.floor(i / per)]! >> ((i % per) * a.bits)) & mask;
      const zero =
        zeros === null
          ? 1 << (a.bits - 1)
          : packed
            ? (zeros[n * zeroBytes + Math.floor(block / per)]! >> ((block % per) * a.bits)) & mask
            : zeros[n * blocks + block]!;
      out[(n - from) * a.K + k] = (value - zero) * scales[n * blocks + block]!;
    }
  return out;
}

const matMulNBits = defineOp({
  op: 'com.microsoft.MatMulNBits',
  since: [1],
  inputs: ['A: T1', 'B: T2', 'scales: T1', 'zero_points: T3?', 'g_idx: int32?', 'bias: T1?'],
  outputs: ['Y: T1'],
  types: { T1: REAL, T2: ['uint8'], T3: ['uint8', ...REAL] },
  attrs: {
    K: required(int()),
    N: required(int()),
    accuracy_level: int(0),
    bits: int(4),
    block_size: required(int()),
    weight_prepacked: int(0),
  },
  infer: (call) => {
    const a = call.attrs;
    checkNBits(a);
    const { blocks, blob, zeroBytes } = nbitsLayout(a);
    const x = call.fact(0);
    const count = (i: number, what: string, need: Shape): void => {
      const got = call.inputs[i];
      if (got && sizeOf(got.shape) !== sizeOf(need))
        fail('shape_mismatch', `${what} has shape [${got.shape}]; it must be [${need}]`);
    };
    if (x.shape.length < 1 || x.shape[x.shape.length - 1] !== a.K)
      fail('shape_mismatch', `A has shape [${x.shape}]; its last dim must be K = ${a.K}`);
    count(1, 'B', [a.N, blocks, blob]);
    count(2, 'scales', [a.N, blocks]);
    count(3, 'zero_points', call.inputs[3]?.dtype === 'uint8' ? [a.N, zeroBytes] : [a.N, blocks]);
    if (call.inputs[4] && sizeOf(call.inputs[4].shape) < a.K)
      fail('shape_mismatch', `g_idx has shape [${call.inputs[4].shape}]; it must have an entry for each of ${a.K}`);
    count(5, 'the bias', [a.N]);
    return [{ dtype: x.dtype, shape: [...x.shape.slice(0, -1), a.N] }];
  },
  reference: (call) => {
    const { attrs: a } = call;
    const xt = call.tensor(0);
    const zt = call.optional(3);
    const gt = call.optional(4);
    const bias = call.optional(5);
    const x = reals(xt);
    const rows = x.length / a.K;
    const y = new Float64Array(rows * a.N);
    const b = numbers(call.tensor(1));
    const scales = numbers(call.tensor(2));
    const zeros = zt === null ? null : numbers(zt);
    const groups = gt === null ? null : numbers(gt);
    const { blocks } = nbitsLayout(a);
    if (groups !== null)
      for (let k = 0; k < a.K; k++)
        if (groups[k]! < 0 || groups[k]! >= blocks)
          fail('value_invalid', `g_idx names group ${groups[k]} of ${blocks}`);
    for (let from = 0; from < a.N; from += ROWS) {
      const to = Math.min(a.N, from + ROWS);
      const w = widen(b, scales, zeros, zt?.dtype === 'uint8', groups, a, from, to);
      product(
        { data: y, at: from, row: a.N, col: 1 },
        { data: x, at: 0, row: a.K, col: 1 },
        { data: w, at: 0, row: 1, col: a.K },
        rows,
        to - from,
        a.K,
      );
    }
    if (bias !== null) for (let i = 0, v = numbers(bias); i < y.length; i++) y[i]! += v[i % a.N]!;
    return [fromNumbers(xt.dtype, [...xt.shape.slice(0, -1), a.N], y)];
  },
});

// ── GatherBlockQuantized ────────────────────────────────────────────────────────────────────────────────────────────
interface GatherAttrs {
  readonly bits: number;
  readonly block_size: number;
  readonly gather_axis: number;
  readonly quantize_axis: number;
}
const isFloatType = (d: DType): boolean => d.startsWith('float');

/** Shapes with bytes unpacked, and the axes. @throws attribute_invalid, shape_mismatch */
function gatherShape(
  data: { readonly dtype: DType; readonly shape: Shape },
  indices: Shape,
  scales: Shape,
  zero: { readonly dtype: DType; readonly shape: Shape } | null,
  a: GatherAttrs,
): { shape: Shape; out: Shape; gather: number; quantize: number; block: number } {
  const packed = data.dtype === 'uint8';
  const symmetric = isFloatType(data.dtype);
  const rank = data.shape.length;
  if (packed && ![2, 4, 8].includes(a.bits)) fail('attribute_invalid', `bits ${a.bits} must be 2, 4 or 8`);
  if (rank < 1) fail('shape_mismatch', 'data must be of rank 1 or more');
  const shape = data.shape.map((d, i) => (packed && i === rank - 1 ? (d * 8) / a.bits : d));
  const gather = axisOf(a.gather_axis, rank, 'gather_axis');
  const quantize = axisOf(a.quantize_axis, rank, 'quantize_axis');
  if (packed && gather !== 0) fail('attribute_invalid', `gather_axis ${a.gather_axis} must be 0 for uint8 data`);
  const block = a.block_size === 0 && symmetric ? Math.max(1, shape[quantize]!) : a.block_size;
  if (block < 1 || (!symmetric && (block < 16 || (block & (block - 1)) !== 0)))
    fail('attribute_invalid', `block_size ${a.block_size} must be a power of two of at least 16`);
  const need = shape.map((d, i) => (i === quantize ? Math.ceil(d / block) : d));
  if (
    scales.length !== rank ||
    need.some((d, i) => scales[i] !== d && !(symmetric && i !== quantize && scales[i] === 1))
  )
    fail('shape_mismatch', `scales have shape [${scales}]; they must be [${need}]`);
  if (zero !== null) {
    if (symmetric) fail('attribute_invalid', `${data.dtype} data takes no zero points`);
    const expected = need.map((d, i) => (packed && i === rank - 1 ? Math.ceil((d * a.bits) / 8) : d));
    if (String(zero.shape) !== String(expected))
      fail('shape_mismatch', `zero_points have shape [${zero.shape}]; they must be [${expected}]`);
  }
  return { shape, out: [...shape.slice(0, gather), ...indices, ...shape.slice(gather + 1)], gather, quantize, block };
}

/** Reads element i of a tensor, whose rows of `last` elements are packed by `bits` if it is uint8. */
function elements(t: Tensor, bits: number, last: number): (i: number) => number {
  if (t.dtype !== 'uint8' || bits === 8) {
    const v = numbers(t);
    return (i) => v[i]!;
  }
  const bytes = t.data as Uint8Array;
  const per = 8 / bits;
  const mask = (1 << bits) - 1;
  const row = Math.ceil(last / per);
  return (i) => {
    const col = i % last;
    return (bytes[((i - col) / last) * row + Math.floor(col / per)]! >> ((col % per) * bits)) & mask;
  };
}

const gatherBlockQuantized = defineOp({
  op: 'com.microsoft.GatherBlockQuantized',
  since: [1],
  inputs: ['data: T1', 'indices: Tind', 'scales: T2', 'zero_points: T1?'],
  outputs: ['output: T2'],
  types: {
    T1: ['int4', 'uint4', 'uint8', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz', 'float4e2m1'],
    T2: REAL,
    Tind: INDEX,
  },
  attrs: { bits: int(4), block_size: int(128), gather_axis: int(0), quantize_axis: int(1) },
  infer: (call) => [
    {
      dtype: call.fact(2).dtype,
      shape: gatherShape(call.fact(0), call.fact(1).shape, call.fact(2).shape, call.inputs[3] ?? null, call.attrs).out,
    },
  ],
  reference: (call) => {
    const data = call.tensor(0);
    const st = call.tensor(2);
    const zt = call.optional(3);
    const bits = call.attrs.bits;
    const { shape, out, gather, quantize, block } = gatherShape(data, call.tensor(1).shape, st.shape, zt, call.attrs);
    const indices = integers(call.tensor(1));
    const axis = shape[gather]!;
    const inner = sizeOf(shape.slice(gather + 1));
    const outer = sizeOf(shape.slice(0, gather));
    const value = elements(data, bits, shape[shape.length - 1]!);
    const zero = zt === null ? null : elements(zt, bits, st.shape[st.shape.length - 1]!);
    const scales = numbers(st);
    const fallback = data.dtype === 'uint8' ? 1 << (bits - 1) : 0;
    const strides = stridesOf(shape);
    const scaleStrides = stridesOf(st.shape).map((s, i) => (st.shape[i] === 1 ? 0 : s));
    const y = new Float64Array(sizeOf(out));
    const slice = shape.slice(gather + 1);
    for (let o = 0; o < outer; o++)
      indices.forEach((given, j) => {
        const index = given < 0 ? given + axis : given;
        if (index < 0 || index >= axis) return; // as documented, such slices are zeros
        const start = (o * axis + index) * inner;
        const to = (o * indices.length + j) * inner;
        eachOffset(slice, strides.slice(gather + 1), (i, at) => {
          let scale = 0;
          let rest = start + at;
          for (let d = 0; d < shape.length; d++) {
            const c = Math.floor(rest / strides[d]!);
            rest -= c * strides[d]!;
            scale += (d === quantize ? Math.floor(c / block) : c) * scaleStrides[d]!;
          }
          y[to + i] = (value(start + at) - (zero === null ? fallback : zero(scale))) * scales[scale]!;
        });
      });
    return [fromNumbers(st.dtype, out, y)];
  },
});

/** ContribOperators.md of onnxruntime. */
export const quantizedBits: readonly Op[] = [matMulNBits, matMulBnb4, gatherBlockQuantized];
