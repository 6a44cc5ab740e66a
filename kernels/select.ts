import { isFloat, isInt64 } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bigints, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import { ALL, defineOp, int, type Op } from './define.ts';
import { cellsOf, copyRun, fromCells, newCells } from './elements.ts';
import { int64s } from './given.ts';
import { axisOf } from './shapes.ts';

/** Indices of the elements that are not zero (not empty, for strings). */
function nonZero(t: Tensor): number[] {
  const found: number[] = [];
  const cells =
    t.dtype === 'string'
      ? (t.data as string[]).map((s) => (s === '' ? 0 : 1))
      : t.dtype.startsWith('complex')
        ? pairs(t)
        : numbers(t);
  for (let i = 0; i < cells.length; i++) if (cells[i] !== 0) found.push(i);
  return found;
}
const pairs = (t: Tensor): Uint8Array =>
  Uint8Array.from({ length: sizeOf(t.shape) }, (_, i) =>
    Number((t.data as Float32Array)[2 * i] !== 0 || (t.data as Float32Array)[2 * i + 1] !== 0),
  );

/** Orders elements i and j of `t`; NaN comes last and is equal to NaN. */
function order(t: Tensor): (i: number, j: number) => number {
  if (t.dtype.startsWith('complex')) fail('type_mismatch', `${t.dtype} has no order`);
  const list: ArrayLike<string | bigint | number> =
    t.dtype === 'string' ? (t.data as string[]) : isInt64(t.dtype) ? bigints(t) : numbers(t);
  const compare = (a: string | bigint | number, b: string | bigint | number): number => (a < b ? -1 : a > b ? 1 : 0);
  if (!isFloat(t.dtype)) return (i, j) => compare(list[i]!, list[j]!);
  return (i, j) => compare(list[i]!, list[j]!) || Number(list[i] !== list[i]) - Number(list[j] !== list[j]);
}

/** The slices along one axis, as runs: `count` slices, each of `outer` runs of `run` elements. */
interface Slices {
  readonly count: number;
  readonly outer: number;
  readonly run: number;
}

function uniqueOf(
  t: Tensor,
  { count, outer, run }: Slices,
  sorted: boolean,
): { first: number[]; inverse: number[]; counts: number[] } {
  const by = order(t);
  const compare = (a: number, b: number): number => {
    for (let o = 0; o < outer; o++)
      for (let r = 0; r < run; r++) {
        const c = by((o * count + a) * run + r, (o * count + b) * run + r);
        if (c !== 0) return c;
      }
    return 0;
  };
  const ranked = Array.from({ length: count }, (_, i) => i).sort((a, b) => compare(a, b) || a - b);
  const groups: number[][] = [];
  ranked.forEach((i, k) => {
    if (k > 0 && compare(ranked[k - 1]!, i) === 0) groups.at(-1)!.push(i);
    else groups.push([i]);
  });
  if (!sorted) groups.sort((a, b) => a[0]! - b[0]!);
  const inverse = new Array<number>(count).fill(0);
  groups.forEach((members, g) => {
    for (const i of members) inverse[i] = g;
  });
  return { first: groups.map((members) => members[0]!), inverse, counts: groups.map((members) => members.length) };
}

/** The slices `which` of `t` along an axis. */
function take(t: Tensor, { count, outer, run }: Slices, which: readonly number[], shape: readonly number[]): Tensor {
  const from = cellsOf(t);
  const to = newCells(t.dtype, sizeOf(shape));
  if (sizeOf(shape) > 0)
    for (let o = 0; o < outer; o++)
      which.forEach((i, k) => copyRun(from, (o * count + i) * run, to, (o * which.length + k) * run, run));
  return fromCells(t.dtype, shape, to);
}
/** Most slices of a tensor without elements: its dims cost its model nothing. */
const MAX_EMPTY = 2 ** 20;
const slicesAlong = (t: Tensor, axis: number | undefined): { slices: Slices; shaped: (n: number) => number[] } => {
  if (axis === undefined) return { slices: { count: sizeOf(t.shape), outer: 1, run: 1 }, shaped: (n) => [n] };
  const at = axisOf(axis, t.shape.length);
  if (t.shape[at]! > MAX_EMPTY && sizeOf(t.shape) === 0)
    fail('model_too_large', `[${t.shape}] has too many slices of nothing`);
  return {
    slices: {
      count: t.shape[at]!,
      outer: sizeOf(t.shape) === 0 ? 0 : sizeOf(t.shape.slice(0, at)),
      run: sizeOf(t.shape.slice(at + 1)),
    },
    shaped: (n) => t.shape.map((d, i) => (i === at ? n : d)),
  };
};

/**
 * Operators whose output is as long as the data says: https://onnx.ai/onnx/operators/onnx__NonZero.html, Compress,
 * Unique.
 */
export const select: readonly Op[] = [
  defineOp({
    op: 'NonZero',
    since: [9, 13],
    inputs: ['X: T'],
    outputs: ['Y: int64'],
    types: { T: ALL },
    attrs: {},
    dynamic: true,
    reference: (call) => {
      const t = call.tensor(0);
      const found = nonZero(t);
      const strides = stridesOf(t.shape);
      const data = new BigInt64Array(t.shape.length * found.length);
      t.shape.forEach((d, axis) =>
        found.forEach((i, k) => {
          data[axis * found.length + k] = BigInt(Math.floor(i / strides[axis]!) % d);
        }),
      );
      return [{ dtype: 'int64', shape: [t.shape.length, found.length], data }];
    },
  }),
  defineOp({
    op: 'Compress',
    since: [9, 11],
    inputs: ['input: T', 'condition: bool'],
    outputs: ['output: T'],
    types: { T: ALL },
    attrs: { axis: int() },
    dynamic: true,
    reference: (call) => {
      const t = call.tensor(0);
      const condition = call.tensor(1);
      const { slices, shaped } = slicesAlong(t, call.attrs.axis);
      const which = nonZero(condition);
      if (condition.shape.length !== 1 || (which.at(-1) ?? -1) >= slices.count) {
        fail(
          'shape_mismatch',
          `condition [${condition.shape}] names more than the ${slices.count} slices of [${t.shape}]`,
        );
      }
      return [take(t, slices, which, shaped(which.length))];
    },
  }),
  defineOp({
    op: 'Unique',
    since: [11],
    inputs: ['X: T'],
    outputs: ['Y: T', 'indices: int64', 'inverse_indices: int64', 'counts: int64'],
    types: { T: ALL },
    attrs: { axis: int(), sorted: int(1) },
    dynamic: true,
    reference: (call) => {
      const t = call.tensor(0);
      const { slices, shaped } = slicesAlong(t, call.attrs.axis);
      const { first, inverse, counts } = uniqueOf(t, slices, call.attrs.sorted !== 0);
      return [take(t, slices, first, shaped(first.length)), int64s(first), int64s(inverse), int64s(counts)];
    },
  }),
];
