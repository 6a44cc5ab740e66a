import { isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, integers, numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { type Call, defineOp, INDEX, int, NUMERIC, type Op } from './define.ts';
import { eachGroup, reduction } from './reduce.ts';
import { axisOf } from './shapes.ts';

/** The axis of an ArgMax or ArgMin. */
export const ownAxis = (call: Call): number => axisOf(call.attrs.axis, call.inputs[0]!.shape.length);

const position = (op: 'ArgMax' | 'ArgMin'): Op =>
  defineOp({
    op,
    since: [1, 11, 12, 13],
    inputs: ['data: T'],
    outputs: ['reduced: int64'],
    types: { T: NUMERIC },
    attrs: { axis: int(0), keepdims: int(1), select_last_index: int(0) },
    infer: (call) => {
      const { shape } = call.fact(0);
      const axis = axisOf(call.attrs.axis, shape.length);
      if (shape[axis] === 0)
        fail(
          'shape_mismatch',
          `an axis of no elements has no ${op === 'ArgMax' ? 'greatest' : 'least'} one: [${shape}], axis ${axis}`,
        );
      return [{ dtype: 'int64', shape: reduction(shape, [axis], { ...call.attrs, noop_with_empty_axes: 0 }).shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const axis = axisOf(call.attrs.axis, t.shape.length);
      const out = zeros('int64', reduction(t.shape, [axis], { ...call.attrs, noop_with_empty_axes: 0 }).shape);
      const from: ArrayLike<number | bigint> = isInt64(t.dtype) ? bigints(t) : numbers(t);
      const last = call.attrs.select_last_index !== 0;
      eachGroup(t.shape, [axis], (k, start, offsets) => {
        let best = 0;
        for (let i = 1; i < offsets.length; i++) {
          const [v, m] = [from[start + offsets[i]!]!, from[start + offsets[best]!]!];
          if ((op === 'ArgMax' ? v > m : v < m) || (last && v === m)) best = i;
        }
        out.data[k] = BigInt(best);
      });
      return [out];
    },
  });

const cumulative = (op: 'CumSum' | 'CumProd'): Op =>
  defineOp({
    op,
    since: op === 'CumSum' ? [11, 14] : [26],
    inputs: ['x: T', 'axis: T2'],
    outputs: ['y: T'],
    types: { T: NUMERIC, T2: INDEX },
    attrs: { exclusive: int(0), reverse: int(0) },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      axisOf(soleOf(call.value(1)), shape.length);
      return [{ dtype, shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const axis = axisOf(soleOf(call.tensor(1)), t.shape.length);
      const { exclusive, reverse } = call.attrs;
      const out = zeros(t.dtype, t.shape);
      const scan = <T>(from: ArrayLike<T>, unit: T, add: (a: T, b: T) => T, put: (i: number, v: T) => void): void =>
        eachGroup(t.shape, [axis], (_, start, offsets) => {
          let total = unit;
          for (let i = 0; i < offsets.length; i++) {
            const at = start + offsets[reverse ? offsets.length - 1 - i : i]!;
            const next = add(total, from[at]!);
            put(at, exclusive ? total : next);
            total = next;
          }
        });
      const write = writer(out);
      if (!/int/.test(t.dtype))
        scan(numbers(t), op === 'CumSum' ? 0 : 1, (a, b) => (op === 'CumSum' ? a + b : a * b), write);
      else if (isInt64(t.dtype))
        scan(
          bigints(t),
          op === 'CumSum' ? 0n : 1n,
          (a, b) => BigInt.asUintN(64, op === 'CumSum' ? a + b : a * b),
          (i, v) => {
            (out.data as BigInt64Array)[i] = v;
          },
        );
      else
        scan(numbers(t), op === 'CumSum' ? 0 : 1, (a, b) => (op === 'CumSum' ? (a + b) | 0 : Math.imul(a, b)), write);
      return [out];
    },
  });
/** The axis that input 1 names; null: known only at run time. */
export function knownAxis(call: Call): number | null {
  const given = call.inputs[1]?.constant?.peek();
  return given ? axisOf(soleOf(given), call.inputs[0]!.shape.length) : null;
}
const soleOf = (t: Tensor): number =>
  sizeOf(t.shape) === 1
    ? integers(t)[0]!
    : fail('shape_mismatch', `axis must be one number, not of shape [${t.shape}]`);

/**
 * Places of extremes, and running sums, along an axis: https://onnx.ai/onnx/operators/onnx__ArgMax.html, ArgMin,
 * CumSum, CumProd
 */
export const alongAxis: readonly Op[] = [
  position('ArgMax'),
  position('ArgMin'),
  cumulative('CumSum'),
  cumulative('CumProd'),
];
