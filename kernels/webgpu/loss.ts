/** NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: a loss for each target, and then their sum. */
import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { lossEach, lossLse, lossSum } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { input, kindOf, x } from '../expr.ts';
import { elemOf, isReal, realElem } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';

const WG = 64;
interface LossAttrs {
  readonly ignore_index?: number | undefined;
  readonly reduction: string;
}
const positionsOf = (call: Call): { shape: readonly number[]; classes: number; inner: number; count: number } => {
  const { shape } = call.inputs[0]!;
  return { shape, classes: shape[1]!, inner: sizeOf(shape.slice(2)), count: sizeOf(shape) / shape[1]! };
};

/** `softmax`: the input holds scores, not logarithms of probabilities; output 1 wants the latter. */
export const lossKernel = (softmax: boolean): GpuKernel<LossAttrs> => ({
  name: softmax ? 'loss.cross_entropy' : 'loss.likelihood',
  accepts: (call) => isReal(call.inputs[0]) && isReal(call.inputs[2]) && sizeOf(call.inputs[0]!.shape) > 0,
  scratch: (call) => {
    const bytes = positionsOf(call).count * 4;
    return [bytes, bytes, ...(softmax ? [bytes] : [])];
  },
  launch: (call) => {
    const { shape, classes, inner, count } = positionsOf(call);
    const [scores, target, weights] = call.inputs;
    const loss = call.outputs[0]!;
    const elem = realElem(scores!);
    const places = elemOf(target!.dtype)!;
    const ignored = call.attrs.ignore_index;
    const f32 = (s: readonly number[]): Fact => ({ dtype: 'float32', shape: s });
    const out: Launch[] = [];
    if (softmax)
      out.push({
        module: lossLse,
        types: { x: elem },
        params: { WG },
        uniforms: { count, classes, inner },
        workgroups: grid(count, WG),
        bind: [{ input: 0 }, { scratch: 2 }],
      });
    const log = call.outputs[1];
    if (softmax && log)
      out.push(
        mapLaunch(x.cast(x.sub(input(0, 'f32'), input(1, 'f32')), kindOf(log.dtype)!), log, { output: 1 }, [
          { fact: scores!, bind: { input: 0 } },
          { fact: f32([shape[0]!, 1, ...shape.slice(2)]), bind: { scratch: 2 } },
        ]),
      );
    out.push({
      module: lossEach,
      types: {
        x: elem,
        targets: places,
        ...(weights ? { weights: realElem(weights) } : {}),
        ...(softmax ? { lse: 'f32' } : {}),
      },
      params: { WG, IGNORES: ignored === undefined ? 0 : 1 },
      slots: {
        class_of: `fn class_of(q: u32) -> i32 { return ${places === 'i64' ? 'saturated_i32(load_targets(q))' : 'load_targets(q)'}; }`,
        weight: `fn weight(c: u32) -> f32 { return ${weights ? 'load_weights(c)' : '1.0'}; }`,
        log_probability: `fn log_probability(at: u32, q: u32) -> f32 { return load_x(at)${softmax ? ' - load_lse(q)' : ''}; }`,
      },
      uniforms: { count, classes, inner, ignored: Math.max(-(2 ** 31 - 1), Math.min(2 ** 31 - 1, ignored ?? 0)) },
      workgroups: grid(count, WG),
      bind: [{ input: 0 }, { input: 1 }, { scratch: 0 }, { scratch: 1 }, { fault: true }],
      extra: [
        ...(weights ? [{ name: 'weights', bind: { input: 2 } }] : []),
        ...(softmax ? [{ name: 'lse', bind: { scratch: 2 } }] : []),
      ],
    });
    if (call.attrs.reduction === 'none')
      out.push(
        mapLaunch(x.cast(input(0, 'f32'), kindOf(loss.dtype)!), loss, { output: 0 }, [
          { fact: f32(loss.shape), bind: { scratch: 0 } },
        ]),
      );
    else
      out.push({
        module: lossSum,
        types: { y: realElem(loss) },
        params: { WG, MEAN: call.attrs.reduction === 'mean' ? 1 : 0 },
        uniforms: { count },
        workgroups: [1, 1, 1],
        bind: [{ scratch: 0 }, { scratch: 1 }, { output: 0 }],
      });
    return out;
  },
});
