import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type Call, defineOp, FLOAT, float, int, type NormalizeCall, type Normalized, type Op, type OutFact, required } from './define.ts';
import { noHints, without } from './elementwise.ts';
import { moments } from './norm.ts';
import type { NormForm } from './webgpu/rows.ts';

/** [batch, channels, inner]: a tensor of images or signals, channels first. */
export function planes(shape: readonly number[], least = 2): { batch: number; channels: number; inner: number } {
  if (shape.length < least) fail('shape_mismatch', `X has shape [${shape}]; its rank must be at least ${least}`);
  return { batch: shape[0]!, channels: shape[1] ?? 1, inner: sizeOf(shape.slice(2)) };
}
/** @throws shape_mismatch if a fact, where there is one, has another shape */
export function expectShape(fact: Fact | null | undefined, shape: readonly number[], what: string): void {
  if (fact && String(fact.shape) !== String(shape)) fail('shape_mismatch', `${what} has shape [${fact.shape}]; it must be [${shape}]`);
}

// ── batch normalisation ─────────────────────────────────────────────────────────────────────────────────────────────
/**
 * Up to opset 6 `is_test` says that this is no training; up to 9, that more than one output is wanted says that it is, and the
 * outputs end in the batch's own mean and variance. `spatial` = 0 keeps statistics for every position. Where nothing is learnt,
 * further outputs are the statistics as they came.
 */
function batchForm({ attrs, outputs, opset }: NormalizeCall): Normalized {
  if (opset >= 14) return { attrs };
  const training = opset < 7 ? !attrs.is_test : outputs.slice(1).some((v) => v !== null);
  return { attrs: { ...without(attrs, 'is_test', 'consumed_inputs', 'training_mode'), training_mode: training ? 1 : 0 } };
}
const perChannel = (shape: readonly number[], spatial: number): number[] => (spatial ? [shape[1] ?? 1] : shape.slice(1));

/** https://onnx.ai/onnx/operators/onnx__BatchNormalization.html */
const batchNorm: Op = defineOp({
  op: 'BatchNormalization', since: [1, 6, 7, 9, 14, 15], inputs: ['X: T', 'scale: T1', 'B: T1', 'input_mean: T2', 'input_var: T2'],
  outputs: ['Y: T', 'running_mean: T2?', 'running_var: T2?', 'saved_mean: T2?', 'saved_var: T2?'], types: { T: FLOAT, T1: FLOAT, T2: FLOAT },
  attrs: { epsilon: float(1e-5), momentum: float(0.9), training_mode: int(0), spatial: int(1) },
  normalize: batchForm,
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    if (shape.length === 0) fail('shape_mismatch', 'X must have at least one dim');
    const own = perChannel(shape, call.attrs.spatial);
    ['scale', 'B', 'mean', 'var'].forEach((what, i) => expectShape(call.fact(i + 1), own, what));
    const statistic: OutFact = { dtype: call.fact(3).dtype, shape: own };
    return [{ dtype, shape }, statistic, statistic, statistic, statistic].slice(0, call.outputs);
  },
  reference: (call) => {
    const { epsilon, momentum, training_mode, spatial } = call.attrs;
    const t = call.tensor(0);
    const own = perChannel(t.shape, spatial);
    const channels = sizeOf(own);
    const inner = spatial ? sizeOf(t.shape.slice(2)) : 1;
    const [from, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((i) => numbers(call.tensor(i))) as [ArrayLike<number>, ArrayLike<number>, ArrayLike<number>, ArrayLike<number>, ArrayLike<number>];
    const channelOf = (i: number): number => Math.floor(i / inner) % channels;
    let [m, v] = [Float64Array.from(mean), Float64Array.from(variance)];
    if (training_mode) {
      const count = from.length / channels;
      [m, v] = [new Float64Array(channels), new Float64Array(channels)];
      for (let i = 0; i < from.length; i++) m[channelOf(i)]! += from[i]! / count;
      for (let i = 0; i < from.length; i++) v[channelOf(i)]! += (from[i]! - m[channelOf(i)]!) ** 2 / count;
    }
    const y = Float64Array.from(from, (x, i) => { const c = channelOf(i); return ((x - m[c]!) / Math.sqrt(v[c]! + epsilon)) * scale[c]! + bias[c]!; });
    const statistic = (values: ArrayLike<number>): Tensor => fromNumbers(call.tensor(3).dtype, own, values);
    const running = (old: ArrayLike<number>, now: Float64Array): Tensor => statistic(now.map((x, c) => old[c]! * momentum + x * (1 - momentum)));
    return [fromNumbers(t.dtype, t.shape, y), running(mean, m), running(variance, v), statistic(m), statistic(v)].slice(0, call.outputs);
  },
});

// ── groups of channels ──────────────────────────────────────────────────────────────────────────────────────────────
/** Normalises each of `groups` equal runs of channels of each image. `affine` is applied to each element by its channel. */
export function groupNorm(from: ArrayLike<number>, batch: number, channels: number, inner: number, groups: number, epsilon: number, affine: (v: number, channel: number) => number): Float64Array {
  const y = new Float64Array(from.length);
  const n = (channels / groups) * inner;
  for (let g = 0; g < batch * groups; g++) {
    const { mean, scale } = moments(from, g * n, n, epsilon, true);
    for (let i = g * n; i < (g + 1) * n; i++) y[i] = affine((from[i]! - mean) * scale, Math.floor(i / inner) % channels);
  }
  return y;
}
/** @throws attribute_invalid */
export function checkGroups(channels: number, groups: number): void {
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) fail('attribute_invalid', `${channels} channels do not divide into ${groups} groups`);
}

