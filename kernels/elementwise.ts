/** What elementwise operators share: applying a scalar function over broadcast inputs, and wrapping narrow integers. */
import { BITS, type DType, isInt64 } from '../src/core/dtype.ts';
import type { Attrs } from '../src/core/graph.ts';
import { bigints, numbers, writer } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import {
  type AttrSchema,
  defineOp,
  type NormalizeCall,
  type Normalized,
  NUMERIC,
  type Op,
  type Values,
} from './define.ts';
import { type Ex, x } from './expr.ts';
import { broadcast, broadcasting, broadcastStrides, eachOffset, sameAs } from './shapes.ts';

/**
 * One element's arithmetic. `float` computes in double; `int` (default: `float`) has the integers below 64 bits, its
 * result wrapped on store; `big` has int64 and uint64, exactly.
 */
export interface Scalar {
  readonly float: (...v: number[]) => number | boolean;
  readonly int?: (...v: number[]) => number | boolean;
  readonly big?: (...v: bigint[]) => bigint | boolean;
}

/** The elements of a tensor of `shape`, repeated to fill the shape `to`. */
export function spread<T>(values: ArrayLike<T>, shape: readonly number[], to: readonly number[]): ArrayLike<T> {
  if (shape.length === to.length && shape.every((d, i) => d === to[i])) return values;
  const out = new Array<T>(sizeOf(to));
  eachOffset(to, broadcastStrides(shape, to), (i, o) => {
    out[i] = values[o]!;
  });
  return out;
}

function each<T, R>(
  columns: readonly ArrayLike<T>[],
  n: number,
  f: (...v: T[]) => R,
  put: (i: number, r: R) => void,
): void {
  const [a, b] = columns;
  if (columns.length === 1) for (let i = 0; i < n; i++) put(i, f(a![i]!));
  else if (columns.length === 2) for (let i = 0; i < n; i++) put(i, f(a![i]!, b![i]!));
  else for (let i = 0; i < n; i++) put(i, f(...columns.map((c) => c[i]!)));
}

/**
 * The reference of an elementwise operator: `f` over the inputs, broadcast. The first input's dtype decides which of
 * its functions.
 * `shapes` are the shapes under which the inputs are read, where they are not their own.
 */
export function pointwise(
  f: Scalar,
  inputs: readonly Tensor[],
  dtype: DType,
  shapes: readonly (readonly number[])[] = inputs.map((t) => t.shape),
): Tensor {
  const shape = broadcast(...shapes);
  const n = sizeOf(shape);
  const out = zeros(dtype, shape);
  const kind = inputs[0]!.dtype;
  if (isInt64(kind) && f.big) {
    const data = out.data as unknown as (bigint | number)[];
    const put = isInt64(dtype)
      ? (i: number, r: bigint | boolean): void => {
          data[i] = r as bigint;
        }
      : (i: number, r: bigint | boolean): void => {
          data[i] = Number(r);
        };
    each(
      inputs.map((t, k) => spread(bigints(t), shapes[k]!, shape)),
      n,
      f.big,
      put,
    );
    return out;
  }
  const write = writer(out);
  const one = f.int && /^u?int/.test(kind) ? f.int : f.float;
  each(
    inputs.map((t, k) => spread(numbers(t), shapes[k]!, shape)),
    n,
    one,
    (i, r) => write(i, Number(r)),
  );
  return out;
}

/** An integer expression cut to the width of `dtype`, for results that may not fit; others as they are. */
export const narrow = (e: Ex, dtype: DType): Ex =>
  (e.k === 'i32' || e.k === 'u32') && BITS[dtype] < 32 ? x.wrap(e, BITS[dtype]) : e;

/** `attrs` without some. */
export const without = (attrs: Attrs, ...names: readonly string[]): Attrs =>
  Object.fromEntries(Object.entries(attrs).filter(([name]) => !names.includes(name)));

/** Opset 1 hinted at memory reuse in an attribute, which means nothing. */
export const noHints = ({ attrs, opset }: NormalizeCall): Normalized => ({
  attrs: opset < 7 ? without(attrs, 'consumed_inputs') : attrs,
});

interface Unary<A extends AttrSchema> {
  readonly op: string;
  readonly since: readonly number[];
  readonly types: readonly DType[];
  readonly attrs?: A;
  /** Dtype of the output, where it is not the input's. */
  readonly to?: DType;
  /** Checks the attributes too. */
  readonly scalar: (attrs: Values<A>) => Scalar;
  readonly map: (v: Ex, attrs: Values<A>, output: DType) => Ex | null;
  readonly normalize?: (node: NormalizeCall) => Normalized;
}
/** An operator of one input, element by element. */
export const unary = <A extends AttrSchema = Record<never, never>>(u: Unary<A>): Op =>
  defineOp<A>({
    op: u.op,
    since: u.since,
    inputs: ['X: T'],
    outputs: [`Y: ${u.to ?? 'T'}`],
    types: { T: u.types },
    attrs: u.attrs ?? ({} as A),
    normalize: u.normalize ?? noHints,
    infer: (call) => {
      u.scalar(call.attrs);
      return sameAs(0, u.to)(call);
    },
    map: ([v], attrs, output) => u.map(v!, attrs, output),
    reference: (call) => {
      const t = call.tensor(0);
      return [pointwise(u.scalar(call.attrs), [t], u.to ?? t.dtype)];
    },
  });

interface Variadic {
  readonly op: string;
  readonly since: readonly number[];
  readonly types: readonly DType[];
  readonly fold: Scalar;
  readonly map: (inputs: readonly Ex[], output: DType) => Ex;
  readonly mean?: true;
}
/** An operator of any number of inputs, combined pair by pair. */
export const variadic = (v: Variadic): Op =>
  defineOp({
    op: v.op,
    since: v.since,
    inputs: ['data_0: T*'],
    outputs: ['result: T'],
    types: { T: v.types },
    attrs: {},
    normalize: noHints,
    infer: broadcasting(),
    map: (inputs, _, output) => v.map(inputs, output),
    reference: (call) => {
      const all = call.inputs.map((_, i) => call.tensor(i));
      const chain = <T, R>(f: ((a: T, b: T) => R) | undefined) =>
        f && ((...list: T[]): R => list.reduce((a, b) => f(a, b) as unknown as T) as unknown as R);
      const float = chain(v.fold.float)!;
      const big = chain(v.fold.big);
      return [
        pointwise(
          { float: v.mean ? (...list) => (float(...list) as number) / list.length : float, ...(big ? { big } : {}) },
          all,
          all[0]!.dtype,
        ),
      ];
    },
  });

/** Dtypes of bitwise operators. */
export const INTEGERS: readonly DType[] = NUMERIC.filter((d) => /^u?int/.test(d));
