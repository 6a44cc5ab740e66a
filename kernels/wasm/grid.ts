/** GridSample and AffineGrid, in double precision as their references. */
import type { DType } from '../../src/core/dtype.ts';
import { isFloat } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { WasmKernel } from '../define.ts';
import { type F64, f64, i32, type I32, type Local } from './asm.ts';
import { fmod } from './float.ts';
import { at, loopEmitter, type Loops, sum } from './loops.ts';
import { isStored } from './number.ts';

interface GridSpec {
  readonly dtype: DType;
  readonly grid: DType;
  readonly mode: string;
  readonly padding: string;
  readonly corners: boolean;
  readonly rank: number;
}
const names = (s: { readonly rank: number }): string[] => [
  'x',
  'grid',
  'y',
  'batch',
  'channels',
  'points',
  'plane',
  ...Array.from({ length: s.rank }, (_, d) => [`n${d}`, `stride${d}`]).flat(),
];
interface Tap {
  readonly offset: Local<'i32'>;
  /** 0: not there. */
  readonly weight: Local<'f64'>;
}

const CUBIC = -0.75;
const cubicWeight = (k: Loops<string>, distance: F64): F64 => {
  const d = k.real(f64.abs(distance));
  const near = f64.add(f64.mul(f64.mul(f64.sub(f64.mul(CUBIC + 2, d), CUBIC + 3), d), d), 1);
  const far = f64.sub(f64.mul(f64.mul(f64.add(f64.mul(f64.sub(d, 5), d), 8), CUBIC), d), 4 * CUBIC);
  return f64.select(f64.le(d, 1), near, f64.select(f64.lt(d, 2), far, 0));
};

/** run(…names): taps of each axis are found once for a point, and serve all channels. */
const gridEmitter = loopEmitter('grid sample', names, (k: Loops<string>, s: GridSpec) => {
  const { f, c } = k;
  const p = (name: string): Local<'i32'> => k.p[name]!;
  const point = f.local('i32');
  const total = f.local('f64');
  const count = s.mode === 'nearest' ? 1 : s.mode === 'linear' ? 2 : 4;
  const taps = Array.from({ length: s.rank }, () =>
    Array.from({ length: count }, (): Tap => ({ offset: f.local('i32'), weight: f.local('f64') })),
  );
  const axis = (d: number): void => {
    const n = k.real(f64.convS(p(`n${d}`)));
    const g = k.take(s.grid, p('grid'), i32.add(i32.mul(point, s.rank), s.rank - 1 - d));
    const raw = k.real(
      s.corners ? f64.mul(f64.div(f64.add(g, 1), 2), f64.sub(n, 1)) : f64.div(f64.sub(f64.mul(f64.add(g, 1), n), 1), 2),
    );
    const x = k.real(f64.select(f64.ne(raw, raw), -2, f64.min(2 ** 31, f64.max(-(2 ** 31), raw))));
    const [low, high] = s.corners ? [k.real(0), k.real(f64.sub(n, 1))] : [k.real(-0.5), k.real(f64.sub(n, 0.5))];
    const inside = (v: F64): F64 => f64.min(f64.sub(n, 1), f64.max(0, v));
    const pad = (v: F64): F64 => {
      if (s.padding === 'border') return inside(v);
      if (s.padding !== 'reflection') return v;
      const range = k.real(f64.sub(high, low));
      const far = k.real(f.value('f64', fmod(c), f64.abs(f64.sub(v, low)), f64.mul(2, range)));
      return inside(
        f64.select(
          f64.gt(range, 0),
          f64.add(low, f64.select(f64.gt(far, range), f64.sub(f64.mul(2, range), far), far)),
          low,
        ),
      );
    };
    const put = (tap: Tap, i: F64, w: F64): void => {
      const e = k.real(i);
      const there = k.int(i32.and(f64.ge(e, 0), f64.lt(e, n)));
      f.set(tap.weight, f64.select(there, w, 0));
      f.set(tap.offset, i32.mul(i32.select(there, i32.truncSatS64(e), 0), p(`stride${d}`)));
    };
    const rounded = (v: F64): F64 => f64.floor(f64.add(v, 0.5));
    if (s.mode === 'nearest') put(taps[d]![0]!, rounded(pad(f64.nearest(x))), f64.const(1));
    else if (s.mode === 'linear') {
      const where = k.real(pad(x));
      const first = k.real(f64.floor(where));
      const part = k.real(f64.sub(where, first));
      put(taps[d]![0]!, first, f64.sub(1, part));
      put(taps[d]![1]!, f64.add(first, 1), part);
    } else {
      const first = k.real(f64.sub(f64.floor(x), 1));
      taps[d]!.forEach((tap, t) => {
        const i = k.real(f64.add(first, t));
        put(tap, rounded(pad(i)), cubicWeight(k, f64.sub(i, x)));
      });
    }
  };
  const plane = f.local('i32');
  const visit = (d: number, offset: I32, weight: F64): void => {
    if (d === s.rank) {
      f.set(total, f64.add(total, f64.mul(weight, k.get(s.dtype, p('x'), i32.add(plane, offset)))));
      return;
    }
    for (const tap of taps[d]!)
      f.iff(f64.ne(tap.weight, 0), () =>
        visit(d + 1, k.int(i32.add(offset, tap.offset)), k.real(f64.mul(weight, tap.weight))),
      );
  };
  k.each(p('batch'), (b) =>
    k.each(p('points'), (q) => {
      f.set(point, at(b, p('points'), q));
      for (let d = 0; d < s.rank; d++) axis(d);
      k.each(p('channels'), (ch) => {
        const image = k.int(at(b, p('channels'), ch));
        f.set(plane, i32.mul(image, p('plane')));
        f.set(total, f64.const(0));
        visit(0, i32.const(0), f64.const(1));
        k.put(s.dtype, p('y'), at(image, p('points'), q), total);
      });
    }),
  );
});
/** Up to three spatial dims; integers stay with the reference. */
export const gridSampleWasm: WasmKernel<{
  readonly mode: string;
  readonly padding_mode: string;
  readonly align_corners: number;
}> = {
  name: 'grid_sample.points',
  accepts: (call) =>
    isFloat(call.inputs[0]!.dtype) && isStored(call.inputs[0]!.dtype) && call.inputs[0]!.shape.length <= 5,
  launch: (call) => {
    const [x, grid, y] = [call.inputs[0]!, call.inputs[1]!, call.outputs[0]!];
    const [batch, channels, ...dims] = x.shape as [number, number, ...number[]];
    if (sizeOf(y.shape) === 0) return [];
    const { mode, padding_mode, align_corners } = call.attrs;
    const strides = stridesOf(dims);
    return {
      emit: gridEmitter,
      spec: {
        dtype: x.dtype,
        grid: grid.dtype,
        mode,
        padding: padding_mode,
        corners: align_corners !== 0,
        rank: dims.length,
      },
      args: [
        { input: 0 },
        { input: 1 },
        { output: 0 },
        batch,
        channels,
        sizeOf(grid.shape.slice(1, -1)),
        sizeOf(dims),
        ...dims.flatMap((n, d) => [n, strides[d]!]),
      ],
    };
  },
};

