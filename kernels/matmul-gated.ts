/**
 * Two products of one matrix whose elements meet in an expression, as in gated perceptrons: what the optimizer makes of
 * them.
 */
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { defineOp, FLOAT, type Op, required, string } from './define.ts';
import { compile } from './expr-eval.ts';
import type { Ex } from './expr.ts';

/** Rows of x, their length, and the columns of the output. @throws shape_mismatch */
export function gatedShape(
  x: readonly number[],
  weights: readonly number[],
): { rows: number; depth: number; columns: number; output: readonly number[] } {
  const [depth, twice] = weights as [number, number];
  if (weights.length !== 2 || x.length < 1 || x.at(-1) !== depth || twice % 4 !== 0)
    fail('shape_mismatch', `x [${x}] and weights [${weights}] are no gated product`);
  return {
    rows: x.slice(0, -1).reduce((a, b) => a * b, 1),
    depth,
    columns: twice / 2,
    output: [...x.slice(0, -1), twice / 2],
  };
}

/**
 * y = expr(x G, x U), inputs 0 and 1 of `expr`. Columns of G and U alternate in pairs: g0 g1 u0 u1 g2 … Not an operator
 * of ONNX: fusion makes it.
 */
export const gatedMatmul: Op = defineOp({
  op: 'sardonyx.GatedMatMul',
  since: [1],
  inputs: ['x: T', 'weights: T'],
  outputs: ['y: T'],
  types: { T: FLOAT },
  attrs: { expr: required(string()) },
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: gatedShape(call.fact(0).shape, call.fact(1).shape).output }],
  reference: (call) => {
    const x = call.tensor(0);
    const w = call.tensor(1);
    const { rows, depth, columns, output } = gatedShape(x.shape, w.shape);
    const of = compile(JSON.parse(call.attrs.expr) as Ex);
    const a = numbers(x);
    const b = numbers(w);
    const out = new Float64Array(rows * columns);
    const element = (r: number, c: number): number => {
      let sum = 0;
      for (let k = 0; k < depth; k++) sum += a[r * depth + k]! * b[k * 2 * columns + c]!;
      return sum;
    };
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const at = (c >> 1) * 4 + (c & 1);
        out[r * columns + c] = of([element(r, at), element(r, at + 2)]) as number;
      }
    return [fromNumbers(x.dtype, output, out)];
  },
});
