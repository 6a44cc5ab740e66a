import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import {
  type Call,
  defineOp,
  FLOAT,
  float,
  type InferCall,
  int,
  type Op,
  type OutFact,
  type RefCall,
} from './define.ts';
import { spread } from './elementwise.ts';
import { axisOf, broadcast } from './shapes.ts';
import type { NormForm } from './webgpu/norm-rows.ts';

/** Elements normalised together: all from `axis` on. `rows` groups of `n`. */
export function rowsFrom(shape: readonly number[], axis: number): { axis: number; rows: number; n: number } {
  const at = axisOf(axis, shape.length);
  return { axis: at, rows: sizeOf(shape.slice(0, at)), n: sizeOf(shape.slice(at)) };
}

/** The shape of one number per row. */
/** What kernels of the operators here look at: the rows, and which inputs and outputs are what. */
export const normForms = {
  layer: (call: Call): NormForm => ({
    ...rowsFrom(call.inputs[0]!.shape, call.attrs.axis),
    epsilon: call.attrs.epsilon,
    centred: true,
    scale: { input: 1 },
    bias: { input: 2 },
    mean: 1,
    inverse: 2,
  }),
  rms: (call: Call): NormForm => ({
    ...rowsFrom(call.inputs[0]!.shape, call.attrs.axis),
    epsilon: call.attrs.epsilon,
    centred: false,
    scale: { input: 1 },
    inverse: 1,
  }),
  skipLayer: (call: Call): NormForm => ({
    ...rowsFrom(call.inputs[0]!.shape, -1),
    epsilon: call.attrs.epsilon,
    centred: true,
    added: [1, 4],
    scale: { input: 2 },
    bias: { input: 3 },
    mean: 1,
    inverse: 2,
    sum: 3,
  }),
  skipRms: (call: Call): NormForm => ({
    ...rowsFrom(call.inputs[0]!.shape, -1),
    epsilon: call.attrs.epsilon,
    centred: false,
    added: [1, 3],
    scale: { input: 2 },
    mean: 1,
    inverse: 2,
    sum: 3,
  }),
} as const;
const perRow = (shape: readonly number[], axis: number): number[] => shape.map((d, i) => (i < axis ? d : 1));

/** `given`, if there, must broadcast to `shape` without widening it. */
export function fits(given: Fact | null | undefined, shape: readonly number[], what: string): void {
  if (given && String(broadcast(given.shape, shape)) !== String(shape))
    fail('shape_mismatch', `${what} of shape [${given.shape}] does not broadcast to [${shape}]`);
}

/** Mean (0 if not centred) and 1 / standard deviation of `n` numbers from `start` on. */
export function moments(
  x: ArrayLike<number>,
  start: number,
  n: number,
  epsilon: number,
  centred: boolean,
): { mean: number; scale: number } {
  let mean = 0;
  if (centred) {
    for (let i = 0; i < n; i++) mean += x[start + i]!;
    mean /= n;
  }
  let square = 0;
  for (let i = 0; i < n; i++) square += (x[start + i]! - mean) ** 2;
  return { mean, scale: 1 / Math.sqrt(square / n + epsilon) };
}

interface Layer {
  readonly y: Float64Array;
  readonly means: Float64Array;
  readonly scales: Float64Array;
}
/** Normalises rows of `n` and applies `scale` and `bias`, which are broadcast to `shape`. */
export function layer(
  x: ArrayLike<number>,
  shape: readonly number[],
  n: number,
  epsilon: number,
  centred: boolean,
  scale: Tensor | null,
  bias: Tensor | null,
): Layer {
  const rows = n === 0 ? 0 : sizeOf(shape) / n;
  const full = (t: Tensor | null): ArrayLike<number> | null => t && spread(numbers(t), t.shape, shape);
  const [g, b] = [full(scale), full(bias)];
  const out: Layer = {
    y: new Float64Array(sizeOf(shape)),
    means: new Float64Array(rows),
    scales: new Float64Array(rows),
  };
  for (let r = 0; r < rows; r++) {
    const { mean, scale: inverse } = moments(x, r * n, n, epsilon, centred);
    out.means[r] = mean;
    out.scales[r] = inverse;
    for (let i = r * n; i < (r + 1) * n; i++) out.y[i] = (x[i]! - mean) * inverse * (g ? g[i]! : 1) + (b ? b[i]! : 0);
  }
  return out;
}