// ── AffineGrid ──────────────────────────────────────────────────────────────────────────────────────────────────────
interface AffineSpec {
  readonly dtype: DType;
  readonly rank: number;
  readonly corners: boolean;
}
/** run(theta, y, batch, dims…) */
const affineEmitter = loopEmitter(
  'affine grid',
  (s: AffineSpec) => ['theta', 'y', 'batch', ...Array.from({ length: s.rank }, (_, d) => `n${d}`)],
  (k: Loops<string>, s: AffineSpec) => {
    const { f } = k;
    const e = k.int(0);
    const where = Array.from({ length: s.rank }, () => f.local('f64'));
    k.each(k.p.batch!, (b) => {
      const axis = (d: number): void => {
        if (d < s.rank) {
          const n = k.p[`n${d}`]!;
          const size = k.real(f64.convU(n));
          k.each(n, (i) => {
            const v = k.real(f64.mul(2, f64.convU(i)));
            f.set(
              where[d]!,
              s.corners
                ? f64.select(f64.gt(size, 1), f64.sub(f64.div(v, f64.sub(size, 1)), 1), -1)
                : f64.sub(f64.div(f64.add(v, 1), size), 1),
            );
            axis(d + 1);
          });
          return;
        }
        for (let r = 0; r < s.rank; r++) {
          const theta = (i: number): F64 =>
            k.get(s.dtype, k.p.theta!, sum(i32.mul(b, s.rank * (s.rank + 1)), r * (s.rank + 1) + i));
          const value = Array.from({ length: s.rank }, (_, i) => i).reduce(
            (v: F64, i) => f64.add(v, f64.mul(theta(i), where[s.rank - 1 - i]!)),
            theta(s.rank),
          );
          k.put(s.dtype, k.p.y!, e, value);
          f.inc(e, 1);
        }
      };
      axis(0);
    });
  },
);
export const affineGridWasm: WasmKernel<{ readonly align_corners: number }> = {
  name: 'affine_grid.points',
  accepts: (call) => isStored(call.inputs[0]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const dims = shape.slice(1, -1);
    return {
      emit: affineEmitter,
      spec: { dtype, rank: dims.length, corners: call.attrs.align_corners !== 0 },
      args: [{ input: 0 }, { output: 0 }, shape[0]!, ...dims],
    };
  },
};
