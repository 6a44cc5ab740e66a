/** Before a convolution of bytes: scales, and padded planes of channel pairs. */
import type { WasmEmitter } from '../define.ts';
import { f32, i16x8, i32, i32x4, memory, v128 } from './asm.ts';
import { TABLE_ARGS, tapOffsets } from './conv-geometry.ts';
import { loadSplat } from './elem.ts';
import { context } from './float.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { type Byte, type L, byteAt, paired } from './quant-conv-parts.ts';

export interface StageSpec {
  readonly x: Byte;
  readonly planes: boolean;
  readonly xZero: boolean;
  readonly scaled: boolean;
}
const STAGE = [
  'x',
  'xZero',
  'planes',
  'bytes',
  'table',
  'images',
  'channels',
  'D',
  'H',
  'W',
  'row',
  'slice',
  'plane',
  'first',
  'scales',
  'xScale',
  'wScale',
  'wStep',
  'yScale',
  'filters',
] as const;
/**
 * run(…STAGE, …tableArgs): `filters` scales xScale · wScale / yScale; planes of pairs with their padding, for each of
 * `images` groups of channels; offsets of taps.
 */
export const stageModule: WasmEmitter<StageSpec> = {
  name: 'conv_bytes_stage',
  build: (s, caps) =>
    kernelModule('conv_bytes_stage', i32s(STAGE.length + TABLE_ARGS), caps, (f, m) => {
      const p = params(f, ...STAGE);
      const c = context(f, m, caps.fma);
      if (s.scaled)
        f.times(p.filters, () => {
          f.emit(f32.store(p.scales, f32.div(f32.mul(f32.load(p.xScale), f32.load(p.wScale)), f32.load(p.yScale))));
          f.inc(p.scales, 4);
          f.inc(p.wScale, p.wStep);
        });
      if (!s.planes) return;
      f.call(
        tapOffsets(m, 1),
        p.table,
        ...Array.from({ length: TABLE_ARGS }, (_, i) => f.arg('i32', STAGE.length + i)),
      );
      f.emit(memory.fill(p.planes, 0, p.bytes));
      const zero = f.let(s.xZero ? loadSplat(c, s.x, p.xZero) : v128.zero());
      const zero16 = f.let(i16x8.narrowS(zero, zero));
      const word = f.let(i32x4.lane(zero, 0));
      const size = f.let(i32.mul(i32.mul(p.D, p.H), p.W));
      const [a, b, z, y, to, left] = locals(f, 'i32', 6) as [L, L, L, L, L, L];
      f.inc(p.planes, p.first);
      f.times(p.images, () => {
        f.set(left, p.channels);
        f.whileLoop(
          () => left,
          () => {
            f.set(a, p.x);
            // a last channel alone is paired with itself: its weights there are 0
            f.set(b, i32.select(i32.gtu(left, 1), i32.add(p.x, size), p.x));
            f.set(z, p.planes);
            f.times(p.D, () => {
              f.set(y, z);
              f.times(p.H, () => {
                f.set(to, y);
                const move = (n: number): void => {
                  f.inc(a, n);
                  f.inc(b, n);
                  f.inc(to, 4 * n);
                };
                f.times(i32.shru(p.W, 3), () => {
                  const [low, high] = paired(f, s.x, v128.load64zero(a), v128.load64zero(b), zero16);
                  f.emit(v128.store(to, low), v128.store(to, high, 16));
                  move(8);
                });
                f.times(i32.and(p.W, 7), () => {
                  f.emit(
                    i32.store16(to, i32.sub(byteAt(s.x, a), word)),
                    i32.store16(to, i32.sub(byteAt(s.x, b), word), 2),
                  );
                  move(1);
                });
                f.inc(y, p.row);
              });
              f.inc(z, p.slice);
            });
            f.inc(p.planes, p.plane);
            f.set(to, i32.select(i32.gtu(left, 1), 2, 1));
            f.inc(p.x, i32.mul(size, to));
            f.set(left, i32.sub(left, to));
          },
        );
      });
    }),
};
