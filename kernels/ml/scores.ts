/** What the operators of ai.onnx.ml share: rows of features, labels, and the transforms of scores. */
import type { DType } from '../../src/core/dtype.ts';
import { fail } from '../../src/core/errors.ts';
import type { Fact } from '../../src/core/graph.ts';
import { numbers } from '../../src/core/numbers.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import type { InferCall, OutFact } from '../define.ts';
import { sized } from '../elements.ts';
import { int64s } from '../given.ts';

/** Dtypes that most operators of the domain read. */
export const FEATURE: readonly DType[] = ['float32', 'float64', 'int64', 'int32'];

/** [rows, features] of a matrix; a vector is one row. */
export function rowsOf({ shape }: { readonly shape: readonly number[] }): [rows: number, features: number] {
  if (shape.length !== 1 && shape.length !== 2)
    fail('shape_mismatch', `the features have shape [${shape}]; they must be [N, F] or [F]`);
  const [rows, features] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!];
  if (features === 0 && rows > 2 ** 20) fail('model_too_large', `[${shape}] has too many rows of nothing`);
  return [rows, features];
}
/** Calls `visit` with each row of features. */
export function eachRow(t: Tensor, visit: (row: Float64Array, r: number) => void): void {
  const [rows, features] = rowsOf(t);
  const all = Float64Array.from(numbers(t));
  for (let r = 0; r < rows; r++) visit(all.subarray(r * features, (r + 1) * features), r);
}

/** Class labels: numbers or strings. */
export interface Labels {
  readonly classlabels_ints?: readonly number[] | undefined;
  readonly classlabels_int64s?: readonly number[] | undefined;
  readonly classlabels_strings?: readonly string[] | undefined;
}
export function labelsOf(attrs: Labels): readonly (number | string)[] {
  const ints = attrs.classlabels_ints ?? attrs.classlabels_int64s ?? [];
  const strings = attrs.classlabels_strings ?? [];
  if (ints.length === 0 && strings.length === 0) return fail('attribute_invalid', 'no class labels are given');
  if (ints.length > 0 && strings.length > 0)
    return fail('attribute_invalid', 'class labels must be numbers or strings, not both');
  return strings.length > 0 ? strings : ints;
}
/** The labels of the rows, of which there may be none, as a tensor. */
export const labelled = (chosen: readonly (number | string)[], labels: readonly (number | string)[]): Tensor =>
  typeof labels[0] === 'string'
    ? { dtype: 'string', shape: [chosen.length], data: chosen as string[] }
    : int64s(chosen as number[]);
/** Facts of a classifier's outputs: a label for each row, and `columns` scores. */
export const classified = (x: Fact, labels: readonly (number | string)[], columns: number): OutFact[] => [
  { dtype: typeof labels[0] === 'string' ? 'string' : 'int64', shape: [rowsOf(x)[0]] },
  sized('float32', [rowsOf(x)[0], columns]),
];
/** Facts of a regressor's output. */
export const regressed =
  (targets: number) =>
  (call: InferCall): OutFact[] => [sized('float32', [rowsOf(call.fact(0))[0], targets])];

const TRANSFORMS = ['NONE', 'SOFTMAX', 'LOGISTIC', 'SOFTMAX_ZERO', 'PROBIT'] as const;
export type Transform = (typeof TRANSFORMS)[number];
/** The transform of that name or number. @throws attribute_invalid */
export function transformOf(name: string | number): Transform {
  const found = typeof name === 'number' ? TRANSFORMS[name] : TRANSFORMS.find((t) => t === name);
  return (
    found ?? fail('attribute_invalid', `post_transform ${JSON.stringify(name)} must be one of ${TRANSFORMS.join(', ')}`)
  );
}

export const logistic = (v: number): number => (v >= 0 ? 1 / (1 + Math.exp(-v)) : 1 - 1 / (1 + Math.exp(v)));

/** The quantile function of the normal distribution, by Acklam's rational approximation; relative error 1.2e-9. */
function probit(p: number): number {
  if (!(p > 0 && p < 1)) return p === 0 ? -Infinity : p === 1 ? Infinity : NaN;
  const poly = (x: number, ...c: readonly number[]): number => c.reduce((sum, k) => sum * x + k, 0);
  const tail = (q: number): number =>
    poly(
      q,
      -7.784894002430293e-3,
      -3.223964580411365e-1,
      -2.400758277161838,
      -2.549732539343734,
      4.374664141464968,
      2.938163982698783,
    ) / poly(q, 7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1);
  if (p < 0.02425) return tail(Math.sqrt(-2 * Math.log(p)));
  if (p > 1 - 0.02425) return -tail(Math.sqrt(-2 * Math.log(1 - p)));
  const q = p - 0.5;
  const r = q * q;
  return (
    (q *
      poly(
        r,
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
      )) /
    poly(
      r,
      -5.447609879822406e1,
      1.615858368580409e2,
      -1.556989798598866e2,
      6.680131188771972e1,
      -1.328068155288572e1,
      1,
    )
  );
}

/** The scores of one row, transformed. */
export function transformed(scores: readonly number[], transform: Transform): number[] {
  switch (transform) {
    case 'NONE':
      return [...scores];
    case 'LOGISTIC':
      return scores.map(logistic);
    case 'PROBIT':
      return scores.map(probit);
    default: {
      const top = Math.max(...scores);
      const parts = scores.map((v) => (transform === 'SOFTMAX_ZERO' && Math.abs(v) <= 1e-7 ? 0 : Math.exp(v - top)));
      const sum = parts.reduce((a, b) => a + b, 0);
      return parts.map((v) => (sum === 0 ? 0 : v / sum));
    }
  }
}

/**
 * The two scores of a classifier of two classes that computes one: of the second class. `probability`: it is one
 * already, so that the first class has the rest; otherwise it is a margin, and the first class has its opposite.
 */
export function bothScores(score: number, transform: Transform, probability: boolean): number[] {
  if (transform === 'PROBIT') return [1 - probit(score), probit(score)];
  return probability ? [1 - score, score] : transformed([-score, score], transform);
}

/** Index of the largest; the first of equals. */
export function largest(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
