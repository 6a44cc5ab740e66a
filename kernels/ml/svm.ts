import { fail } from '../../src/core/errors.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import { defineOp, floats, int, ints, type Op, type RefCall, string, strings } from '../define.ts';
import {
  bothScores,
  classified,
  eachRow,
  FEATURE,
  labelled,
  labelsOf,
  largest,
  logistic,
  regressed,
  rowsOf,
  transformed,
  transformOf,
} from './scores.ts';

interface SvmAttrs {
  readonly coefficients: readonly number[];
  readonly kernel_params: readonly number[];
  readonly kernel_type: string;
  readonly post_transform: string;
  readonly rho: readonly number[];
  readonly support_vectors: readonly number[];
}
interface ClassifierAttrs extends SvmAttrs {
  readonly classlabels_ints: readonly number[] | undefined;
  readonly classlabels_strings: readonly string[] | undefined;
  readonly prob_a: readonly number[];
  readonly prob_b: readonly number[];
  readonly vectors_per_class: readonly number[];
}

/** The kernel of two vectors of `n` elements, the second at `at` of a list. */
function kernelOf({
  kernel_type,
  kernel_params,
}: SvmAttrs): (row: Float64Array, list: readonly number[], at: number) => number {
  const [gamma = 0, coef0 = 0, degree = 0] = kernel_params;
  const dot = (row: Float64Array, list: readonly number[], at: number): number =>
    row.reduce((sum, v, i) => sum + v * list[at + i]!, 0);
  switch (kernel_type) {
    case 'LINEAR':
      return dot;
    case 'POLY':
      return (a, b, at) => (gamma * dot(a, b, at) + coef0) ** degree;
    case 'SIGMOID':
      return (a, b, at) => Math.tanh(gamma * dot(a, b, at) + coef0);
    case 'RBF':
      return (a, b, at) => Math.exp(-gamma * a.reduce((sum, v, i) => sum + (v - b[at + i]!) ** 2, 0));
    default:
      return fail(
        'attribute_invalid',
        `kernel_type ${JSON.stringify(kernel_type)} must be LINEAR, POLY, RBF or SIGMOID`,
      );
  }
}

/** The parts of a classifier, their sizes checked. No support vectors: one linear function for each class. */
function partsOf(
  attrs: ClassifierAttrs,
  features: number,
): { labels: readonly (number | string)[]; vectors: number; pairs: number; proba: boolean; columns: number } {
  const labels = labelsOf(attrs);
  const k = labels.length;
  const vectors = attrs.vectors_per_class.reduce((a, b) => a + b, 0);
  kernelOf(attrs);
  transformOf(attrs.post_transform);
  if (attrs.vectors_per_class.some((n) => n < 0))
    fail('attribute_invalid', `vectors_per_class is [${attrs.vectors_per_class}]`);
  const pairs = (k * (k - 1)) / 2;
  if (vectors === 0) {
    if (attrs.coefficients.length !== k * features || attrs.rho.length < 1) {
      fail(
        'attribute_invalid',
        `${attrs.coefficients.length} coefficients and ${attrs.rho.length} rho for ${k} classes of ${features} features`,
      );
    }
    return { labels, vectors, pairs, proba: false, columns: k };
  }
  if (
    k < 2 ||
    attrs.vectors_per_class.length !== k ||
    attrs.support_vectors.length !== vectors * features ||
    attrs.coefficients.length < (k - 1) * vectors ||
    attrs.rho.length < pairs
  ) {
    fail(
      'attribute_invalid',
      `${attrs.support_vectors.length} elements of support vectors, ${attrs.coefficients.length} coefficients and ${attrs.rho.length} rho do not fit ${vectors} vectors of ${features} features in ${k} classes`,
    );
  }
  const proba = attrs.prob_a.length > 0;
  if (proba && (attrs.prob_a.length < pairs || attrs.prob_b.length < pairs)) {
    fail(
      'attribute_invalid',
      `${attrs.prob_a.length} prob_a and ${attrs.prob_b.length} prob_b for ${pairs} pairs of classes`,
    );
  }
  return { labels, vectors, pairs, proba, columns: proba ? k : k === 2 ? 2 : pairs };
}

/**
 * Class probabilities from those of each pair, r[i * k + j] that of i against j: the second method of Wu, Lin and Weng,
 * "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004).
 */
function coupled(r: Float64Array, k: number): number[] {
  const q = new Float64Array(k * k);
  for (let t = 0; t < k; t++)
    for (let j = 0; j < k; j++) {
      if (j === t) continue;
      q[t * k + t]! += r[j * k + t]! ** 2;
      q[t * k + j] = -r[j * k + t]! * r[t * k + j]!;
    }
  const p = new Array<number>(k).fill(1 / k);
  const product = (t: number): number => p.reduce((sum, v, j) => sum + q[t * k + j]! * v, 0);
  for (let turn = 0; turn < Math.max(100, k); turn++) {
    const qp = p.map((_, t) => product(t));
    let whole = p.reduce((sum, v, t) => sum + v * qp[t]!, 0);
    if (qp.every((v) => Math.abs(v - whole) < 0.005 / k)) break;
    for (let t = 0; t < k; t++) {
      const diag = q[t * k + t]!;
      const step = (whole - qp[t]!) / diag;
      whole = (whole + step * (step * diag + 2 * qp[t]!)) / (1 + step) ** 2;
      for (let j = 0; j < k; j++) {
        qp[j] = (qp[j]! + step * q[t * k + j]!) / (1 + step);
        p[j] = (p[j]! + (j === t ? step : 0)) / (1 + step);
      }
    }
  }
  return p;
}

