/**
 * Operators that look at an image through windows that are not a convolution's: blocks put back, deformed kernels,
 * regions, unpooling; and determinants.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, WasmKernel } from '../define.ts';
import { type F64, f64, i32, type I32, type Local } from './asm.ts';
import { at, indexAt, loopEmitter, type Loops, sum } from './loops.ts';
import { isStored } from './number.ts';
import { doubleBits, realOf } from './recurrent.ts';

const each = (rank: number, of: (d: number) => string[]): string[] =>
  Array.from({ length: rank }, (_, d) => of(d)).flat();
const D = 'float64';

// ── Col2Im ──────────────────────────────────────────────────────────────────────────────────────────────────────────
interface BlockSpec {
  readonly dtype: DType;
  readonly rank: number;
}
/**
 * run(x, y, planes, columns, then for each dim: image, kernel, stride, dilation, pad, positions): every pixel sums what
 * falls on it.
 */
const col2ImEmitter = loopEmitter(
  'col2im',
  (s: BlockSpec) => [
    'x',
    'y',
    'planes',
    'columns',
    ...each(s.rank, (d) => [`n${d}`, `k${d}`, `stride${d}`, `dilation${d}`, `pad${d}`, `out${d}`]),
  ],
  (k: Loops<string>, s: BlockSpec) => {
    const { f, p } = k;
    const total = f.local('f64');
    const e = k.int(0);
    const from = k.int(0);
    const place = Array.from({ length: s.rank }, () => f.local('i32'));
    const tap = (d: number, t: I32, column: I32): void => {
      if (d === s.rank) {
        f.set(total, f64.add(total, k.get(s.dtype, p.x!, at(i32.add(from, t), p.columns!, column))));
        return;
      }
      k.each(p[`k${d}`]!, (j) => {
        const o = k.int(i32.sub(i32.add(place[d]!, p[`pad${d}`]!), i32.mul(j, p[`dilation${d}`]!)));
        f.iff(i32.ges(o, 0), () =>
          f.iff(i32.eqz(i32.remu(o, p[`stride${d}`]!)), () => {
            f.set(o, i32.divu(o, p[`stride${d}`]!));
            f.iff(i32.ltu(o, p[`out${d}`]!), () =>
              tap(d + 1, k.int(at(t, p[`k${d}`]!, j)), k.int(at(column, p[`out${d}`]!, o))),
            );
          }),
        );
      });
    };
    const pixel = (d: number): void => {
      if (d < s.rank) {
        k.each(p[`n${d}`]!, (i) => {
          f.set(place[d]!, i);
          pixel(d + 1);
        });
        return;
      }
      f.set(total, f64.const(0));
      tap(0, i32.const(0), i32.const(0));
      k.put(s.dtype, p.y!, e, total);
      f.inc(e, 1);
    };
    const taps = Array.from({ length: s.rank }, (_, d): I32 => p[`k${d}`]!).reduce((a, b) => i32.mul(a, b));
    k.each(p.planes!, () => {
      pixel(0);
      f.inc(from, taps);
    });
  },
);
/** `windowOf` resolves the block, which must be known. */
export const col2ImWasm = (windowOf: (call: Call) => Window): WasmKernel => ({
  name: 'col2im.pixels',
  accepts: (call) => isStored(call.inputs[0]!.dtype) && [1, 2].every((i) => call.inputs[i]!.constant?.peek() != null),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const w = windowOf(call);
    const dims = shape.slice(2);
    return {
      emit: col2ImEmitter,
      spec: { dtype, rank: dims.length },
      args: [
        { input: 0 },
        { output: 0 },
        shape[0]! * shape[1]!,
        sizeOf(w.output),
        ...dims.flatMap((n, d) => [n, w.kernel[d]!, w.strides[d]!, w.dilations[d]!, w.pads[d]!, w.output[d]!]),
      ],
    };
  },
});

// ── DeformConv ──────────────────────────────────────────────────────────────────────────────────────────────────────
interface DeformSpec {
  readonly types: readonly (DType | null)[];
  readonly y: DType;
  readonly rank: number;
}
const DEFORM = [
  'x',
  'w',
  'offset',
  'bias',
  'mask',
  'y',
  'samples',
  'batch',
  'channels',
  'perOffset',
  'offsetGroups',
  'groups',
  'perGroup',
  'filters',
  'taps',
  'image',
  'positions',
] as const;
/**
 * run(…DEFORM, then for each dim: image, its stride, kernel, stride, dilation, pad, positions): samples of one
 * position, then all filters.
 */
