/** One shape function for `infer` and `reference`: both can say what they were given. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { integers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { Call, InferCall, OutFact, RefCall } from './define.ts';

/** What a shape function may ask of a node, whether it is being planned or run. */
export interface Given<A = any> {
  readonly attrs: A;
  /** How many outputs the node lists. */
  readonly outputs: number;
  readonly count: number;
  has(i: number): boolean;
  /** @throws input_missing */
  shape(i: number): readonly number[];
  dtype(i: number): DType;
  /** Input i itself; while planning, only where the output's shape depends on it. */
  value(i: number): Tensor;
}

interface Asked<A> {
  readonly inputs: readonly unknown[];
  readonly attrs: A;
  readonly outputs: number;
}
const of = <A>(call: Asked<A>, fact: (i: number) => OutFact, value: (i: number) => Tensor): Given<A> => ({
  attrs: call.attrs,
  outputs: call.outputs,
  count: call.inputs.length,
  has: (i) => (call.inputs[i] ?? null) !== null,
  shape: (i) => fact(i).shape,
  dtype: (i) => fact(i).dtype,
  value,
});

/** A shape function as a whole `infer`. */
export const infers =
  <A>(shapes: (given: Given<A>) => readonly OutFact[]) =>
  (call: InferCall<A>): readonly OutFact[] =>
    shapes(givenInfer(call));
const givenInfer = <A>(call: InferCall<A>): Given<A> =>
  of(
    call,
    (i) => call.fact(i),
    (i) => call.value(i),
  );
/** The same questions, asked of a node that runs. */
export const givenRun = <A>(call: RefCall<A>): Given<A> =>
  of(
    call,
    (i) => call.tensor(i),
    (i) => call.tensor(i),
  );

/** Input i as whole numbers, null when left out: a list of at most one dim. @throws shape_mismatch */
export function listOf(given: Given, i: number, what: string): number[] | null {
  if (!given.has(i)) return null;
  if (given.shape(i).length > 1) fail('shape_mismatch', `${what} has shape [${given.shape(i)}]; it must be a list`);
  return integers(given.value(i));
}

/** Input i as one number: a scalar or a list of one. @throws shape_mismatch */
export function scalarOf(given: Given, i: number, what: string): number {
  const list = given.shape(i).length <= 1 ? integers(given.value(i)) : [];
  if (list.length !== 1) fail('shape_mismatch', `${what} has shape [${given.shape(i)}]; it must be one number`);
  return list[0]!;
}

/** An attribute that a later opset made an input: the attribute's list as a constant. */
export const int64s = (values: readonly number[]): Tensor => ({
  dtype: 'int64',
  shape: [values.length],
  data: BigInt64Array.from(values, (v) => (v >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(v))),
});

/** `attrs` without some names. */
export const without = <T extends object>(attrs: T, ...names: readonly string[]): T =>
  Object.fromEntries(Object.entries(attrs).filter(([name]) => !names.includes(name))) as T;

/** The same questions, asked by a kernel's launch: values must be constants. */
export const givenCall = <A>(call: Call<A>): Given<A> => {
  const fact = (i: number): Fact => call.inputs[i] ?? fail('input_missing', `input ${i} is required`);
  return of(
    { inputs: call.inputs, attrs: call.attrs, outputs: call.outputs.length },
    fact,
    (i) => fact(i).constant?.peek() ?? fail('internal', `input ${i} is no constant in memory`),
  );
};
