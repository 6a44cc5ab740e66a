import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { bigints, fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { defineOp, FLOAT, float, int, type NormalizeCall, type Normalized, type Op, string } from './define.ts';
import { exactInDoubles, product, type Reals, reals } from './matmul-product.ts';
import { activation } from './rnn-activation.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

const T: readonly DType[] = [...FLOAT, 'int32', 'int64', 'uint32', 'uint64'];
const isInteger = (d: DType): boolean => d.startsWith('int') || d.startsWith('uint');

/** How an operand of FusedMatMul is to be read. */
export interface Turned { readonly trans: number; readonly transBatch: number }
const PLAIN: Turned = { trans: 0, transBatch: 0 };

/** One operand as a stack of matrices: element (i, j) of batch offset o is at o + i * row + j * col. */
interface Stack { readonly batch: readonly number[]; readonly strides: readonly number[]; readonly rows: number; readonly cols: number; readonly row: number; readonly col: number }

function stackOf(shape: readonly number[], side: 'a' | 'b', { trans, transBatch }: Turned): Stack {
  if (shape.length === 0) fail('shape_mismatch', 'a scalar cannot be multiplied as a matrix');
  if (shape.length === 1) {
    const n = shape[0]!;
    return side === 'a' ? { batch: [], strides: [], rows: 1, cols: n, row: n, col: 1 } : { batch: [], strides: [], rows: n, cols: 1, row: 1, col: 1 };
  }
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  const order = shape.map((_, i) => i);
  if (transBatch) order.splice(order.length - 2, 0, order.shift()!); // dim 0 becomes the rows, the dims between are the batch
  const last = order.pop()!, before = order.pop()!;
  const [r, c] = trans ? [last, before] : [before, last];
  return { batch: order.map((i) => shape[i]!), strides: order.map((i) => strides[i]!), rows: shape[r]!, cols: shape[c]!, row: strides[r]!, col: strides[c]! };
}

/** A matrix product at known shapes: `batch` matrices of m x k by k x n; `shape` is the output's. */
export interface MatMulShape { readonly batch: readonly number[]; readonly m: number; readonly n: number; readonly k: number; readonly shape: readonly number[]; readonly a: Stack; readonly b: Stack }

/** Broadcasting matrix multiplication as in NumPy's matmul. @throws shape_mismatch */
export function matmulShape(a: readonly number[], b: readonly number[], turnA: Turned = PLAIN, turnB: Turned = PLAIN): MatMulShape {
  const left = stackOf(a, 'a', turnA);
  const right = stackOf(b, 'b', turnB);
  if (left.cols !== right.rows) fail('shape_mismatch', `[${a}] times [${b}]: the inner dims ${left.cols} and ${right.rows} differ`);
  const batch = broadcast(left.batch, right.batch);
  return { batch, m: left.rows, n: right.cols, k: left.cols, a: left, b: right, shape: [...batch, ...(a.length > 1 ? [left.rows] : []), ...(b.length > 1 ? [right.cols] : [])] };
}

const batchStrides = (s: Stack, batch: readonly number[]): number[] => {
  const out = new Array<number>(batch.length).fill(0);
  s.batch.forEach((d, i) => { if (d !== 1) out[batch.length - s.batch.length + i] = s.strides[i]!; });
  return out;
};

/** The product in double precision: `alpha` times it, before rounding. */
const multiply = (s: MatMulShape, x: Tensor, y: Tensor, alpha = 1): Float64Array => productOf(s, reals(x), reals(y), alpha);

/** The same of plain arrays. */
export function productOf(s: MatMulShape, a: Reals, b: Reals, alpha = 1): Float64Array {
  const c = new Float64Array(sizeOf(s.batch) * s.m * s.n);
  const starts: number[] = [];
  eachOffset(s.batch, batchStrides(s.a, s.batch), (_, at) => starts.push(at));
  eachOffset(s.batch, batchStrides(s.b, s.batch), (i, at) => {
    product({ data: c, at: i * s.m * s.n, row: s.n, col: 1 }, { data: a, at: starts[i]!, row: s.a.row, col: s.a.col }, { data: b, at, row: s.b.row, col: s.b.col }, s.m, s.n, s.k);
  });
  if (alpha !== 1) for (let i = 0; i < c.length; i++) c[i]! *= alpha;
  return c;
}

/** Integers whose sums leave the exact range of doubles: wrapped to the type's bits. */
function multiplyBig(s: MatMulShape, x: Tensor, y: Tensor): Tensor {
  const out = zeros(x.dtype, s.shape);
  const a = bigints(x), b = bigints(y), d = out.data as unknown as { [i: number]: number | bigint };
  const wide = x.dtype.endsWith('64');
  const starts: number[] = [];
  eachOffset(s.batch, batchStrides(s.a, s.batch), (_, at) => starts.push(at));
  eachOffset(s.batch, batchStrides(s.b, s.batch), (z, at) => {
    for (let i = 0; i < s.m; i++) for (let j = 0; j < s.n; j++) {
      let sum = 0n;
      for (let k = 0; k < s.k; k++) sum += a[starts[z]! + i * s.a.row + k * s.a.col]! * b[at + k * s.b.row + j * s.b.col]!;
      d[(z * s.m + i) * s.n + j] = wide ? BigInt.asIntN(64, sum) : Number(BigInt.asUintN(32, sum));
    }
  });
  return out;
}

const needsBig = (x: Tensor, y: Tensor, k: number): boolean => isInteger(x.dtype) && !exactInDoubles(numbers(x), numbers(y), k);

const matMul = defineOp({
  op: 'MatMul', since: [1, 9, 13], inputs: ['A: T', 'B: T'], outputs: ['Y: T'], types: { T }, attrs: {}, epilogue: true,
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: matmulShape(call.fact(0).shape, call.fact(1).shape).shape }],
  reference: (call) => {
    const a = call.tensor(0), b = call.tensor(1);
    const s = matmulShape(a.shape, b.shape);
    return [needsBig(a, b, s.k) ? multiplyBig(s, a, b) : fromNumbers(a.dtype, s.shape, multiply(s, a, b))];
  },
});