const deformEmitter = loopEmitter(
  'deform',
  (s: DeformSpec): string[] => [
    ...DEFORM,
    ...each(s.rank, (d) => [`n${d}`, `step${d}`, `k${d}`, `stride${d}`, `dilation${d}`, `pad${d}`, `out${d}`]),
  ],
  (k: Loops<string>, s: DeformSpec) => {
    const { f, p } = k;
    const [tx, tw, to, tb, tm] = s.types as DType[];
    const total = f.local('f64');
    const position = f.local('i32');
    const sample = f.local('i32');
    const tap = f.local('i32');
    const where = Array.from({ length: s.rank }, () => f.local('i32'));
    const low = Array.from({ length: s.rank }, () => f.local('f64'));
    const part = Array.from({ length: s.rank }, () => f.local('f64'));
    const corners = (d: number, weight: F64, offset: I32): void => {
      if (d < 0) {
        f.set(total, f64.add(total, f64.mul(weight, k.get(tx!, p.x!, offset))));
        return;
      }
      for (const high of [0, 1]) {
        const i = k.real(f64.add(low[d]!, high));
        const out = i32.or(f64.lt(i, 0), f64.ge(i, f64.convS(p[`n${d}`]!)));
        const w = k.real(f64.select(out, 0, f64.mul(weight, high ? part[d]! : f64.sub(1, part[d]!))));
        f.iff(f64.ne(w, 0), () =>
          corners(d - 1, w, k.int(i32.add(offset, i32.mul(i32.truncSatS64(i), p[`step${d}`]!)))),
        );
      }
    };
    const eachTap = (b: I32, ch: I32, d: number): void => {
      if (d < s.rank) {
        k.each(p[`k${d}`]!, (j) => {
          f.set(kernel[d]!, j);
          eachTap(b, ch, d + 1);
        });
        return;
      }
      const group = k.int(at(at(b, p.offsetGroups!, i32.divu(ch, p.perOffset!)), p.taps!, tap));
      for (let e = 0; e < s.rank; e++) {
        const fixed = sum(
          i32.mul(where[e]!, p[`stride${e}`]!),
          i32.sub(i32.mul(kernel[e]!, p[`dilation${e}`]!), p[`pad${e}`]!),
        );
        const v = k.real(
          f64.add(
            f64.convS(fixed),
            k.get(to!, p.offset!, at(i32.add(i32.mul(group, s.rank), e), p.positions!, position)),
          ),
        );
        f.set(low[e]!, f64.floor(v));
        f.set(part[e]!, f64.sub(v, low[e]!));
      }
      f.set(total, f64.const(0));
      corners(s.rank - 1, f64.const(1), k.int(i32.mul(at(b, p.channels!, ch), p.image!)));
      k.put(D, p.samples!, sample, tm ? f64.mul(total, k.get(tm, p.mask!, at(group, p.positions!, position))) : total);
      f.inc(sample, 1);
      f.inc(tap, 1);
    };
    const kernel = Array.from({ length: s.rank }, () => f.local('i32'));
    const eachPosition = (b: I32, d: number): void => {
      if (d < s.rank) {
        k.each(p[`out${d}`]!, (i) => {
          f.set(where[d]!, i);
          eachPosition(b, d + 1);
        });
        return;
      }
      f.set(sample, i32.const(0));
      k.each(p.channels!, (ch) => {
        f.set(tap, i32.const(0));
        eachTap(b, ch, 0);
      });
      const depth = k.int(i32.mul(p.perGroup!, p.taps!));
      k.each(p.groups!, (g) =>
        k.each(p.filters!, (m) => {
          const filter = k.int(at(g, p.filters!, m));
          f.set(total, f64.const(0));
          k.each(depth, (e) =>
            f.set(
              total,
              f64.add(total, f64.mul(k.get(tw!, p.w!, at(filter, depth, e)), k.get(D, p.samples!, at(g, depth, e)))),
            ),
          );
          k.put(
            s.y,
            p.y!,
            at(at(b, i32.mul(p.groups!, p.filters!), filter), p.positions!, position),
            tb ? f64.add(total, k.get(tb, p.bias!, filter)) : total,
          );
        }),
      );
      f.inc(position, 1);
    };
    k.each(p.batch!, (b) => {
      f.set(position, i32.const(0));
      eachPosition(b, 0);
    });
  },
);
export const deformWasm = (windowOf: (call: Call) => Window): WasmKernel<{ readonly offset_group: number }> => ({
  name: 'deform_conv.positions',
  accepts: (call) => call.inputs.every((t) => t == null || isStored(t.dtype)) && call.inputs[0]!.shape.length <= 5,
  scratch: (call) => [8 * call.inputs[0]!.shape[1]! * sizeOf(windowOf(call).kernel) + 16],
  launch: (call) => {
    const w = windowOf(call);
    const [batch, channels, ...dims] = call.inputs[0]!.shape as [number, number, ...number[]];
    const strides = stridesOf(dims);
    const y = call.outputs[0]!;
    if (sizeOf(y.shape) === 0) return [];
    return {
      emit: deformEmitter,
      spec: { types: call.inputs.map((t) => t?.dtype ?? null), y: y.dtype, rank: dims.length },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        call.inputs[3] ? { input: 3 } : 0,
        call.inputs[4] ? { input: 4 } : 0,
        { output: 0 },
        { scratch: 0 },
        batch,
        channels,
        channels / call.attrs.offset_group,
        call.attrs.offset_group,
        w.group,
        channels / w.group,
        y.shape[1]! / w.group,
        sizeOf(w.kernel),
        sizeOf(dims),
        sizeOf(w.output),
        ...dims.flatMap((n, d) => [
          n,
          strides[d]!,
          w.kernel[d]!,
          w.strides[d]!,
          w.dilations[d]!,
          w.pads[d]!,
          w.output[d]!,
        ]),
      ],
    };
  },
});