/** An InstanceNormalization as rows, a channel each. */
export function instanceNormForm(call: Call): NormForm {
  const { batch, channels, inner } = planes(call.inputs[0]!.shape);
  const own = [channels, 1];
  return { rows: batch * channels, n: inner, epsilon: call.attrs.epsilon, centred: true, shape: [batch, channels, inner], scale: { input: 1, shape: own }, bias: { input: 2, shape: own } };
}
/** A GroupNormalization as rows, a group each. */
export function groupNormForm(call: Call): NormForm {
  const { batch, channels, inner } = planes(call.inputs[0]!.shape);
  const groups = call.attrs.num_groups!;
  const n = (channels / groups) * inner;
  const own = [call.attrs.scale_per_group ? groups : channels, 1];
  return { rows: batch * groups, n, epsilon: call.attrs.epsilon, centred: true, shape: call.attrs.scale_per_group ? [batch, groups, n] : [batch, channels, inner], scale: { input: 1, shape: own }, bias: { input: 2, shape: own } };
}

/** https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html */
const instanceNorm: Op = defineOp({
  op: 'InstanceNormalization', since: [1, 6, 22], inputs: ['input: T', 'scale: T', 'B: T'], outputs: ['output: T'], types: { T: FLOAT }, attrs: { epsilon: float(1e-5) },
  normalize: noHints,
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    const { channels } = planes(shape, 3);
    expectShape(call.fact(1), [channels], 'scale');
    expectShape(call.fact(2), [channels], 'B');
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { batch, channels, inner } = planes(t.shape);
    const [scale, bias] = [numbers(call.tensor(1)), numbers(call.tensor(2))];
    return [fromNumbers(t.dtype, t.shape, groupNorm(numbers(t), batch, channels, inner, channels, call.attrs.epsilon, (v, c) => v * scale[c]! + bias[c]!))];
  },
});

/** https://onnx.ai/onnx/operators/onnx__GroupNormalization.html. Below opset 21, scale and bias are of groups. */
const groupNormalization: Op = defineOp({
  op: 'GroupNormalization', since: [18, 21], inputs: ['X: T', 'scale: T', 'bias: T'], outputs: ['Y: T'], types: { T: FLOAT },
  attrs: { epsilon: float(1e-5), num_groups: required(int()), stash_type: int(1), scale_per_group: int(0) },
  normalize: ({ attrs, opset }) => ({ attrs: opset < 21 ? { ...attrs, scale_per_group: 1 } : attrs }),
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    const { channels } = planes(shape);
    const groups = call.attrs.num_groups!;
    checkGroups(channels, groups);
    const own = [call.attrs.scale_per_group ? groups : channels];
    expectShape(call.fact(1), own, 'scale');
    expectShape(call.fact(2), own, 'bias');
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { batch, channels, inner } = planes(t.shape);
    const groups = call.attrs.num_groups!;
    const [scale, bias] = [numbers(call.tensor(1)), numbers(call.tensor(2))];
    const per = call.attrs.scale_per_group ? channels / groups : 1;
    return [fromNumbers(t.dtype, t.shape, groupNorm(numbers(t), batch, channels, inner, groups, call.attrs.epsilon, (v, c) => v * scale[Math.floor(c / per)]! + bias[Math.floor(c / per)]!))];
  },
});

/** A ChannelNormalization as rows, a position each, whose elements lie a plane apart. */
export function channelNormForm({ inputs, attrs }: Call): NormForm {
  const { batch, channels, inner } = planes(inputs[0]!.shape);
  return { rows: batch * inner, n: channels, inner, epsilon: attrs.epsilon, centred: attrs.centred !== 0, shape: [channels], scale: { input: 1 }, bias: { input: 2 } };
}
/** Over the channels of each position; the mean is taken off if `centred`. Not an operator of ONNX: a rewrite makes it of LayerNormalization between Transposes. */
const channelNorm: Op = defineOp({
  op: 'sardonyx.ChannelNormalization', since: [1], inputs: ['X: T', 'scale: T', 'bias: T?'], outputs: ['Y: T'], types: { T: FLOAT }, attrs: { epsilon: float(1e-5), centred: int(1) },
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    const { channels } = planes(shape);
    expectShape(call.fact(1), [channels], 'scale');
    expectShape(call.inputs[2], [channels], 'bias');
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0), from = numbers(t), y = new Float64Array(from.length);
    const { batch, channels, inner } = planes(t.shape);
    const scale = numbers(call.tensor(1)), bias = call.optional(2) && numbers(call.tensor(2)), row = new Float64Array(channels);
    for (let r = 0; r < batch * inner; r++) {
      const at = Math.floor(r / inner) * channels * inner + (r % inner);
      for (let c = 0; c < channels; c++) row[c] = from[at + c * inner]!;
      const { mean, scale: by } = moments(row, 0, channels, call.attrs.epsilon, call.attrs.centred !== 0);
      for (let c = 0; c < channels; c++) y[at + c * inner] = (row[c]! - mean) * by * scale[c]! + (bias ? bias[c]! : 0);
    }
    return [fromNumbers(t.dtype, t.shape, y)];
  },
});

/** Normalisation by channels or groups of them: https://onnx.ai/onnx/operators/ */
export const channelNorms: readonly Op[] = [batchNorm, instanceNorm, groupNormalization, channelNorm];
