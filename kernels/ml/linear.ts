import { fail } from '../../src/core/errors.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import { defineOp, floats, int, ints, type Op, type RefCall, required, string, strings } from '../define.ts';
import {
  bothScores,
  classified,
  eachRow,
  FEATURE,
  labelled,
  labelsOf,
  largest,
  regressed,
  rowsOf,
  transformed,
  transformOf,
} from './scores.ts';

interface Linear {
  readonly coefficients: readonly number[];
  readonly intercepts: readonly number[] | undefined;
  readonly post_transform: string;
}

/** Checks that `outputs` rows of coefficients fit the features. */
function check({ coefficients, intercepts }: Linear, x: Fact, outputs: number): void {
  const [, features] = rowsOf(x);
  if (!(outputs >= 1) || coefficients.length !== outputs * features)
    fail('attribute_invalid', `${coefficients.length} coefficients are not ${outputs} times ${features} features`);
  if (intercepts && intercepts.length > 0 && intercepts.length !== outputs)
    fail('attribute_invalid', `${intercepts.length} intercepts for ${outputs} outputs`);
}
/** Products of a row with each row of coefficients, and the intercepts. */
const products = ({ coefficients, intercepts }: Linear, row: Float64Array, outputs: number): number[] =>
  Array.from({ length: outputs }, (_, k) =>
    row.reduce((sum, v, i) => sum + v * coefficients[k * row.length + i]!, intercepts?.[k] ?? 0),
  );

interface ClassifierAttrs extends Linear {
  readonly classlabels_ints: readonly number[] | undefined;
  readonly classlabels_strings: readonly string[] | undefined;
}
/**
 * Rows of coefficients (one may do for two classes), the labels (numbers from 0 when none are given), and the columns
 * of scores.
 */
function partsOf(
  attrs: ClassifierAttrs,
  features: number,
): { outputs: number; labels: readonly (number | string)[]; columns: number } {
  const outputs = features > 0 ? attrs.coefficients.length / features : (attrs.intercepts?.length ?? 1);
  const named = Boolean(attrs.classlabels_ints?.length || attrs.classlabels_strings?.length);
  const labels = named ? labelsOf(attrs) : Array.from({ length: Math.max(2, outputs) }, (_, i) => i);
  if (outputs === 1 ? labels.length > 2 : outputs !== labels.length)
    fail('attribute_invalid', `${outputs} rows of coefficients for ${labels.length} classes`);
  return { outputs, labels, columns: outputs === 1 && named ? labels.length : outputs };
}

function classify(call: RefCall<ClassifierAttrs>): Tensor[] {
  const { attrs } = call;
  const t = call.tensor(0);
  const [rows, features] = rowsOf(t);
  const { outputs, labels, columns } = partsOf(attrs, features);
  const transform = transformOf(attrs.post_transform);
  const chosen: (string | number)[] = [];
  const out: number[] = [];
  eachRow(t, (row) => {
    const scores = products(attrs, row, outputs);
    if (outputs > 1) {
      chosen.push(labels[largest(scores)]!);
      out.push(...transformed(scores, transform));
    } else {
      const [score = 0] = scores;
      chosen.push(labels.length === 1 ? labels[0]! : labels[score > 0 ? 1 : 0]!);
      if (columns === 1) out.push(...transformed(scores, transform));
      else out.push(...bothScores(score, transform, transform === 'NONE'));
    }
  });
  return [labelled(chosen, labels), { dtype: 'float32', shape: [rows, columns], data: Float32Array.from(out) }];
}

/**
 * https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html,
 * https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html
 */
export const linear: readonly Op[] = [
  defineOp({
    op: 'ai.onnx.ml.LinearClassifier',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: L', 'Z: float32'],
    types: { T: FEATURE, L: ['string', 'int64'] },
    attrs: {
      classlabels_ints: ints(),
      classlabels_strings: strings(),
      coefficients: required(floats()),
      intercepts: floats(),
      multi_class: int(0),
      post_transform: string('NONE'),
    },
    infer: (call) => {
      const x = call.fact(0);
      const { outputs, labels, columns } = partsOf(call.attrs, rowsOf(x)[1]);
      check(call.attrs, x, outputs);
      transformOf(call.attrs.post_transform);
      return classified(x, labels, columns);
    },
    reference: classify,
  }),
  defineOp({
    op: 'ai.onnx.ml.LinearRegressor',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: FEATURE },
    attrs: { coefficients: required(floats()), intercepts: floats(), post_transform: string('NONE'), targets: int(1) },
    infer: (call) => {
      check(call.attrs, call.fact(0), call.attrs.targets);
      transformOf(call.attrs.post_transform);
      return regressed(call.attrs.targets)(call);
    },
    reference: (call) => {
      const t = call.tensor(0);
      const out: number[] = [];
      eachRow(t, (row) =>
        out.push(...transformed(products(call.attrs, row, call.attrs.targets), transformOf(call.attrs.post_transform))),
      );
      return [{ dtype: 'float32', shape: [rowsOf(t)[0], call.attrs.targets], data: Float32Array.from(out) }];
    },
  }),
];