// ── RoiAlign ────────────────────────────────────────────────────────────────────────────────────────────────────────
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

// ── Det ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
/** run(x, y, held, matrices, n): Gaussian elimination with row pivots in `held`. */
const detEmitter = loopEmitter(
  'det',
  () => ['x', 'y', 'held', 'matrices', 'n'] as const,
  (k: Loops<'x' | 'y' | 'held' | 'matrices' | 'n'>, { dtype }: { readonly dtype: DType }) => {
    const { f, p } = k;
    const cells = k.int(i32.mul(p.n, p.n));
    const det = f.local('f64');
    const pivot = f.local('i32');
    const cell = (r: I32, c: I32): I32 => at(r, p.n, c);
    const get = (r: I32, c: I32): F64 => k.get(D, p.held, cell(r, c));
    k.each(p.matrices, (m) => {
      k.each(cells, (e) => k.put(D, p.held, e, k.get(dtype, p.x, at(m, cells, e))));
      f.set(det, f64.const(1));
      f.block((done) =>
        k.each(p.n, (c) => {
          f.set(pivot, c);
          k.each(
            p.n,
            (r) => f.iff(f64.gt(f64.abs(get(r, c)), f64.abs(get(pivot, c))), () => f.set(pivot, r)),
            i32.add(c, 1),
          );
          const top = k.real(get(pivot, c));
          f.iff(f64.eq(top, 0), () => {
            f.set(det, f64.const(0));
            f.br(done);
          });
          f.iff(i32.ne(pivot, c), () => {
            f.set(det, f64.neg(det));
            k.each(p.n, (j) => {
              const v = k.real(get(c, j));
              k.put(D, p.held, cell(c, j), get(pivot, j));
              k.put(D, p.held, cell(pivot, j), v);
            });
          });
          f.set(det, f64.mul(det, top));
          k.each(
            p.n,
            (r) => {
              const factor = k.real(f64.div(get(r, c), top));
              k.each(
                p.n,
                (j) => k.put(D, p.held, cell(r, j), f64.sub(get(r, j), f64.mul(factor, get(c, j)))),
                i32.add(c, 1),
              );
            },
            i32.add(c, 1),
          );
        }),
      );
      k.put(dtype, p.y, m, det);
    });
  },
);
export const detWasm: WasmKernel = {
  name: 'det.elimination',
  accepts: (call) => isStored(call.inputs[0]!.dtype),
  scratch: (call) => [8 * call.inputs[0]!.shape.at(-1)! ** 2 + 16],
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    return {
      emit: detEmitter,
      spec: { dtype },
      args: [{ input: 0 }, { output: 0 }, { scratch: 0 }, sizeOf(shape.slice(0, -2)), shape.at(-1)!],
    };
  },
};
