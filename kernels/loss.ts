import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, INDEX, type InferCall, int, type Op, type OutFact, type RefCall, string } from './define.ts';

const ATTRS = { ignore_index: int(), reduction: string('mean') };
interface LossAttrs {
  readonly ignore_index?: number | undefined;
  readonly reduction: string;
}

/**
 * Scores are [N, C, d1, …], targets [N, d1, …], weights [C]. The loss is one number, or one for each target if there is
 * no reduction.
 */
function lossFact(call: InferCall<LossAttrs>): OutFact {
  const [scores, target] = [call.fact(0), call.fact(1)];
  const { reduction } = call.attrs;
  if (!['none', 'mean', 'sum'].includes(reduction))
    fail('attribute_invalid', `reduction must be none, mean or sum, not ${JSON.stringify(reduction)}`);
  if (scores.shape.length < 2)
    fail('shape_mismatch', `scores have shape [${scores.shape}]; their rank must be at least 2`);
  const [batch, classes, ...rest] = scores.shape as [number, number, ...number[]];
  if (String(target.shape) !== String([batch, ...rest]))
    fail(
      'shape_mismatch',
      `targets have shape [${target.shape}]; for scores of [${scores.shape}] it must be [${[batch, ...rest]}]`,
    );
  const weights: Fact | null = call.inputs[2] ?? null;
  if (weights && (weights.shape.length !== 1 || weights.shape[0] !== classes))
    fail('shape_mismatch', `weights have shape [${weights.shape}]; it must be [${classes}]`);
  return { dtype: scores.dtype, shape: reduction === 'none' ? target.shape : [] };
}

/**
 * Minus the weighted log-probability of each target. The mean is over the weights; an ignored target weighs nothing.
 */
function negativeLikelihood(call: RefCall<LossAttrs>, logProbability: ArrayLike<number>): Tensor {
  const scores = call.tensor(0);
  const [classes, inner] = [scores.shape[1]!, sizeOf(scores.shape.slice(2))];
  const target = call.tensor(1);
  const classOf = numbers(target);
  const given = call.optional(2);
  const weights = given && numbers(given);
  const losses = new Float64Array(classOf.length);
  let total = 0;
  for (let i = 0; i < classOf.length; i++) {
    const c = classOf[i]!;
    if (c === call.attrs.ignore_index) continue;
    if (c < 0 || c >= classes) fail('value_invalid', `target ${c} is no class: there are ${classes}`);
    const w = weights ? weights[c]! : 1;
    total += w;
    losses[i] = -w * logProbability[(Math.floor(i / inner) * classes + c) * inner + (i % inner)]!;
  }
  if (call.attrs.reduction === 'none') return fromNumbers(scores.dtype, target.shape, losses);
  const sum = losses.reduce((a, v) => a + v, 0);
  return fromNumbers(scores.dtype, [], [call.attrs.reduction === 'sum' ? sum : sum / total]);
}

/** log softmax over axis 1. */
function logSoftmax(t: Tensor): Float64Array {
  const [classes, inner] = [t.shape[1]!, sizeOf(t.shape.slice(2))];
  const from = numbers(t);
  const out = new Float64Array(from.length);
  for (let n = 0; n < t.shape[0]!; n++)
    for (let i = 0; i < inner; i++) {
      const at = (c: number): number => (n * classes + c) * inner + i;
      let top = -Infinity;
      for (let c = 0; c < classes; c++) top = Math.max(top, from[at(c)]!);
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += Math.exp(from[at(c)]! - top);
      for (let c = 0; c < classes; c++) out[at(c)] = from[at(c)]! - top - Math.log(sum);
    }
  return out;
}

/** https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html */
const nll: Op = defineOp({
  op: 'NegativeLogLikelihoodLoss',
  since: [12, 13, 22],
  inputs: ['input: T', 'target: Tind', 'weight: T?'],
  outputs: ['loss: T'],
  types: { T: FLOAT, Tind: INDEX },
  attrs: ATTRS,
  infer: (call) => [lossFact(call)],
  reference: (call) => [negativeLikelihood(call, numbers(call.tensor(0)))],
});

/** https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html */
const crossEntropy: Op = defineOp({
  op: 'SoftmaxCrossEntropyLoss',
  since: [12, 13],
  inputs: ['scores: T', 'labels: Tind', 'weights: T?'],
  outputs: ['output: T', 'log_prob: T?'],
  types: { T: FLOAT, Tind: INDEX },
  attrs: ATTRS,
  infer: (call) => [lossFact(call), { dtype: call.fact(0).dtype, shape: call.fact(0).shape }].slice(0, call.outputs),
  reference: (call) => {
    const t = call.tensor(0);
    const logProbability = logSoftmax(t);
    return [negativeLikelihood(call, logProbability), fromNumbers(t.dtype, t.shape, logProbability)].slice(
      0,
      call.outputs,
    );
  },
});

/** Losses of a classifier. */
export const losses: readonly Op[] = [nll, crossEntropy];
