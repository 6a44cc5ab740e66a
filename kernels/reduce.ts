import { type DType, isInt64 } from '../src/core/dtype.ts';
import { bigints, integers, numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor, tensor, zeros } from '../src/core/tensor.ts';
import { type Call, defineOp, int, type NormalizeCall, type Normalized, NUMERIC, type Op } from './define.ts';
import { without } from './elementwise.ts';
import { axesOf, eachOffset } from './shapes.ts';

/** Which dims of a shape are reduced, and what is left. `axes` null: not given. */
export function reduction(
  shape: readonly number[],
  axes: readonly number[] | null,
  attrs: { readonly keepdims: number; readonly noop_with_empty_axes: number },
): { axes: number[]; shape: number[] } {
  const given =
    axes === null || axes.length === 0
      ? attrs.noop_with_empty_axes
        ? []
        : shape.map((_, i) => i)
      : axesOf(axes, shape.length);
  return {
    axes: given,
    shape: attrs.keepdims
      ? shape.map((d, i) => (given.includes(i) ? 1 : d))
      : shape.filter((_, i) => !given.includes(i)),
  };
}

/**
 * Calls `visit(k, start)` for each output element: `start` is the first of the elements that it combines, `offsets` are
 * the others' distances from it.
 */
export function eachGroup(
  shape: readonly number[],
  axes: readonly number[],
  visit: (k: number, start: number, offsets: readonly number[]) => void,
): void {
  const strides = stridesOf(shape);
  const inner = shape.filter((_, i) => axes.includes(i));
  const outer = shape.filter((_, i) => !axes.includes(i));
  const offsets = new Array<number>(sizeOf(inner));
  eachOffset(
    inner,
    strides.filter((_, i) => axes.includes(i)),
    (i, o) => {
      offsets[i] = o;
    },
  );
  eachOffset(
    outer,
    strides.filter((_, i) => !axes.includes(i)),
    (k, start) => visit(k, start, offsets),
  );
}

/** How a group of elements becomes one: `of` in double, `big` exactly. */
interface Combine {
  readonly of: (at: (i: number) => number, n: number) => number;
  readonly big: (at: (i: number) => bigint, n: number) => bigint;
}
const sum = (at: (i: number) => number, n: number): number => {
  let s = 0;
  for (let i = 0; i < n; i++) s += at(i);
  return s;
};
const bigSum = (at: (i: number) => bigint, n: number): bigint => {
  let s = 0n;
  for (let i = 0; i < n; i++) s += at(i);
  return s;
};
/** The same over doubles, cut to an integer. */
const rounded =
  (of: Combine['of']): Combine['big'] =>
  (at, n) => {
    const v = of((i) => Number(at(i)), n);
    return Number.isFinite(v) ? BigInt(Math.trunc(v)) : 0n;
  };
const logSum = (at: (i: number) => number, n: number): number => Math.log(sum(at, n));
const euclid = (at: (i: number) => number, n: number): number => Math.sqrt(sum((i) => at(i) ** 2, n));
const logSumExp = (at: (i: number) => number, n: number): number => {
  let top = -Infinity;
  for (let i = 0; i < n; i++) top = Math.max(top, at(i));
  return Math.abs(top) === Infinity ? top : top + Math.log(sum((i) => Math.exp(at(i) - top), n));
};

const HOW: Readonly<Record<string, Combine>> = {
  ReduceSum: { of: sum, big: bigSum },
  ReduceMean: { of: (at, n) => sum(at, n) / n, big: (at, n) => (n === 0 ? 0n : bigSum(at, n) / BigInt(n)) },
  ReduceProd: {
    of: (at, n) => {
      let p = 1;
      for (let i = 0; i < n; i++) p *= at(i);
      return p;
    },
    big: (at, n) => {
      let p = 1n;
      for (let i = 0; i < n; i++) p = BigInt.asUintN(64, p * at(i));
      return p;
    },
  },
  ReduceL1: {
    of: (at, n) => sum((i) => Math.abs(at(i)), n),
    big: (at, n) => bigSum((i) => (at(i) < 0n ? -at(i) : at(i)), n),
  },
  ReduceL2: { of: euclid, big: rounded(euclid) },
  ReduceSumSquare: { of: (at, n) => sum((i) => at(i) ** 2, n), big: (at, n) => bigSum((i) => at(i) ** 2n, n) },
  ReduceLogSum: { of: logSum, big: rounded(logSum) },
  ReduceLogSumExp: { of: logSumExp, big: rounded(logSumExp) },
};

