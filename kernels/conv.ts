import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import {
  defineOp,
  FLOAT,
  floats,
  type InferCall,
  ints,
  type Op,
  type OutFact,
  type RefCall,
  string,
} from './define.ts';
import { convSum } from './conv-sum.ts';
import { addBias, convolve, convolveTransposed, toChannelsFirst, toChannelsLast } from './conv-direct.ts';
import { convShape } from './conv-shape.ts';
import { convAttrs, type Window, type WindowAttrs, windowOfTranspose } from './conv-window.ts';
import { reals } from './matmul-product.ts';
import { activation } from './rnn-activation.ts';

const inferConv = (call: InferCall): OutFact[] => [
  {
    dtype: call.fact(0).dtype,
    shape: convShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs).shape,
  },
];

/** Y before rounding, with its shape. */
function convValues(call: RefCall<WindowAttrs>): { y: Float64Array; shape: readonly number[] } {
  const x = call.tensor(0);
  const w = call.tensor(1);
  const bias = call.optional(2);
  const { window, shape } = convShape(x.shape, w.shape, bias?.shape ?? null, call.attrs);
  const y = convolve(reals(x), x.shape, reals(w), w.shape[0]!, window);
  return { y: bias === null ? y : addBias(y, numbers(bias), sizeOf(window.output)), shape };
}

