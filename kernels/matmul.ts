import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { bigints, fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { gatedMatmul } from './matmul-gated.ts';
import { defineOp, FLOAT, float, int, type NormalizeCall, type Normalized, type Op, string } from './define.ts';
import { fusedMatmulShape, gemmShape, matmulShape, type MatMulShape, type Stack } from './matmul-shape.ts';
import { exactInDoubles, product, type Reals, reals } from './matmul-product.ts';
import { activation } from './rnn-activation.ts';
import { broadcastStrides, eachOffset } from './shapes.ts';

const T: readonly DType[] = [...FLOAT, 'int32', 'int64', 'uint32', 'uint64'];
const isInteger = (d: DType): boolean => d.startsWith('int') || d.startsWith('uint');

const batchStrides = (s: Stack, batch: readonly number[]): number[] => {
  const out = new Array<number>(batch.length).fill(0);
  s.batch.forEach((d, i) => {
    if (d !== 1) out[batch.length - s.batch.length + i] = s.strides[i]!;
  });
  return out;
};

/** The product in double precision: `alpha` times it, before rounding. */
const multiply = (s: MatMulShape, x: Tensor, y: Tensor, alpha = 1): Float64Array =>
  productOf(s, reals(x), reals(y), alpha);

/** The same of plain arrays. */
export function productOf(s: MatMulShape, a: Reals, b: Reals, alpha = 1): Float64Array {
  const c = new Float64Array(sizeOf(s.batch) * s.m * s.n);
  const starts: number[] = [];
  eachOffset(s.batch, batchStrides(s.a, s.batch), (_, at) => starts.push(at));
  eachOffset(s.batch, batchStrides(s.b, s.batch), (i, at) => {
    product(
      { data: c, at: i * s.m * s.n, row: s.n, col: 1 },
      { data: a, at: starts[i]!, row: s.a.row, col: s.a.col },
      { data: b, at, row: s.b.row, col: s.b.col },
      s.m,
      s.n,
      s.k,
    );
  });
  if (alpha !== 1) for (let i = 0; i < c.length; i++) c[i]! *= alpha;
  return c;
}

/** Integers whose sums leave the exact range of doubles: wrapped to the type's bits. */
function multiplyBig(s: MatMulShape, x: Tensor, y: Tensor): Tensor {
  const out = zeros(x.dtype, s.shape);
  const a = bigints(x);
  const b = bigints(y);
  const d = out.data as unknown as { [i: number]: number | bigint };
  const wide = x.dtype.endsWith('64');
  const starts: number[] = [];
  eachOffset(s.batch, batchStrides(s.a, s.batch), (_, at) => starts.push(at));
  eachOffset(s.batch, batchStrides(s.b, s.batch), (z, at) => {
    for (let i = 0; i < s.m; i++)
      for (let j = 0; j < s.n; j++) {
        let sum = 0n;
        for (let k = 0; k < s.k; k++)
          sum += a[starts[z]! + i * s.a.row + k * s.a.col]! * b[at + k * s.b.row + j * s.b.col]!;
        d[(z * s.m + i) * s.n + j] = wide ? BigInt.asIntN(64, sum) : Number(BigInt.asUintN(32, sum));
      }
  });
  return out;
}

const needsBig = (x: Tensor, y: Tensor, k: number): boolean =>
  isInteger(x.dtype) && !exactInDoubles(numbers(x), numbers(y), k);

const matMul = defineOp({
  op: 'MatMul',
  since: [1, 9, 13],
  inputs: ['A: T', 'B: T'],
  outputs: ['Y: T'],
  types: { T },
  attrs: {},
  epilogue: true,
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: matmulShape(call.fact(0).shape, call.fact(1).shape).shape }],
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const s = matmulShape(a.shape, b.shape);
    return [needsBig(a, b, s.k) ? multiplyBig(s, a, b) : fromNumbers(a.dtype, s.shape, multiply(s, a, b))];
  },
});

const fusedAttrs = { alpha: float(1), transA: int(0), transB: int(0), transBatchA: int(0), transBatchB: int(0) };

