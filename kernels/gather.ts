import { fail } from '../src/core/errors.ts';
import { numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { ALL, defineOp, INDEX, int, type Op, type OutFact } from './define.ts';
import { cellsOf, copyRun, fromCells, newCells, sized } from './elements.ts';
import { type Given, givenRun, infers } from './given.ts';
import { axisOf } from './shapes.ts';

/**
 * The indices as numbers in [0, dim), negative ones counted from the end. @throws value_invalid naming the index and
 * its bound
 */
export function indicesOf(t: Tensor, dim: number): ArrayLike<number> {
  const out = Float64Array.from(numbers(t));
  for (let i = 0; i < out.length; i++) out[i] = inRange(out[i]!, dim, i);
  return out;
}
/** An index in [0, dim), `place` being where it was found. @throws value_invalid */
export function inRange(v: number, dim: number, place: number): number {
  if (!(v >= -dim && v < dim))
    fail('value_invalid', `index ${v} (element ${place} of the indices) is outside an axis of ${dim}`);
  return v < 0 ? v + dim : v;
}

function gathered(g: Given<{ readonly axis: number }>): OutFact[] {
  const from = g.shape(0);
  const axis = axisOf(g.attrs.axis, from.length);
  return [sized(g.dtype(0), [...from.slice(0, axis), ...g.shape(1), ...from.slice(axis + 1)])];
}

/** https://onnx.ai/onnx/operators/onnx__Gather.html. An index out of range is an error. */
export const gather: readonly Op[] = [
  defineOp({
    op: 'Gather',
    since: [1, 11, 13],
    inputs: ['data: T', 'indices: I'],
    outputs: ['output: T'],
    types: { T: ALL, I: INDEX },
    attrs: { axis: int(0) },
    infer: infers(gathered),
    reference: (call) => {
      const t = call.tensor(0);
      const { dtype, shape } = gathered(givenRun(call))[0]!;
      const axis = axisOf(call.attrs.axis, t.shape.length);
      const dim = t.shape[axis]!;
      const at = indicesOf(call.tensor(1), dim);
      const count = sizeOf(shape);
      const to = newCells(dtype, count);
      const from = cellsOf(t);
      const run = sizeOf(t.shape.slice(axis + 1));
      const outer = count === 0 ? 0 : sizeOf(t.shape.slice(0, axis));
      for (let o = 0; o < outer; o++)
        for (let k = 0; k < at.length; k++) copyRun(from, (o * dim + at[k]!) * run, to, (o * at.length + k) * run, run);
      return [fromCells(dtype, shape, to)];
    },
  }),
];
