import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf } from '../src/core/tensor.ts';
import {
  defineOp,
  FLOAT,
  float,
  floats,
  type InferCall,
  int,
  ints,
  type Op,
  type OutFact,
  required,
} from './define.ts';
import { noHints } from './elementwise.ts';
import { checkGroups, groupNorm } from './norm-channel.ts';
import { axesOf, axisOf, eachOffset, expectShape, planes } from './shapes.ts';
import { sigmoid } from './special.ts';

const MS_GROUP = { epsilon: float(1e-5), groups: required(int()), activation: required(int()), channels_last: int(1) };
function msGroupFacts(call: InferCall): OutFact {
  const { dtype, shape } = call.fact(0);
  if (shape.length !== 4) fail('shape_mismatch', `X has shape [${shape}]; its rank must be 4`);
  const channels = shape[call.attrs.channels_last ? 3 : 1]!;
  checkGroups(channels, call.attrs.groups);
  if (call.attrs.activation !== 0 && call.attrs.activation !== 1)
    fail('attribute_invalid', `activation must be 0 (none) or 1 (SiLU), not ${call.attrs.activation}`);
  expectShape(call.fact(1), [channels], 'gamma');
  expectShape(call.fact(2), [channels], 'beta');
  return { dtype, shape };
}
/**
 * Reads `from`, of shape [N, H, W, C] or [N, C, H, W], channels first. `index[i]` is where element i then lies in it.
 */
function channelsFirst(shape: readonly number[], last: boolean): { dims: number[]; index: Float64Array } {
  const order = last ? [0, 3, 1, 2] : [0, 1, 2, 3];
  const dims = order.map((d) => shape[d]!);
  const index = new Float64Array(sizeOf(shape));
  eachOffset(
    dims,
    order.map((d) => stridesOf(shape)[d]!),
    (i, o) => {
      index[i] = o;
    },
  );
  return { dims, index };
}
function msGroup(
  x: ArrayLike<number>,
  shape: readonly number[],
  gamma: ArrayLike<number>,
  beta: ArrayLike<number>,
  attrs: {
    readonly epsilon: number;
    readonly groups?: number | undefined;
    readonly activation?: number | undefined;
    readonly channels_last: number;
  },
): Float64Array {
  const { dims, index } = channelsFirst(shape, attrs.channels_last !== 0);
  const { batch, channels, inner } = planes(dims);
  const y = groupNorm(
    Float64Array.from(index, (o) => x[o]!),
    batch,
    channels,
    inner,
    attrs.groups!,
    attrs.epsilon,
    (v, c) => {
      const r = v * gamma[c]! + beta[c]!;
      return attrs.activation ? r * sigmoid(r) : r;
    },
  );
  const out = new Float64Array(y.length);
  index.forEach((o, i) => {
    out[o] = y[i]!;
  });
  return out;
}
/** Of ONNX Runtime: channels last, and a SiLU after it if wanted. */
const msGroupNorm: Op = defineOp({
  op: 'com.microsoft.GroupNorm',
  since: [1],
  inputs: ['X: T', 'gamma: M', 'beta: M'],
  outputs: ['Y: T'],
  types: { T: FLOAT, M: FLOAT },
  attrs: MS_GROUP,
  infer: (call) => [msGroupFacts(call)],
  reference: (call) => {
    const t = call.tensor(0);
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        msGroup(numbers(t), t.shape, numbers(call.tensor(1)), numbers(call.tensor(2)), call.attrs),
      ),
    ];
  },
});
/** The same of X + skip + bias, which is the second output. */
const msSkipGroupNorm: Op = defineOp({
  op: 'com.microsoft.SkipGroupNorm',
  since: [1],
  inputs: ['X: T', 'gamma: M', 'beta: M', 'skip: T', 'bias: T?'],
  outputs: ['Y: T', 'S: T?'],
  types: { T: FLOAT, M: FLOAT },
  attrs: MS_GROUP,
  infer: (call) => {
    const out = msGroupFacts(call);
    const [n, h, w, c] = (call.attrs.channels_last ? out.shape : [0, 2, 3, 1].map((d) => out.shape[d]!)) as [
      number,
      number,
      number,
      number,
    ];
    const skip = call.fact(3).shape;
    const allowed = [out.shape, [n, c], call.attrs.channels_last ? [n, 1, 1, c] : [n, c, 1, 1]];
    if (!allowed.some((s) => String(s) === String(skip)))
      fail(
        'shape_mismatch',
        `skip has shape [${skip}]; it must be like X, ${n}x${h}x${w} of ${c} channels, or one number for each channel`,
      );
    expectShape(call.inputs[4], [c], 'bias');
    return [out, out].slice(0, call.outputs);
  },
  reference: (call) => {
    const [t, skip, bias] = [call.tensor(0), call.tensor(3), call.optional(4)];
    const [x, s, b] = [numbers(t), numbers(skip), bias && numbers(bias)];
    const { dims, index } = channelsFirst(t.shape, call.attrs.channels_last !== 0);
    const { channels, inner } = planes(dims);
    const whole = sizeOf(skip.shape) === sizeOf(t.shape);
    const sum = new Float64Array(x.length);
    index.forEach((o, i) => {
      const plane = Math.floor(i / inner);
      sum[o] = x[o]! + s[whole ? o : plane]! + (b ? b[plane % channels]! : 0);
    });
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        msGroup(sum, t.shape, numbers(call.tensor(1)), numbers(call.tensor(2)), call.attrs),
      ),
      fromNumbers(t.dtype, t.shape, sum),
    ].slice(0, call.outputs);
  },
});