const fusedAttrs = { alpha: float(1), transA: int(0), transB: int(0), transBatchA: int(0), transBatchB: int(0) };
type FusedAttrs = { readonly transA: number; readonly transB: number; readonly transBatchA: number; readonly transBatchB: number };
/** The shapes of a FusedMatMul call. */
export const fusedMatmulShape = (a: readonly number[], b: readonly number[], f: FusedAttrs): MatMulShape =>
  matmulShape(a, b, { trans: f.transA, transBatch: f.transBatchA }, { trans: f.transB, transBatch: f.transBatchB });

const fusedMatMul = defineOp({
  op: 'com.microsoft.FusedMatMul', since: [1], inputs: ['A: T', 'B: T'], outputs: ['Y: T'], types: { T: FLOAT }, attrs: fusedAttrs,
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: fusedMatmulShape(call.fact(0).shape, call.fact(1).shape, call.attrs).shape }],
  reference: (call) => {
    const a = call.tensor(0), b = call.tensor(1);
    const s = fusedMatmulShape(a.shape, b.shape, call.attrs);
    return [fromNumbers(a.dtype, s.shape, multiply(s, a, b, call.attrs.alpha))];
  },
});

/** TransposeMatMul is FusedMatMul's earlier name. */
const transposeMatMul = defineOp({ ...fusedMatMul, op: 'com.microsoft.TransposeMatMul', normalize: ({ attrs }) => ({ op: 'com.microsoft.FusedMatMul', attrs }) });

// ── Gemm ────────────────────────────────────────────────────────────────────────────────────────────────────────────
const gemmAttrs = { alpha: float(1), beta: float(1), transA: int(0), transB: int(0) };
type GemmAttrs = { readonly alpha: number; readonly beta: number; readonly transA: number; readonly transB: number };