/** Decision value of each pair of classes, and the votes that they are. */
function decide(
  attrs: ClassifierAttrs,
  row: Float64Array,
  k: number,
  vectors: number,
): { scores: number[]; votes: number[] } {
  const kernel = kernelOf(attrs);
  const near = Array.from({ length: vectors }, (_, v) => kernel(row, attrs.support_vectors, v * row.length));
  const starts = attrs.vectors_per_class.map((_, i, all) => all.slice(0, i).reduce((a, b) => a + b, 0));
  const part = (line: number, c: number): number => {
    let sum = 0;
    for (let v = starts[c]!, end = v + attrs.vectors_per_class[c]!; v < end; v++)
      sum += attrs.coefficients[line * vectors + v]! * near[v]!;
    return sum;
  };
  const scores: number[] = [];
  const votes = new Array<number>(k).fill(0);
  for (let i = 0; i < k; i++)
    for (let j = i + 1; j < k; j++) {
      const score = attrs.rho[scores.length]! + part(j - 1, i) + part(i, j);
      scores.push(score);
      votes[score > 0 ? i : j]!++;
    }
  return { scores, votes };
}

function classify(call: RefCall<ClassifierAttrs>): Tensor[] {
  const { attrs } = call;
  const t = call.tensor(0);
  const [rows, features] = rowsOf(t);
  const { labels, vectors, proba, columns } = partsOf(attrs, features);
  const k = labels.length;
  const transform = transformOf(attrs.post_transform);
  const linear = kernelOf({ ...attrs, kernel_type: 'LINEAR' });
  const chosen: (string | number)[] = [];
  const out: number[] = [];
  eachRow(t, (row) => {
    if (vectors === 0) {
      const scores = labels.map((_, c) => attrs.rho[0]! + linear(row, attrs.coefficients, c * features));
      chosen.push(labels[largest(scores)]!);
      out.push(...transformed(scores, transform));
      return;
    }
    const { scores, votes } = decide(attrs, row, k, vectors);
    if (proba) {
      const pairwise = new Float64Array(k * k);
      let at = 0;
      for (let i = 0; i < k; i++)
        for (let j = i + 1; j < k; j++) {
          const p = Math.min(
            1 - 1e-7,
            Math.max(1e-7, logistic(-(scores[at]! * attrs.prob_a[at]! + attrs.prob_b[at]!))),
          );
          pairwise[i * k + j] = p;
          pairwise[j * k + i] = 1 - p;
          at++;
        }
      chosen.push(labels[largest(votes)]!);
      out.push(...transformed(coupled(pairwise, k), transform));
    } else {
      chosen.push(labels[largest(votes)]!);
      out.push(...(k === 2 ? bothScores(scores[0]!, transform, false) : transformed(scores, transform)));
    }
  });
  return [labelled(chosen, labels), { dtype: 'float32', shape: [rows, columns], data: Float32Array.from(out) }];
}

interface RegressorAttrs extends SvmAttrs {
  readonly n_supports: number;
  readonly one_class: number;
}
function checkRegressor(attrs: RegressorAttrs, x: Fact): void {
  const [, features] = rowsOf(x);
  const { n_supports: n } = attrs;
  kernelOf(attrs);
  transformOf(attrs.post_transform);
  if (
    attrs.rho.length < 1 ||
    (n > 0
      ? attrs.support_vectors.length !== n * features || attrs.coefficients.length !== n
      : attrs.coefficients.length !== features)
  ) {
    fail(
      'attribute_invalid',
      `${attrs.coefficients.length} coefficients, ${attrs.support_vectors.length} elements of support vectors and ${attrs.rho.length} rho do not fit ${n} vectors of ${features} features`,
    );
  }
}

const shared = {
  coefficients: floats([]),
  kernel_params: floats([]),
  kernel_type: string('LINEAR'),
  post_transform: string('NONE'),
  rho: floats([]),
  support_vectors: floats([]),
};

/**
 * https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html,
 * https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html
 */
export const svm: readonly Op[] = [
  defineOp({
    op: 'ai.onnx.ml.SVMClassifier',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: L', 'Z: float32'],
    types: { T: FEATURE, L: ['string', 'int64'] },
    attrs: {
      ...shared,
      classlabels_ints: ints(),
      classlabels_strings: strings(),
      prob_a: floats([]),
      prob_b: floats([]),
      vectors_per_class: ints([]),
    },
    infer: (call) => {
      const { labels, columns } = partsOf(call.attrs, rowsOf(call.fact(0))[1]);
      return classified(call.fact(0), labels, columns);
    },
    reference: classify,
  }),
  defineOp({
    op: 'ai.onnx.ml.SVMRegressor',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: FEATURE },
    attrs: { ...shared, n_supports: int(0), one_class: int(0) },
    infer: (call) => {
      checkRegressor(call.attrs, call.fact(0));
      return regressed(1)(call);
    },
    reference: (call) => {
      const { attrs } = call;
      const t = call.tensor(0);
      const kernel = kernelOf(attrs.n_supports > 0 ? attrs : { ...attrs, kernel_type: 'LINEAR' });
      const out = new Float32Array(rowsOf(t)[0]);
      eachRow(t, (row, r) => {
        let sum = attrs.rho[0]!;
        if (attrs.n_supports === 0) sum += kernel(row, attrs.coefficients, 0);
        for (let v = 0; v < attrs.n_supports; v++)
          sum += attrs.coefficients[v]! * kernel(row, attrs.support_vectors, v * row.length);
        out[r] = attrs.one_class ? (sum > 0 ? 1 : -1) : transformed([sum], transformOf(attrs.post_transform))[0]!;
      });
      return [{ dtype: 'float32', shape: [out.length, 1], data: out }];
    },
  }),
];
