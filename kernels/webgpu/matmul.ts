/** MatMul, Gemm and FusedMatMul as products. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call } from '../define.ts';
import type { MatMulShape } from '../matmul-shape.ts';
import { elemOf } from './elem.ts';
import type { Addend } from './finish.ts';
import { matrixOf, type Product, productKind } from './product.ts';
import type { ProductOf } from './product-kernels.ts';

/**
 * The product of inputs 0 and 1 of a call, as its shapes describe it. Batch strides are those of the broadcast dims.
 */
export function productOf(call: Call, s: MatMulShape, alpha: number, addends: readonly Addend[]): Product | null {
  const kind = productKind(elemOf(call.inputs[0]!.dtype));
  if (kind === null || (kind !== 'f32' && alpha !== 1)) return null;
  const strides = (of: MatMulShape['a']): number[] => {
    const out = s.batch.map(() => 0);
    of.batch.forEach((d, i) => {
      if (d !== 1) out[s.batch.length - of.batch.length + i] = of.strides[i]!;
    });
    return out;
  };
  const plain = (of: MatMulShape['a']): boolean => of.strides.every((st) => st % (of.rows * of.cols) === 0);
  const b = matrixOf(call, 1, s.k, s.n, s.b.row, s.b.col, strides(s.b), !plain(s.b));
  const a = matrixOf(call, 0, s.m, s.k, s.a.row, s.a.col, strides(s.a), !plain(s.a));
  return {
    call,
    batch: s.batch,
    m: s.m,
    n: s.n,
    k: s.k,
    a,
    b,
    fixedDepth: call.inputs[1]!.constant !== undefined || call.inputs[0]!.constant !== undefined,
    kind,
    alpha,
    addends,
  };
}

/** `shape` gives the sizes of a call, `alpha` its factor. */
export const matmulProduct =
  (shape: (call: Call) => MatMulShape, alpha: (call: Call) => number = () => 1): ProductOf =>
  (call) =>
    productOf(call, shape(call), alpha(call), []);

/** Gemm: input 2, if given, is added. */
export const gemmProduct =
  (shape: (call: Call) => MatMulShape): ProductOf =>
  (call) => {
    const { alpha, beta } = call.attrs as { alpha: number; beta: number };
    const c = call.inputs[2];
    const addends = c && beta !== 0 && sizeOf(c.shape) > 0 ? [{ input: 2, shape: c.shape, times: beta }] : [];
    return productOf(call, shape(call), alpha, addends);
  };