const fusedMatMul = defineOp({
  op: 'com.microsoft.FusedMatMul',
  since: [1],
  inputs: ['A: T', 'B: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: fusedAttrs,
  infer: (call) => [
    { dtype: call.fact(0).dtype, shape: fusedMatmulShape(call.fact(0).shape, call.fact(1).shape, call.attrs).shape },
  ],
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const s = fusedMatmulShape(a.shape, b.shape, call.attrs);
    return [fromNumbers(a.dtype, s.shape, multiply(s, a, b, call.attrs.alpha))];
  },
});

/** TransposeMatMul is FusedMatMul's earlier name. */
const transposeMatMul = defineOp({
  ...fusedMatMul,
  op: 'com.microsoft.TransposeMatMul',
  normalize: ({ attrs }) => ({ op: 'com.microsoft.FusedMatMul', attrs }),
});

// ── Gemm ────────────────────────────────────────────────────────────────────────────────────────────────────────────
const gemmAttrs = { alpha: float(1), beta: float(1), transA: int(0), transB: int(0) };
type GemmAttrs = { readonly alpha: number; readonly beta: number; readonly transA: number; readonly transB: number };

/** Below opset 7 `broadcast` allows what is always allowed since. */
const normalizeGemm = ({ attrs: { broadcast: _, ...attrs }, opset, inputs }: NormalizeCall): Normalized => {
  if (opset < 11 && inputs[2] == null) fail('input_missing', 'C is required below opset 11');
  return { attrs };
};

function gemmValues(s: MatMulShape, a: Tensor, b: Tensor, c: Tensor | null, attrs: GemmAttrs): Float64Array {
  const y = multiply(s, a, b, attrs.alpha);
  if (c !== null && attrs.beta !== 0) {
    const from = numbers(c);
    eachOffset(s.shape, broadcastStrides(c.shape, s.shape), (i, at) => {
      y[i]! += attrs.beta * from[at]!;
    });
  }
  return y;
}

const gemmOp = defineOp({
  op: 'Gemm',
  since: [1, 6, 7, 9, 11, 13],
  inputs: ['A: T', 'B: T', 'C: T?'],
  outputs: ['Y: T'],
  types: { T },
  attrs: gemmAttrs,
  epilogue: true,
  normalize: normalizeGemm,
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: gemmShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs).shape,
    },
  ],
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const c = call.optional(2);
    const s = gemmShape(a.shape, b.shape, c?.shape ?? null, call.attrs);
    const exact = call.attrs.alpha === 1 && (c === null || call.attrs.beta === 1 || call.attrs.beta === 0);
    if (!exact || !needsBig(a, b, s.k)) return [fromNumbers(a.dtype, s.shape, gemmValues(s, a, b, c, call.attrs))];
    const out = multiplyBig(s, a, b);
    if (c !== null && call.attrs.beta === 1) {
      const from = bigints(c);
      const d = out.data as unknown as { [i: number]: number | bigint };
      eachOffset(s.shape, broadcastStrides(c.shape, s.shape), (i, at) => {
        d[i] =
          typeof d[i] === 'bigint'
            ? BigInt.asIntN(64, d[i] + from[at]!)
            : Number(BigInt.asUintN(32, BigInt(d[i]!) + from[at]!));
      });
    }
    return [out];
  },
});

const fusedGemm = defineOp({
  op: 'com.microsoft.FusedGemm',
  since: [1],
  inputs: ['A: T', 'B: T', 'C: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: {
    ...gemmAttrs,
    activation: string(''),
    activation_alpha: float(),
    activation_beta: float(),
    activation_gamma: float(),
  },
  infer: (call) => {
    if (call.attrs.activation) activation(call.attrs.activation);
    return [
      {
        dtype: call.fact(0).dtype,
        shape: gemmShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs).shape,
      },
    ];
  },
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const c = call.optional(2);
    const s = gemmShape(a.shape, b.shape, c?.shape ?? null, call.attrs);
    const y = gemmValues(s, a, b, c, call.attrs);
    return [
      fromNumbers(
        a.dtype,
        s.shape,
        call.attrs.activation
          ? y.map(activation(call.attrs.activation, call.attrs.activation_alpha, call.attrs.activation_beta))
          : y,
      ),
    ];
  },
});

/**
 * https://onnx.ai/onnx/operators/onnx__MatMul.html, https://onnx.ai/onnx/operators/onnx__Gemm.html; the rest:
 * ContribOperators.md of onnxruntime.
 */
export const matmul: readonly Op[] = [matMul, gatedMatmul, gemmOp, fusedMatMul, transposeMatMul, fusedGemm];