// ── others ──────────────────────────────────────────────────────────────────────────────────────────────────────────
/** https://onnx.ai/onnx/operators/onnx__LpNormalization.html. A vector of norm 0 stays 0. */
const lpNorm: Op = defineOp({
  op: 'LpNormalization',
  since: [1, 22],
  inputs: ['input: T'],
  outputs: ['output: T'],
  types: { T: FLOAT },
  attrs: { axis: int(-1), p: int(2) },
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    axisOf(call.attrs.axis, shape.length);
    if (call.attrs.p !== 1 && call.attrs.p !== 2) fail('attribute_invalid', `p must be 1 or 2, not ${call.attrs.p}`);
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const axis = axisOf(call.attrs.axis, t.shape.length);
    const [n, inner] = [t.shape[axis]!, sizeOf(t.shape.slice(axis + 1))];
    const from = numbers(t);
    const y = new Float64Array(from.length);
    for (let row = 0; row < (n === 0 ? 0 : from.length / n); row++) {
      const at = (k: number): number => Math.floor(row / inner) * n * inner + k * inner + (row % inner);
      let norm = 0;
      for (let k = 0; k < n; k++) norm += call.attrs.p === 1 ? Math.abs(from[at(k)]!) : from[at(k)]! ** 2;
      if (call.attrs.p === 2) norm = Math.sqrt(norm);
      for (let k = 0; k < n; k++) y[at(k)] = norm === 0 ? 0 : from[at(k)]! / norm;
    }
    return [fromNumbers(t.dtype, t.shape, y)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html */
const meanVariance: Op = defineOp({
  op: 'MeanVarianceNormalization',
  since: [1, 9, 13],
  inputs: ['X: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { axes: ints([0, 2, 3]) },
  normalize: ({ attrs, opset }) =>
    opset >= 9
      ? { attrs }
      : attrs.normalize_variance === 0
        ? fail('op_unsupported', 'MeanVarianceNormalization of opset 1 with normalize_variance = 0')
        : { attrs: { axes: attrs.across_channels ? [0, 1, 2, 3] : [0, 2, 3] } },
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    axesOf(call.attrs.axes, shape.length);
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const axes = axesOf(call.attrs.axes, t.shape.length);
    const kept = t.shape.map((d, i) => (axes.includes(i) ? 1 : d));
    const strides = stridesOf(kept).map((s, i) => (axes.includes(i) ? 0 : s));
    const groups = sizeOf(kept);
    const from = numbers(t);
    const n = from.length / groups;
    const group = new Float64Array(from.length);
    eachOffset(t.shape, strides, (i, o) => {
      group[i] = o;
    });
    const [mean, square, y] = [new Float64Array(groups), new Float64Array(groups), new Float64Array(from.length)];
    for (let i = 0; i < from.length; i++) mean[group[i]!]! += from[i]! / n;
    for (let i = 0; i < from.length; i++) square[group[i]!]! += (from[i]! - mean[group[i]!]!) ** 2 / n;
    for (let i = 0; i < from.length; i++) y[i] = (from[i]! - mean[group[i]!]!) / (Math.sqrt(square[group[i]!]!) + 1e-9);
    return [fromNumbers(t.dtype, t.shape, y)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__LRN.html */
const lrn: Op = defineOp({
  op: 'LRN',
  since: [1, 13],
  inputs: ['X: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { alpha: float(1e-4), beta: float(0.75), bias: float(1), size: required(int()) },
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    planes(shape);
    const size = call.attrs.size!;
    if (!Number.isInteger(size) || size < 1) fail('attribute_invalid', `size must be at least 1, not ${size}`);
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { alpha, beta, bias } = call.attrs;
    const size = call.attrs.size!;
    const { channels, inner } = planes(t.shape);
    const from = numbers(t);
    const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        Float64Array.from(from, (v, i) => {
          const c = Math.floor(i / inner) % channels;
          let square = 0;
          for (let k = Math.max(0, c - before); k <= Math.min(channels - 1, c + after); k++)
            square += from[i + (k - c) * inner]! ** 2;
          return v / (bias + (alpha / size) * square) ** beta;
        }),
      ),
    ];
  },
});

/** An experimental operator of old exporters: images scaled by a number, and a bias added to each channel. */
const imageScaler: Op = defineOp({
  op: 'ImageScaler',
  since: [1],
  inputs: ['input: T'],
  outputs: ['output: T'],
  types: { T: FLOAT },
  attrs: { scale: float(1), bias: floats([]) },
  normalize: noHints,
  infer: (call) => {
    const { dtype, shape } = call.fact(0);
    if (shape.length !== 4) fail('shape_mismatch', `input has shape [${shape}]; its rank must be 4`);
    if (call.attrs.bias.length !== 0 && call.attrs.bias.length !== shape[1])
      fail('attribute_invalid', `${call.attrs.bias.length} biases for ${shape[1]} channels`);
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const { scale, bias } = call.attrs;
    const { channels, inner } = planes(t.shape);
    return [
      fromNumbers(
        t.dtype,
        t.shape,
        Float64Array.from(numbers(t), (v, i) => v * scale + (bias[Math.floor(i / inner) % channels] ?? 0)),
      ),
    ];
  },
});

/** Normalisations that fewer models use: https://onnx.ai/onnx/operators/ */
export const otherNorms: readonly Op[] = [msGroupNorm, msSkipGroupNorm, lpNorm, meanVariance, lrn, imageScaler];
