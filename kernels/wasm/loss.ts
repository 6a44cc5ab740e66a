/** Losses of classifiers: one pass over the targets, summed in their order. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { WasmKernel } from '../define.ts';
import { f64, i32 } from './asm.ts';
import { at, expOf, indexAt, logOf, loopEmitter, type Loops } from './loops.ts';
import { isStored } from './number.ts';

interface LossSpec {
  readonly dtype: DType;
  readonly target: DType;
  readonly weights: DType | null;
  readonly reduction: string;
  /** null: none. */
  readonly ignore: number | null;
  readonly softmax: boolean;
  readonly wantsLog: boolean;
}
const NAMES = ['scores', 'targets', 'weights', 'loss', 'logs', 'batch', 'classes', 'inner'] as const;
/** run(…NAMES): scores are logarithms of probabilities already, or what a softmax makes them of. */
const lossEmitter = loopEmitter(
  'loss',
  () => NAMES,
  (k: Loops<(typeof NAMES)[number]>, s: LossSpec) => {
    const { f, c, p } = k;
    const [exp, log] = s.softmax ? [expOf(c), logOf(c)] : [null, null];
    const [total, weight, t] = [k.real(0), k.real(0), k.int(0)];
    const [top, norm] = [f.local('f64'), f.local('f64')];
    const loss = f.local('f64');
    k.each(p.batch, (n) =>
      k.each(p.inner, (i) => {
        const start = k.int(at(i32.mul(n, p.classes), p.inner, i));
        if (exp && log) {
          f.set(top, f64.const(-Infinity));
          k.each(p.classes, (j) =>
            f.set(top, f64.max(top, k.get(s.dtype, p.scores, i32.add(start, i32.mul(j, p.inner))))),
          );
          f.set(norm, f64.const(0));
          k.each(p.classes, (j) =>
            f.set(
              norm,
              f64.add(norm, exp(f64.sub(k.get(s.dtype, p.scores, i32.add(start, i32.mul(j, p.inner))), top))),
            ),
          );
          f.set(norm, log(norm));
          if (s.wantsLog)
            k.each(p.classes, (j) => {
              const e = k.int(i32.add(start, i32.mul(j, p.inner)));
              k.put(s.dtype, p.logs, e, f64.sub(f64.sub(k.get(s.dtype, p.scores, e), top), norm));
            });
        }
        const label = indexAt(f, s.target, p.targets, t);
        f.set(loss, f64.const(0));
        f.iff(s.ignore === null ? i32.const(1) : i32.ne(label, s.ignore), () => {
          f.iff(i32.geu(label, p.classes), () => f.returnNow(i32.const(1)));
          const w = k.real(s.weights ? k.get(s.weights, p.weights, label) : 1);
          f.set(weight, f64.add(weight, w));
          const score = k.take(s.dtype, p.scores, i32.add(start, i32.mul(label, p.inner)));
          f.set(loss, f64.mul(f64.neg(w), s.softmax ? f64.sub(f64.sub(score, top), norm) : score));
        });
        if (s.reduction === 'none') k.put(s.dtype, p.loss, t, loss);
        f.set(total, f64.add(total, loss));
        f.inc(t, 1);
      }),
    );
    if (s.reduction !== 'none')
      k.put(s.dtype, p.loss, i32.const(0), s.reduction === 'sum' ? total : f64.div(total, weight));
  },
  true,
);

/** NegativeLogLikelihoodLoss; with `softmax` SoftmaxCrossEntropyLoss, whose output 1 is the logarithms. */
export const lossWasm = (
  softmax: boolean,
): WasmKernel<{ readonly ignore_index?: number | undefined; readonly reduction: string }> => ({
  name: softmax ? 'loss.cross_entropy' : 'loss.likelihood',
  accepts: (call) =>
    !!call.outputs[0] &&
    isStored(call.inputs[0]!.dtype) &&
    (!call.inputs[2] || isStored(call.inputs[2].dtype)) &&
    (call.attrs.ignore_index === undefined || call.attrs.ignore_index === (call.attrs.ignore_index | 0)),
  launch: (call) => {
    const [scores, target, weights] = [call.inputs[0]!, call.inputs[1]!, call.inputs[2]];
    const wantsLog = softmax && !!call.outputs[1];
    return {
      emit: lossEmitter,
      spec: {
        dtype: scores.dtype,
        target: target.dtype,
        weights: weights?.dtype ?? null,
        reduction: call.attrs.reduction,
        ignore: call.attrs.ignore_index ?? null,
        softmax,
        wantsLog,
      },
      args: [
        { input: 0 },
        { input: 1 },
        weights ? { input: 2 } : 0,
        { output: 0 },
        wantsLog ? { output: 1 } : 0,
        scores.shape[0]!,
        scores.shape[1]!,
        sizeOf(scores.shape.slice(2)),
      ],
    };
  },
});