/** The shapes of a Gemm: A' is m x k, B' is k x n, C broadcasts to m x n. @throws shape_mismatch */
export function gemmShape(a: readonly number[], b: readonly number[], c: readonly number[] | null, attrs: { readonly transA: number; readonly transB: number }): MatMulShape {
  if (a.length !== 2 || b.length !== 2) fail('shape_mismatch', `A has shape [${a}] and B [${b}]; both must be matrices`);
  const s = matmulShape(a, b, { trans: attrs.transA, transBatch: 0 }, { trans: attrs.transB, transBatch: 0 });
  if (c !== null && String(broadcast(c, s.shape)) !== String(s.shape)) fail('shape_mismatch', `C of shape [${c}] does not broadcast to [${s.shape}]`);
  return s;
}

/** Below opset 7 `broadcast` allows what is always allowed since. */
const normalizeGemm = ({ attrs: { broadcast: _, ...attrs }, opset, inputs }: NormalizeCall): Normalized => {
  if (opset < 11 && inputs[2] == null) fail('input_missing', 'C is required below opset 11');
  return { attrs };
};

function gemmValues(s: MatMulShape, a: Tensor, b: Tensor, c: Tensor | null, attrs: GemmAttrs): Float64Array {
  const y = multiply(s, a, b, attrs.alpha);
  if (c !== null && attrs.beta !== 0) {
    const from = numbers(c);
    eachOffset(s.shape, broadcastStrides(c.shape, s.shape), (i, at) => { y[i]! += attrs.beta * from[at]!; });
  }
  return y;
}

const gemmOp = defineOp({
  op: 'Gemm', since: [1, 6, 7, 9, 11, 13], inputs: ['A: T', 'B: T', 'C: T?'], outputs: ['Y: T'], types: { T }, attrs: gemmAttrs, epilogue: true,
  normalize: normalizeGemm,
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: gemmShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs).shape }],
  reference: (call) => {
    const a = call.tensor(0), b = call.tensor(1), c = call.optional(2);
    const s = gemmShape(a.shape, b.shape, c?.shape ?? null, call.attrs);
    const exact = call.attrs.alpha === 1 && (c === null || call.attrs.beta === 1 || call.attrs.beta === 0);
    if (!exact || !needsBig(a, b, s.k)) return [fromNumbers(a.dtype, s.shape, gemmValues(s, a, b, c, call.attrs))];
    const out = multiplyBig(s, a, b);
    if (c !== null && call.attrs.beta === 1) {
      const from = bigints(c), d = out.data as unknown as { [i: number]: number | bigint };
      eachOffset(s.shape, broadcastStrides(c.shape, s.shape), (i, at) => { d[i] = typeof d[i] === 'bigint' ? BigInt.asIntN(64, d[i] + from[at]!) : Number(BigInt.asUintN(32, BigInt(d[i]!) + from[at]!)); });
    }
    return [out];
  },
});

const fusedGemm = defineOp({
  op: 'com.microsoft.FusedGemm', since: [1], inputs: ['A: T', 'B: T', 'C: T?'], outputs: ['Y: T'], types: { T: FLOAT },
  attrs: { ...gemmAttrs, activation: string(''), activation_alpha: float(), activation_beta: float(), activation_gamma: float() },
  infer: (call) => {
    if (call.attrs.activation) activation(call.attrs.activation);
    return [{ dtype: call.fact(0).dtype, shape: gemmShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs).shape }];
  },
  reference: (call) => {
    const a = call.tensor(0), b = call.tensor(1), c = call.optional(2);
    const s = gemmShape(a.shape, b.shape, c?.shape ?? null, call.attrs);
    const y = gemmValues(s, a, b, c, call.attrs);
    return [fromNumbers(a.dtype, s.shape, call.attrs.activation ? y.map(activation(call.attrs.activation, call.attrs.activation_alpha, call.attrs.activation_beta)) : y)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__MatMul.html, https://onnx.ai/onnx/operators/onnx__Gemm.html; the rest: ContribOperators.md of onnxruntime. */
export const matmul: readonly Op[] = [matMul, gemmOp, fusedMatMul, transposeMatMul, fusedGemm];