/** Dtypes in which statistics may be kept: attribute stash_type. */
const STASH: Readonly<Record<number, DType>> = { 1: 'float32', 10: 'float16', 11: 'float64', 16: 'bfloat16' };
const stash = (n: number): DType => STASH[n] ?? fail('attribute_invalid', `stash_type ${n} is no float type`);

const LAYER = { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) };

/**
 * https://onnx.ai/onnx/operators/onnx__LayerNormalization.html. com.microsoft's is the same, from before ONNX had it.
 */
const layerNorm = (op: string): Op =>
  defineOp({
    op,
    since: op === 'LayerNormalization' ? [1, 17] : [1],
    inputs: ['X: T', 'Scale: V', 'B: V?'],
    outputs: ['Y: V', 'Mean: U?', 'InvStdDev: U?'],
    types: { T: FLOAT, V: FLOAT },
    attrs: LAYER,
    infer: (call) => {
      const { shape } = call.fact(0);
      const { axis, n } = rowsFrom(shape, call.attrs.axis);
      if (n === 0) fail('shape_mismatch', `rows of no elements cannot be normalised: [${shape}] from axis ${axis}`);
      fits(call.fact(1), shape, 'Scale');
      fits(call.inputs[2], shape, 'B');
      const statistic: OutFact = { dtype: stash(call.attrs.stash_type), shape: perRow(shape, axis) };
      return [{ dtype: call.fact(1).dtype, shape }, statistic, statistic].slice(0, call.outputs);
    },
    reference: (call) => {
      const [t, scale] = [call.tensor(0), call.tensor(1)];
      const { axis, n } = rowsFrom(t.shape, call.attrs.axis);
      const { y, means, scales } = layer(numbers(t), t.shape, n, call.attrs.epsilon, true, scale, call.optional(2));
      const statistic = (v: Float64Array): Tensor =>
        fromNumbers(stash(call.attrs.stash_type), perRow(t.shape, axis), v);
      return [fromNumbers(scale.dtype, t.shape, y), statistic(means), statistic(scales)].slice(0, call.outputs);
    },
  });

/**
 * https://onnx.ai/onnx/operators/onnx__RMSNormalization.html. SimplifiedLayerNormalization is ONNX Runtime's name,
 * which it writes into the default domain too.
 */
const rmsNorm = (op: string): Op =>
  defineOp({
    op,
    since: op === 'RMSNormalization' ? [23] : [1],
    inputs: ['X: T', 'scale: V'],
    outputs: op === 'RMSNormalization' ? ['Y: V'] : ['Y: V', 'inv_std_var: U?'],
    types: { T: FLOAT, V: FLOAT },
    attrs: LAYER,
    infer: (call) => {
      const { shape } = call.fact(0);
      const { axis, n } = rowsFrom(shape, call.attrs.axis);
      if (n === 0) fail('shape_mismatch', `rows of no elements cannot be normalised: [${shape}] from axis ${axis}`);
      fits(call.fact(1), shape, 'scale');
      return [
        { dtype: call.fact(1).dtype, shape },
        { dtype: stash(call.attrs.stash_type), shape: perRow(shape, axis) },
      ].slice(0, call.outputs);
    },
    reference: (call) => {
      const [t, scale] = [call.tensor(0), call.tensor(1)];
      const { axis, n } = rowsFrom(t.shape, call.attrs.axis);
      const { y, scales } = layer(numbers(t), t.shape, n, call.attrs.epsilon, false, scale, null);
      return [
        fromNumbers(scale.dtype, t.shape, y),
        fromNumbers(stash(call.attrs.stash_type), perRow(t.shape, axis), scales),
      ].slice(0, call.outputs);
    },
  });

