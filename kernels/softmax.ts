import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { type Call, defineOp, FLOAT, int, type NormalizeCall, type Normalized, type Op } from './define.ts';
import { axisOf, sameAs } from './shapes.ts';

/** Below opset 13 the axis is 1 by default, and all dims from it on are normalised together. */
const normalize = ({ attrs, opset }: NormalizeCall): Normalized =>
  opset < 13 ? { attrs: { axis: 1, ...attrs, flatten: 1 } } : { attrs };

/** [outer, n, inner]: n elements, `inner` apart, are normalised together. */
export function rowsOf(
  shape: readonly number[],
  attrs: { readonly axis: number; readonly flatten: number },
): { outer: number; n: number; inner: number } {
  const axis =
    attrs.flatten && attrs.axis === shape.length ? shape.length : axisOf(attrs.axis, Math.max(1, shape.length));
  const outer = sizeOf(shape.slice(0, axis));
  if (attrs.flatten) return { outer, n: sizeOf(shape.slice(axis)), inner: 1 };
  return { outer, n: shape[axis] ?? 1, inner: sizeOf(shape.slice(axis + 1)) };
}

/** The lines of a call. */
export const linesOf = (call: Call) => rowsOf(call.inputs[0]!.shape, call.attrs);
const family = (op: 'Softmax' | 'LogSoftmax'): Op =>
  defineOp({
    op,
    since: [1, 11, 13],
    inputs: ['input: T'],
    outputs: ['output: T'],
    types: { T: FLOAT },
    attrs: { axis: int(-1), flatten: int(0) },
    normalize,
    infer: (call) => {
      rowsOf(call.fact(0).shape, call.attrs);
      return sameAs()(call);
    },
    reference: (call) => {
      const t = call.tensor(0);
      const from = numbers(t);
      const to = new Float64Array(from.length);
      const { outer, n, inner } = rowsOf(t.shape, call.attrs);
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) {
          const at = (k: number): number => (o * n + k) * inner + i;
          let top = -Infinity;
          for (let k = 0; k < n; k++) top = Math.max(top, from[at(k)]!);
          let sum = 0;
          for (let k = 0; k < n; k++) sum += Math.exp(from[at(k)]! - top);
          for (let k = 0; k < n; k++)
            to[at(k)] = op === 'Softmax' ? Math.exp(from[at(k)]! - top) / sum : from[at(k)]! - top - Math.log(sum);
        }
      return [fromNumbers(t.dtype, t.shape, to)];
    },
  });

/** 1 at the first of the greatest elements, 0 elsewhere. https://onnx.ai/onnx/operators/onnx__Hardmax.html */
const hardmax: Op = defineOp({
  op: 'Hardmax',
  since: [1, 11, 13],
  inputs: ['input: T'],
  outputs: ['output: T'],
  types: { T: FLOAT },
  attrs: { axis: int(-1), flatten: int(0) },
  normalize,
  infer: (call) => {
    rowsOf(call.fact(0).shape, call.attrs);
    return sameAs()(call);
  },
  reference: (call) => {
    const t = call.tensor(0);
    const from = numbers(t);
    const to = new Float64Array(from.length);
    const { outer, n, inner } = rowsOf(t.shape, call.attrs);
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        let best = o * n * inner + i;
        for (let k = 1; k < n; k++) {
          const at = (o * n + k) * inner + i;
          if (from[at]! > from[best]!) best = at;
        }
        if (n > 0) to[best] = 1;
      }
    return [fromNumbers(t.dtype, t.shape, to)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__Softmax.html, https://onnx.ai/onnx/operators/onnx__LogSoftmax.html */
export const softmax: readonly Op[] = [family('Softmax'), family('LogSoftmax'), hardmax];