const conv = defineOp({
  op: 'Conv',
  since: [1, 11, 22],
  inputs: ['X: T', 'W: T', 'B: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: convAttrs,
  epilogue: true,
  infer: inferConv,
  reference: (call) => {
    const { y, shape } = convValues(call);
    return [fromNumbers(call.tensor(0).dtype, shape, y)];
  },
});

// ── fused and channels-last forms ───────────────────────────────────────────────────────────────────────────────────
const fusedAttrs = { ...convAttrs, activation: string(''), activation_params: floats() };
type FusedAttrs = WindowAttrs & {
  readonly activation: string;
  readonly activation_params: readonly number[] | undefined;
};
const checkActivation = (attrs: FusedAttrs): void => {
  if (attrs.activation) activation(attrs.activation, ...(attrs.activation_params ?? []));
};
function activate(y: Float64Array, attrs: FusedAttrs): Float64Array {
  return attrs.activation ? y.map(activation(attrs.activation, ...(attrs.activation_params ?? []))) : y;
}

/** activation(Conv(X, W) + B + Z) */
const fusedConv = defineOp({
  op: 'com.microsoft.FusedConv',
  since: [1],
  inputs: ['X: T', 'W: T', 'B: T?', 'Z: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: fusedAttrs,
  infer: (call) => {
    const out = inferConv(call);
    const z = call.inputs[3];
    if (z && String(z.shape) !== String(out[0]!.shape))
      fail('shape_mismatch', `Z has shape [${z.shape}], not the output's [${out[0]!.shape}]`);
    checkActivation(call.attrs);
    return out;
  },
  reference: (call) => {
    const { y, shape } = convValues(call);
    const z = call.optional(3);
    if (z !== null) {
      const from = numbers(z);
      for (let i = 0; i < y.length; i++) y[i]! += from[i]!;
    }
    return [fromNumbers(call.tensor(0).dtype, shape, activate(y, call.attrs))];
  },
});

/** Channels come last in X and Y; weights are [M, ...kernel, C / group] in NhwcConv and as in Conv in NhwcFusedConv. */
const channelsLast = (op: 'NhwcConv' | 'NhwcFusedConv'): Op => {
  const last = op === 'NhwcConv';
  const first = (shape: readonly number[]): number[] => [shape[0]!, shape[shape.length - 1]!, ...shape.slice(1, -1)];
  const shapes = (
    x: readonly number[],
    w: readonly number[],
    b: readonly number[] | null,
    attrs: WindowAttrs,
  ): { window: Window; x: number[]; w: readonly number[]; shape: number[] } => {
    if (x.length < 3 || w.length !== x.length)
      fail('shape_mismatch', `X has shape [${x}] and W [${w}]; both must be of one rank of at least 3`);
    const weights = last ? first(w) : w;
    const s = convShape(first(x), weights, b, attrs);
    return { window: s.window, x: first(x), w: weights, shape: [s.shape[0]!, ...s.shape.slice(2), s.shape[1]!] };
  };
  return defineOp({
    op: `com.microsoft.${op}`,
    since: [1],
    inputs: last ? ['X: T', 'W: T', 'B: T?'] : ['X: T', 'W: T', 'B: T?', 'Z: T?'],
    outputs: ['Y: T'],
    types: { T: FLOAT },
    attrs: fusedAttrs,
    infer: (call) => {
      const { shape } = shapes(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs);
      const z = call.inputs[3];
      if (z && String(z.shape) !== String(shape))
        fail('shape_mismatch', `Z has shape [${z.shape}], not the output's [${shape}]`);
      checkActivation(call.attrs);
      return [{ dtype: call.fact(0).dtype, shape }];
    },
    reference: (call) => {
      const x = call.tensor(0);
      const w = call.tensor(1);
      const bias = call.optional(2);
      const z = call.optional(3);
      const s = shapes(x.shape, w.shape, bias?.shape ?? null, call.attrs);
      const [n, c] = [s.x[0]!, s.x[1]!];
      const m = s.w[0]!;
      const out = sizeOf(s.window.output);
      const weights = last ? toChannelsFirst(numbers(w), m, s.w[1]!, sizeOf(s.window.kernel)) : reals(w);
      const planes = convolve(toChannelsFirst(numbers(x), n, c, sizeOf(s.x.slice(2))), s.x, weights, m, s.window);
      const y = toChannelsLast(bias === null ? planes : addBias(planes, numbers(bias), out), n, m, out);
      if (z !== null) {
        const from = numbers(z);
        for (let i = 0; i < y.length; i++) y[i]! += from[i]!;
      }
      return [fromNumbers(x.dtype, s.shape, activate(y, call.attrs))];
    },
  });
};

// ── transposed ──────────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * Window and output shape of a ConvTranspose; W is [C, M / group, ...kernel]. @throws attribute_invalid, shape_mismatch
 */
export function convTransposeShape(
  x: readonly number[],
  w: readonly number[],
  bias: readonly number[] | null,
  attrs: Parameters<typeof windowOfTranspose>[0],
): { window: Window; shape: readonly number[] } {
  if (w.length !== x.length)
    fail('shape_mismatch', `weights of shape [${w}] do not fit an input of shape [${x}]: the ranks differ`);
  const window = windowOfTranspose(attrs, x, w.slice(2));
  if (w[0] !== x[1] || x[1]! % window.group !== 0)
    fail('shape_mismatch', `weights of shape [${w}] in ${window.group} groups do not fit an input of ${x[1]} channels`);
  const m = w[1]! * window.group;
  if (bias !== null && String(bias) !== String([m])) fail('shape_mismatch', `the bias has shape [${bias}], not [${m}]`);
  return { window, shape: [x[0]!, m, ...window.output] };
}

const convTranspose = defineOp({
  op: 'ConvTranspose',
  since: [1, 11, 22],
  inputs: ['X: T', 'W: T', 'B: T?'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: { ...convAttrs, output_padding: ints(), output_shape: ints() },
  epilogue: true,
  infer: (call) => [
    {
      dtype: call.fact(0).dtype,
      shape: convTransposeShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs)
        .shape,
    },
  ],
  reference: (call) => {
    const x = call.tensor(0);
    const w = call.tensor(1);
    const bias = call.optional(2);
    const { window, shape } = convTransposeShape(x.shape, w.shape, bias?.shape ?? null, call.attrs);
    const y = convolveTransposed(reals(x), x.shape, reals(w), shape[1]!, window);
    return [fromNumbers(x.dtype, shape, bias === null ? y : addBias(y, numbers(bias), sizeOf(window.output)))];
  },
});

/**
 * https://onnx.ai/onnx/operators/onnx__Conv.html, https://onnx.ai/onnx/operators/onnx__ConvTranspose.html; the rest:
 * ContribOperators.md of onnxruntime.
 */
export const convolution: readonly Op[] = [
  conv,
  convSum,
  convTranspose,
  fusedConv,
  channelsLast('NhwcConv'),
  channelsLast('NhwcFusedConv'),
];