/** A vector of the last dim's size. */
export function vector(fact: Fact | null | undefined, n: number, what: string): void {
  if (fact && (fact.shape.length !== 1 || fact.shape[0] !== n))
    fail('shape_mismatch', `${what} has shape [${fact.shape}]; it must be [${n}]`);
}

function skipFacts(call: InferCall, biasAt: number): OutFact[] {
  const { dtype, shape } = call.fact(0);
  if (shape.length !== 2 && shape.length !== 3)
    fail('shape_mismatch', `input has shape [${shape}]; its rank must be 2 or 3`);
  const n = shape.at(-1)!;
  if (n === 0) fail('shape_mismatch', `rows of no elements cannot be normalised: [${shape}]`);
  fits(call.fact(1), shape, 'skip');
  vector(call.fact(2), n, 'gamma');
  for (let i = 3; i <= biasAt; i++) vector(call.inputs[i], n, i === biasAt ? 'bias' : 'beta');
  const statistic: OutFact = { dtype: 'float32', shape: perRow(shape, shape.length - 1) };
  return [{ dtype, shape }, statistic, statistic, { dtype, shape }].slice(0, call.outputs);
}
function skipLayer(call: RefCall<{ readonly epsilon: number }>, biasAt: number, centred: boolean): Tensor[] {
  const [t, skip] = [call.tensor(0), call.tensor(1)];
  const n = t.shape.at(-1)!;
  const bias = call.optional(biasAt);
  const [a, b, c] = [numbers(t), spread(numbers(skip), skip.shape, t.shape), bias && numbers(bias)];
  const sum = Float64Array.from({ length: sizeOf(t.shape) }, (_, i) => a[i]! + b[i]! + (c ? c[i % n]! : 0));
  const { y, means, scales } = layer(
    sum,
    t.shape,
    n,
    call.attrs.epsilon,
    centred,
    call.tensor(2),
    centred ? call.optional(3) : null,
  );
  const statistic = (v: Float64Array): Tensor => fromNumbers('float32', perRow(t.shape, t.shape.length - 1), v);
  return [
    fromNumbers(t.dtype, t.shape, y),
    statistic(means),
    statistic(scales),
    fromNumbers(t.dtype, t.shape, sum),
  ].slice(0, call.outputs);
}
const SKIP_OUTPUTS = ['output: T', 'mean: float32?', 'inv_std_var: float32?', 'input_skip_bias_sum: T?'];

/** The sum of two tensors and a bias, normalised, and the sum itself. */
const skipNorms: readonly Op[] = [
  defineOp({
    op: 'com.microsoft.SkipLayerNormalization',
    since: [1],
    inputs: ['input: T', 'skip: T', 'gamma: T', 'beta: T?', 'bias: T?'],
    outputs: SKIP_OUTPUTS,
    types: { T: FLOAT },
    attrs: { epsilon: float(1e-12) },
    infer: (call) => skipFacts(call, 4),
    reference: (call) => skipLayer(call, 4, true),
  }),
  defineOp({
    op: 'com.microsoft.SkipSimplifiedLayerNormalization',
    since: [1],
    inputs: ['input: T', 'skip: T', 'gamma: T', 'bias: T?'],
    outputs: SKIP_OUTPUTS,
    types: { T: FLOAT },
    attrs: { epsilon: float(1e-12) },
    infer: (call) => skipFacts(call, 3),
    reference: (call) => skipLayer(call, 3, false),
  }),
];

/**
 * Normalisation of rows, all elements from an axis on:
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md for com.microsoft's.
 */
export const rowNorms: readonly Op[] = [
  layerNorm('LayerNormalization'),
  layerNorm('com.microsoft.LayerNormalization'),
  rmsNorm('RMSNormalization'),
  rmsNorm('SimplifiedLayerNormalization'),
  rmsNorm('com.microsoft.SimplifiedLayerNormalization'),
  ...skipNorms,
];
