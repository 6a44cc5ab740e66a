import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, float, int, type NormalizeCall, type Normalized, type Op, type OutFact } from './define.ts';
import { without } from './elementwise.ts';
import { expectShape } from './shapes.ts';

/**
 * Up to opset 6 `is_test` says that this is no training; up to 9, that more than one output is wanted says that it is,
 * and the outputs end in the batch's own mean and variance. `spatial` = 0 keeps statistics for every position. Where
 * nothing is learnt, further outputs are the statistics as they came.
 */
function batchForm({ attrs, outputs, opset }: NormalizeCall): Normalized {
  if (opset >= 14) return { attrs };
  const training = opset < 7 ? !attrs.is_test : outputs.slice(1).some((v) => v !== null);
  return {
    attrs: { ...without(attrs, 'is_test', 'consumed_inputs', 'training_mode'), training_mode: training ? 1 : 0 },
  };
}
const perChannel = (shape: readonly number[], spatial: number): number[] =>
  spatial ? [shape[1] ?? 1] : shape.slice(1);

/** https://onnx.ai/onnx/operators/onnx__BatchNormalization.html */
export const batchNorm: Op = defineOp({
  op: 'BatchNormalization',
  since: [1, 6, 7, 9, 14, 15],
  inputs: ['X: T', 'scale: T1', 'B: T1', 'input_mean: T2', 'input_var: T2'],
  outputs: ['Y: T', 'running_mean: T2?', 'running_var: T2?', 'saved_mean: T2?', 'saved_var: T2?'],
  types: { T: FLOAT, T1: FLOAT, T2: FLOAT },
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
    const [from, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((i) => numbers(call.tensor(i))) as [
      ArrayLike<number>,
      ArrayLike<number>,
      ArrayLike<number>,
      ArrayLike<number>,
      ArrayLike<number>,
    ];
    const channelOf = (i: number): number => Math.floor(i / inner) % channels;
    let [m, v] = [Float64Array.from(mean), Float64Array.from(variance)];
    if (training_mode) {
      const count = from.length / channels;
      [m, v] = [new Float64Array(channels), new Float64Array(channels)];
      for (let i = 0; i < from.length; i++) m[channelOf(i)]! += from[i]! / count;
      for (let i = 0; i < from.length; i++) v[channelOf(i)]! += (from[i]! - m[channelOf(i)]!) ** 2 / count;
    }
    const y = Float64Array.from(from, (x, i) => {
      const c = channelOf(i);
      return ((x - m[c]!) / Math.sqrt(v[c]! + epsilon)) * scale[c]! + bias[c]!;
    });
    const statistic = (values: ArrayLike<number>): Tensor => fromNumbers(call.tensor(3).dtype, own, values);
    const running = (old: ArrayLike<number>, now: Float64Array): Tensor =>
      statistic(now.map((x, c) => old[c]! * momentum + x * (1 - momentum)));
    return [fromNumbers(t.dtype, t.shape, y), running(mean, m), running(variance, v), statistic(m), statistic(v)].slice(
      0,
      call.outputs,
    );
  },
});
