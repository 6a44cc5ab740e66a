/** RoiAlign: means or maxima of points between pixels, bin by bin. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { WasmKernel } from '../define.ts';
import { type F64, f64, i32, type I32, type Local } from './asm.ts';
import { at, indexAt, loopEmitter, type Loops, sum } from './loops.ts';
import { isStored } from './number.ts';
import { doubleBits, realOf } from './recurrent.ts';

interface RoiSpec {
  readonly x: DType;
  readonly rois: DType;
  readonly half: boolean;
  readonly max: boolean;
}
const ROI = [
  'x',
  'rois',
  'images',
  'y',
  'regions',
  'batch',
  'channels',
  'height',
  'width',
  'rows',
  'columns',
  'ratio',
  'low',
  'high',
] as const;
const MAX_POINTS = 2 ** 20;
/**
 * run(…ROI): status 1 for an image that is not there or a region of too many points; `low` and `high` are the bits of
 * the scale.
 */
const roiEmitter = loopEmitter(
  'roi align',
  () => ROI,
  (k: Loops<(typeof ROI)[number]>, s: RoiSpec) => {
    const { f, p } = k;
    const scale = k.real(realOf(p.low, p.high));
    const axis = (n: Local<'i32'>) => ({
      n,
      start: f.local('f64'),
      step: f.local('f64'),
      count: f.local('f64'),
      low: f.local('i32'),
      high: f.local('i32'),
      rest: f.local('f64'),
      inside: f.local('i32'),
    });
    const [ys, xs] = [axis(p.height), axis(p.width)];
    const sample = (a: ReturnType<typeof axis>, bin: I32, i: I32): void => {
      const v = k.real(
        f64.add(
          f64.add(a.start, f64.mul(f64.convU(bin), a.step)),
          f64.div(f64.mul(f64.add(f64.convU(i), 0.5), a.step), a.count),
        ),
      );
      const least = k.real(f64.max(0, v));
      const last = k.real(f64.convS(i32.sub(a.n, 1)));
      const low = k.real(f64.min(last, f64.floor(least)));
      f.set(a.inside, i32.and(f64.ge(v, -1), f64.le(v, f64.convS(a.n))));
      f.set(a.low, i32.truncSatS64(low));
      f.set(a.high, i32.add(a.low, f64.ne(low, last)));
      f.set(a.rest, f64.select(f64.eq(low, last), 0, f64.sub(least, low)));
    };
    const [total, top] = [f.local('f64'), f.local('f64')];
    const e = k.int(0);
    k.each(p.regions, (r) => {
      const image = indexAt(f, 'int64', p.images, r);
      f.iff(i32.geu(image, p.batch), () => f.returnNow(i32.const(1)));
      const corner = (i: number): F64 => {
        const v = f64.mul(k.get(s.rois, p.rois, i32.add(i32.shl(r, 2), i)), scale);
        return s.half ? f64.sub(v, 0.5) : v;
      };
      for (const [a, i, bins] of [
        [ys, 1, p.rows],
        [xs, 0, p.columns],
      ] as const) {
        f.set(a.start, corner(i));
        const long = k.real(f64.sub(corner(i + 2), a.start));
        f.set(a.step, f64.div(s.half ? long : f64.max(1, long), f64.convU(bins)));
        f.set(a.count, f64.select(p.ratio, f64.convU(p.ratio), f64.ceil(a.step)));
        f.iff(i32.eqz(f64.le(f64.mul(a.count, f64.convU(bins)), 16 * MAX_POINTS)), () => f.returnNow(i32.const(1)));
      }
      f.iff(i32.eqz(f64.le(f64.mul(f64.max(ys.count, 0), f64.max(xs.count, 0)), MAX_POINTS)), () =>
        f.returnNow(i32.const(1)),
      );
      const [tall, wide] = [k.int(i32.truncSatU64(ys.count)), k.int(i32.truncSatU64(xs.count))];
      k.each(p.channels, (ch) => {
        const plane = k.int(i32.mul(i32.mul(at(image, p.channels, ch), p.height), p.width));
        k.each(p.rows, (row) =>
          k.each(p.columns, (column) => {
            f.set(total, f64.const(0));
            f.set(top, f64.const(-Infinity));
            k.each(tall, (i) => {
              sample(ys, row, i);
              k.each(wide, (j) => {
                sample(xs, column, j);
                f.iff(
                  i32.eqz(i32.and(ys.inside, xs.inside)),
                  () => f.set(top, f64.max(top, 0)),
                  () => {
                    const value = (y: I32, x: I32): F64 => k.get(s.x, p.x, sum(plane, i32.mul(y, p.width), x));
                    const [b, a] = [k.real(f64.sub(1, ys.rest)), k.real(f64.sub(1, xs.rest))];
                    const parts = [
                      f64.mul(f64.mul(b, a), value(ys.low, xs.low)),
                      f64.mul(f64.mul(b, xs.rest), value(ys.low, xs.high)),
                      f64.mul(f64.mul(ys.rest, a), value(ys.high, xs.low)),
                      f64.mul(f64.mul(ys.rest, xs.rest), value(ys.high, xs.high)),
                    ].map((v) => k.real(v));
                    if (s.max) for (const v of parts) f.set(top, f64.max(top, v));
                    else
                      f.set(
                        total,
                        f64.add(
                          total,
                          parts.slice(1).reduce((u: F64, v) => f64.add(u, v), parts[0]!),
                        ),
                      );
                  },
                );
              });
            });
            k.put(
              s.x,
              p.y,
              e,
              s.max
                ? f64.select(f64.eq(top, -Infinity), 0, top)
                : f64.div(total, f64.max(1, f64.mul(ys.count, xs.count))),
            );
            f.inc(e, 1);
          }),
        );
      });
    });
  },
  true,
);
export const roiAlignWasm: WasmKernel<{
  readonly mode: string;
  readonly coordinate_transformation_mode: string;
  readonly sampling_ratio: number;
  readonly spatial_scale: number;
}> = {
  name: 'roi_align.bins',
  accepts: (call) =>
    isStored(call.inputs[0]!.dtype) && isStored(call.inputs[1]!.dtype) && sizeOf(call.inputs[0]!.shape) > 0,
  launch: (call) => {
    const [batch, channels, height, width] = call.inputs[0]!.shape as [number, number, number, number];
    const [regions, , rows, columns] = call.outputs[0]!.shape as [number, number, number, number];
    const a = call.attrs;
    return {
      emit: roiEmitter,
      spec: {
        x: call.inputs[0]!.dtype,
        rois: call.inputs[1]!.dtype,
        half: a.coordinate_transformation_mode === 'half_pixel',
        max: a.mode === 'max',
      },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        { output: 0 },
        regions,
        batch,
        channels,
        height,
        width,
        rows,
        columns,
        a.sampling_ratio,
        ...doubleBits(a.spatial_scale),
      ],
    };
  },
};
