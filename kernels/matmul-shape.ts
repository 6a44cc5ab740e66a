/** Shapes of matrix products. */
import { fail } from '../src/core/errors.ts';
import { broadcast } from './shapes.ts';

/** How an operand of FusedMatMul is to be read. */
interface Turned {
  readonly trans: number;
  readonly transBatch: number;
}
const PLAIN: Turned = { trans: 0, transBatch: 0 };

/** One operand as a stack of matrices: element (i, j) of batch offset o is at o + i * row + j * col. */
export interface Stack {
  readonly batch: readonly number[];
  readonly strides: readonly number[];
  readonly rows: number;
  readonly cols: number;
  readonly row: number;
  readonly col: number;
}

function stackOf(shape: readonly number[], side: 'a' | 'b', { trans, transBatch }: Turned): Stack {
  if (shape.length === 0) fail('shape_mismatch', 'a scalar cannot be multiplied as a matrix');
  if (shape.length === 1) {
    const n = shape[0]!;
    return side === 'a'
      ? { batch: [], strides: [], rows: 1, cols: n, row: n, col: 1 }
      : { batch: [], strides: [], rows: n, cols: 1, row: 1, col: 1 };
  }
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  const order = shape.map((_, i) => i);
  // dim 0 becomes the rows, the dims between are the batch
  if (transBatch) order.splice(order.length - 2, 0, order.shift()!);
  const last = order.pop()!;
  const before = order.pop()!;
  const [r, c] = trans ? [last, before] : [before, last];
  return {
    batch: order.map((i) => shape[i]!),
    strides: order.map((i) => strides[i]!),
    rows: shape[r]!,
    cols: shape[c]!,
    row: strides[r]!,
    col: strides[c]!,
  };
}

/** A matrix product at known shapes: `batch` matrices of m x k by k x n; `shape` is the output's. */
export interface MatMulShape {
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly shape: readonly number[];
  readonly a: Stack;
  readonly b: Stack;
}

/** Broadcasting matrix multiplication as in NumPy's matmul. @throws shape_mismatch */
export function matmulShape(
  a: readonly number[],
  b: readonly number[],
  turnA: Turned = PLAIN,
  turnB: Turned = PLAIN,
): MatMulShape {
  const left = stackOf(a, 'a', turnA);
  const right = stackOf(b, 'b', turnB);
  if (left.cols !== right.rows)
    fail('shape_mismatch', `[${a}] times [${b}]: the inner dims ${left.cols} and ${right.rows} differ`);
  const batch = broadcast(left.batch, right.batch);
  return {
    batch,
    m: left.rows,
    n: right.cols,
    k: left.cols,
    a: left,
    b: right,
    shape: [...batch, ...(a.length > 1 ? [left.rows] : []), ...(b.length > 1 ? [right.cols] : [])],
  };
}

type FusedAttrs = {
  readonly transA: number;
  readonly transB: number;
  readonly transBatchA: number;
  readonly transBatchB: number;
};
/** The shapes of a FusedMatMul call. */
export const fusedMatmulShape = (a: readonly number[], b: readonly number[], f: FusedAttrs): MatMulShape =>
  matmulShape(a, b, { trans: f.transA, transBatch: f.transBatchA }, { trans: f.transB, transBatch: f.transBatchB });

/** The shapes of a Gemm: A' is m x k, B' is k x n, C broadcasts to m x n. @throws shape_mismatch */
export function gemmShape(
  a: readonly number[],
  b: readonly number[],
  c: readonly number[] | null,
  attrs: { readonly transA: number; readonly transB: number },
): MatMulShape {
  if (a.length !== 2 || b.length !== 2)
    fail('shape_mismatch', `A has shape [${a}] and B [${b}]; both must be matrices`);
  const s = matmulShape(a, b, { trans: attrs.transA, transBatch: 0 }, { trans: attrs.transB, transBatch: 0 });
  if (c !== null && String(broadcast(c, s.shape)) !== String(s.shape))
    fail('shape_mismatch', `C of shape [${c}] does not broadcast to [${s.shape}]`);
  return s;
}
