import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { type Call, defineOp, FLOAT, float, int, type Op, required } from './define.ts';
import { noHints } from './elementwise.ts';
import { moments } from './norm.ts';
import type { NormForm } from './webgpu/norm-rows.ts';
import { expectShape, planes } from './shapes.ts';

/**
 * Normalises each of `groups` equal runs of channels of each image. `affine` is applied to each element by its channel.
 */
export function groupNorm(
  from: ArrayLike<number>,
  batch: number,
  channels: number,
  inner: number,
  groups: number,
  epsilon: number,
  affine: (v: number, channel: number) => number,
): Float64Array {
  const y = new Float64Array(from.length);
  const n = (channels / groups) * inner;
  for (let g = 0; g < batch * groups; g++) {
    const { mean, scale } = moments(from, g * n, n, epsilon, true);
    for (let i = g * n; i < (g + 1) * n; i++)
      y[i] = affine((from[i]! - mean) * scale, Math.floor(i / inner) % channels);
  }
  return y;
}
/** @throws attribute_invalid */
export function checkGroups(channels: number, groups: number): void {
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0)
    fail('attribute_invalid', `${channels} channels do not divide into ${groups} groups`);
}

/** An InstanceNormalization as rows, a channel each. */
export function instanceNormForm(call: Call): NormForm {
  const { batch, channels, inner } = planes(call.inputs[0]!.shape);
  const own = [channels, 1];
  return {
    rows: batch * channels,
    n: inner,
    epsilon: call.attrs.epsilon,
    centred: true,
    shape: [batch, channels, inner],
    scale: { input: 1, shape: own },
    bias: { input: 2, shape: own },
  };
}
/** A GroupNormalization as rows, a group each. */
export function groupNormForm(call: Call): NormForm {
  const { batch, channels, inner } = planes(call.inputs[0]!.shape);
  const groups = call.attrs.num_groups!;
  const n = (channels / groups) * inner;
  const own = [call.attrs.scale_per_group ? groups : channels, 1];
  return {
    rows: batch * groups,
    n,
    epsilon: call.attrs.epsilon,
    centred: true,
    shape: call.attrs.scale_per_group ? [batch, groups, n] : [batch, channels, inner],
    scale: { input: 1, shape: own },
    bias: { input: 2, shape: own },
  };
}

/** https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html */
const instanceNorm: Op = defineOp({
  op: 'InstanceNormalization',
  since: [1, 6, 22],
  inputs: ['input: T', 'scale: T', 'B: T'],
  outputs: ['output: T'],
  types: { T: FLOAT },
  attrs: { epsilon: float(1e-5) },
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
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        groupNorm(numbers(t), batch, channels, inner, channels, call.attrs.epsilon, (v, c) => v * scale[c]! + bias[c]!),
      ),
    ];
  },
});

/** https://onnx.ai/onnx/operators/onnx__GroupNormalization.html. Below opset 21, scale and bias are of groups. */
const groupNormalization: Op = defineOp({
  op: 'GroupNormalization',
  since: [18, 21],
  inputs: ['X: T', 'scale: T', 'bias: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
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
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        groupNorm(
          numbers(t),
          batch,
          channels,
          inner,
          groups,
          call.attrs.epsilon,
          (v, c) => v * scale[Math.floor(c / per)]! + bias[Math.floor(c / per)]!,
        ),
      ),
    ];
  },
});

/** A ChannelNormalization as rows, a position each, whose elements lie a plane apart. */
export function channelNormForm({ inputs, attrs }: Call): NormForm {
  const { batch, channels, inner } = planes(inputs[0]!.shape);
  return {
    rows: batch * inner,
    n: channels,
    inner,
    epsilon: attrs.epsilon,
    centred: attrs.centred !== 0,
    shape: [channels],
    scale: { input: 1 },
    bias: { input: 2 },
  };
}
/**
 * Over the channels of each position; the mean is taken off if `centred`. Not an operator of ONNX: a rewrite makes it
 * of LayerNormalization between Transposes.
 */
const channelNorm: Op = defineOp({
  op: 'sardonyx.ChannelNormalization',
  since: [1],
  inputs: ['X: T', 'scale: T', 'bias: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { epsilon: float(1e-5), centred: int(1) },
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    const { channels } = planes(shape);
    expectShape(call.fact(1), [channels], 'scale');
    expectShape(call.inputs[2], [channels], 'bias');
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const from = numbers(t);
    const y = new Float64Array(from.length);
    const { batch, channels, inner } = planes(t.shape);
    const scale = numbers(call.tensor(1));
    const bias = call.optional(2) && numbers(call.tensor(2));
    const row = new Float64Array(channels);
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
export const channelNorms: readonly Op[] = [instanceNorm, groupNormalization, channelNorm];
