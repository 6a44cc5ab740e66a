/** Normalisations that are rare in models that run: batch statistics, means over any axes. In doubles. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { f64, i32, type I32, type Local } from './asm.ts';
import { at, loopEmitter, type Loops, nest } from './loops.ts';
import { isStored } from './number.ts';
import { doubleBits, realOf } from './recurrent.ts';

// ── BatchNormalization ──────────────────────────────────────────────────────────────────────────────────────────────
interface BatchSpec {
  readonly types: readonly DType[];
  readonly y: DType;
  readonly statistic: DType;
  readonly training: boolean;
  readonly wanted: readonly boolean[];
}
const BATCH = [
  'x',
  'scale',
  'bias',
  'mean',
  'variance',
  'y',
  'newMean',
  'newVariance',
  'savedMean',
  'savedVariance',
  'batch',
  'channels',
  'inner',
  'epsilonLow',
  'epsilonHigh',
  'momentumLow',
  'momentumHigh',
] as const;
/** run(…BATCH): a channel at a time, its statistics taken first where it is training. */
const batchEmitter = loopEmitter(
  'batch norm',
  () => BATCH,
  (k: Loops<(typeof BATCH)[number]>, s: BatchSpec) => {
    const { f, p } = k;
    const [tx, ts, tb, tm, tv] = s.types as [DType, DType, DType, DType, DType];
    const [epsilon, momentum] = [
      k.real(realOf(p.epsilonLow, p.epsilonHigh)),
      k.real(realOf(p.momentumLow, p.momentumHigh)),
    ];
    const [mean, variance] = [f.local('f64'), f.local('f64')];
    const count = k.real(f64.mul(f64.convU(p.batch), f64.convU(p.inner)));
    k.each(p.channels, (ch) => {
      const all = (body: (e: Local<'i32'>) => void): void =>
        k.each(p.batch, (b) => {
          const start = k.int(i32.mul(at(b, p.channels, ch), p.inner));
          k.each(p.inner, (i) => body(k.int(i32.add(start, i))));
        });
      const [oldMean, oldVariance] = [k.take(tm, p.mean, ch), k.take(tv, p.variance, ch)];
      f.set(mean, oldMean);
      f.set(variance, oldVariance);
      if (s.training) {
        f.set(mean, f64.const(0));
        all((e) => f.set(mean, f64.add(mean, f64.div(k.get(tx, p.x, e), count))));
        f.set(variance, f64.const(0));
        all((e) => {
          const v = k.real(f64.sub(k.get(tx, p.x, e), mean));
          f.set(variance, f64.add(variance, f64.div(f64.mul(v, v), count)));
        });
      }
      const deviation = k.real(f64.sqrt(f64.add(variance, epsilon)));
      const [scale, bias] = [k.take(ts, p.scale, ch), k.take(tb, p.bias, ch)];
      all((e) =>
        k.put(s.y, p.y, e, f64.add(f64.mul(f64.div(f64.sub(k.get(tx, p.x, e), mean), deviation), scale), bias)),
      );
      const moved = (old: Local<'f64'>, now: Local<'f64'>) =>
        f64.add(f64.mul(old, momentum), f64.mul(now, f64.sub(1, momentum)));
      const out = (i: number, base: I32, v: ReturnType<typeof moved>): void => {
        if (s.wanted[i]) k.put(s.statistic, base, ch, v);
      };
      out(1, p.newMean, moved(oldMean, mean));
      out(2, p.newVariance, moved(oldVariance, variance));
      out(3, p.savedMean, mean);
      out(4, p.savedVariance, variance);
    });
  },
);
export const batchNormWasm: WasmKernel<{
  readonly epsilon: number;
  readonly momentum: number;
  readonly training_mode: number;
  readonly spatial: number;
}> = {
  name: 'batchnorm.channels',
  accepts: (call) => call.outputs[0] != null && call.inputs.every((t) => isStored(t?.dtype)),
  launch: (call) => {
    const { shape } = call.inputs[0]!;
    const { epsilon, momentum, training_mode, spatial } = call.attrs;
    const out = (i: number) => (call.outputs[i] ? { output: i } : 0);
    return {
      emit: batchEmitter,
      spec: {
        types: call.inputs.map((t) => t!.dtype),
        y: call.outputs[0]!.dtype,
        statistic: call.inputs[3]!.dtype,
        training: training_mode !== 0,
        wanted: [0, 1, 2, 3, 4].map((i) => !!call.outputs[i]),
      },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        { input: 3 },
        { input: 4 },
        { output: 0 },
        out(1),
        out(2),
        out(3),
        out(4),
        shape[0]!,
        sizeOf(call.inputs[1]!.shape),
        spatial ? sizeOf(shape.slice(2)) : 1,
        ...doubleBits(epsilon),
        ...doubleBits(momentum),
      ],
    };
  },
};

// ── MeanVarianceNormalization ───────────────────────────────────────────────────────────────────────────────────────
interface MeanSpec {
  readonly dtype: DType;
  readonly outer: number;
  readonly inner: number;
}
/** run(x, y, n, then for each dim that stays, and each that is averaged: size, stride). */
const meanEmitter = loopEmitter(
  'mean variance',
  (s: MeanSpec): string[] => [
    'x',
    'y',
    'n',
    ...Array.from({ length: s.outer + s.inner }, (_, d) => [`n${d}`, `s${d}`]).flat(),
  ],
  (k: Loops<string>, s: MeanSpec) => {
    const { f, p } = k;
    const [mean, square] = [f.local('f64'), f.local('f64')];
    const n = k.real(f64.convU(p.n!));
    const dims = Array.from({ length: s.outer + s.inner }, (_, d) => p[`n${d}`]!);
    const strides = dims.map((_, d) => p[`s${d}`]!);
    nest(k, dims.slice(0, s.outer), [strides.slice(0, s.outer)], [i32.const(0)], ([start]) => {
      const all = (body: (e: Local<'i32'>) => void): void =>
        nest(k, dims.slice(s.outer), [strides.slice(s.outer)], [start!], ([e]) => body(e!));
      f.set(mean, f64.const(0));
      all((e) => f.set(mean, f64.add(mean, f64.div(k.get(s.dtype, p.x!, e), n))));
      f.set(square, f64.const(0));
      all((e) => {
        const v = k.real(f64.sub(k.get(s.dtype, p.x!, e), mean));
        f.set(square, f64.add(square, f64.div(f64.mul(v, v), n)));
      });
      f.set(square, f64.add(f64.sqrt(square), 1e-9));
      all((e) => k.put(s.dtype, p.y!, e, f64.div(f64.sub(k.get(s.dtype, p.x!, e), mean), square)));
    });
  },
);
export const meanVarianceWasm = (axesOf: (call: Call) => readonly number[]): WasmKernel => ({
  name: 'mean_variance.axes',
  accepts: (call) => isStored(call.inputs[0]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axes = axesOf(call);
    const strides = stridesOf(shape);
    const all = shape.map((_, d) => d);
    const [stays, goes] = [all.filter((d) => !axes.includes(d)), all.filter((d) => axes.includes(d))];
    return {
      emit: meanEmitter,
      spec: { dtype, outer: stays.length, inner: goes.length },
      args: [
        { input: 0 },
        { output: 0 },
        sizeOf(goes.map((d) => shape[d]!)),
        ...[...stays, ...goes].flatMap((d) => [shape[d]!, strides[d]!]),
      ],
    };
  },
});