/** Of an empty set the greatest is the least that the type has, and the least the greatest. */
function bounds(dtype: DType): { least: bigint; greatest: bigint } {
  const unsigned = dtype.startsWith('u') || dtype === 'bool';
  const bits = BigInt(dtype === 'bool' ? 1 : Number(/\d+/.exec(dtype)![0]));
  return unsigned
    ? { least: 0n, greatest: 2n ** bits - 1n }
    : { least: -(2n ** (bits - 1n)), greatest: 2n ** (bits - 1n) - 1n };
}
const extreme = (top: boolean, dtype: DType): Combine => ({
  of: (at, n) => {
    let m = top ? -Infinity : Infinity;
    for (let i = 0; i < n; i++) m = top ? Math.max(m, at(i)) : Math.min(m, at(i));
    return m;
  },
  big: (at, n) => {
    const { least, greatest } = bounds(dtype);
    let m = top ? least : greatest;
    for (let i = 0; i < n; i++) {
      const v = at(i);
      if (top ? v > m : v < m) m = v;
    }
    return m;
  },
});

/** The reference of every reduction. Integers are combined exactly and wrapped at the end. */
function reduce(t: Tensor, axes: readonly number[], shape: readonly number[], how: Combine): Tensor {
  const out = zeros(t.dtype, shape);
  if (/int|bool/.test(t.dtype)) {
    const from = bigints(t);
    const data = out.data as unknown as (bigint | number)[];
    const wide = isInt64(t.dtype);
    eachGroup(t.shape, axes, (k, start, offsets) => {
      const r = how.big((i) => from[start + offsets[i]!]!, offsets.length);
      data[k] = wide ? r : Number(BigInt.asIntN(32, r));
    });
    return out;
  }
  const from = numbers(t);
  const write = writer(out);
  eachGroup(t.shape, axes, (k, start, offsets) =>
    write(
      k,
      how.of((i) => from[start + offsets[i]!]!, offsets.length),
    ),
  );
  return out;
}

/** Axes are an attribute below opset 18, of ReduceSum below 13. */
const axesInput =
  (until: number) =>
  ({ attrs, inputs, opset, constant }: NormalizeCall): Normalized => {
    if (opset >= until) return { attrs };
    const axes = attrs.axes as readonly number[] | undefined;
    return {
      attrs: without(attrs, 'axes'),
      inputs: [inputs[0]!, axes === undefined ? null : constant(tensor('int64', [axes.length], axes))],
    };
  };

/** The axes that a call reduces; null: known only at run time. */
export function knownAxes(call: Call): readonly number[] | null {
  const given = call.inputs[1] ? (call.inputs[1].constant?.peek() ?? undefined) : null;
  return given === undefined ? null : reduction(call.inputs[0]!.shape, given && integers(given), call.attrs).axes;
}

const reducer = (op: string): Op => {
  const bools = op === 'ReduceMax' || op === 'ReduceMin';
  return defineOp({
    op,
    since: op === 'ReduceSum' ? [1, 11, 13] : bools ? [1, 11, 12, 13, 18, 20] : [1, 11, 13, 18],
    inputs: ['data: T', 'axes: int64?'],
    outputs: ['reduced: T'],
    types: { T: bools ? [...NUMERIC, 'bool'] : NUMERIC },
    attrs: { keepdims: int(1), noop_with_empty_axes: int(0) },
    normalize: axesInput(op === 'ReduceSum' ? 13 : 18),
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      const axes = call.inputs[1] ? integers(call.value(1)) : null;
      return [{ dtype, shape: reduction(shape, axes, call.attrs).shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const given = call.optional(1);
      const { axes, shape } = reduction(t.shape, given && integers(given), call.attrs);
      return [reduce(t, axes, shape, bools ? extreme(op === 'ReduceMax', t.dtype) : HOW[op]!)];
    },
  });
};

/** Reductions over axes: https://onnx.ai/onnx/operators/onnx__ReduceSum.html and its like */
export const reductions: readonly Op[] = [...Object.keys(HOW), 'ReduceMax', 'ReduceMin'].map(reducer);
