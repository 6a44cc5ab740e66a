/** The product of a convolution of bytes, by panels of gathered pairs. */
import type { WasmEmitter } from '../define.ts';
import { type Fn, f32x4, i16x8, i32, i32x4, type I32, type Mod, v128 } from './asm.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { type Byte, type L, byteAt, paired, requantized } from './quant-conv-parts.ts';

export const MR = 4;
export const NR = 8;
export interface Spec {
  readonly x: Byte;
  readonly y: Byte | 'int32';
  readonly xZero: boolean;
  readonly bias: boolean;
  /** Bytes are read where they lie: 1 × 1, nothing padded or left out. */
  readonly direct: boolean;
  /** Neighbouring outputs have neighbouring inputs. */
  readonly dense: boolean;
  readonly tall: boolean;
  readonly mTail: number;
}
const wide = (s: Spec): number => (s.y === 'int32' ? 4 : 1);

/** (w, b, K2, out, outPlane, bias, scales, zero, cols): filters by 8 outputs, the first `cols` of which are stored. */
export function tile(m: Mod, s: Spec, rows: number): Fn {
  return m.fn(`bytes_${rows}x${NR}`, i32s(9), [], false, (f) => {
    const { w, b, K2, out, outPlane, bias, scales, zero, cols } = params(
      f,
      'w',
      'b',
      'K2',
      'out',
      'outPlane',
      'bias',
      'scales',
      'zero',
      'cols',
    );
    const acc = locals(f, 'v128', 2 * rows);
    const bv = locals(f, 'v128', 2);
    const av = f.local('v128');
    const end = f.let(i32.add(b, i32.shl(K2, 5)));
    if (s.bias)
      for (let i = 0; i < rows; i++) {
        f.set(acc[2 * i]!, v128.load32splat(bias, 4 * i));
        f.set(acc[2 * i + 1]!, acc[2 * i]!);
      }
    f.doWhile(
      () => {
        f.set(bv[0]!, v128.load(b));
        f.set(bv[1]!, v128.load(b, 16));
        for (let i = 0; i < rows; i++) {
          f.set(av, v128.load32splat(w, 4 * i));
          for (let j = 0; j < 2; j++) {
            const x = acc[2 * i + j]!;
            f.set(x, i32x4.add(x, i32x4.dot16(av, bv[j]!)));
          }
        }
        f.inc(w, 4 * rows);
        f.inc(b, 4 * NR);
      },
      () => i32.ne(b, end),
    );
    if (s.y !== 'int32') {
      const byte = requantized(f, s.y, zero);
      const scale = f.local('v128');
      for (let i = 0; i < rows; i++) {
        f.set(scale, v128.load32splat(scales, 4 * i));
        f.set(acc[2 * i]!, byte(f32x4.convS(acc[2 * i]!), f32x4.convS(acc[2 * i + 1]!), scale));
      }
    }
    const stored = (whole: boolean): void => {
      for (let i = 0; i < rows; i++) {
        if (whole)
          f.emit(
            ...(s.y === 'int32'
              ? [v128.store(out, acc[2 * i]!), v128.store(out, acc[2 * i + 1]!, 16)]
              : [v128.store64lane(out, acc[2 * i]!, 0)]),
          );
        else
          for (let l = 0; l < NR - 1; l++)
            f.iff(i32.gtu(cols, l), () =>
              f.emit(
                s.y === 'int32'
                  ? v128.store32lane(out, acc[2 * i + (l >> 2)]!, l & 3, 4 * l)
                  : v128.store8lane(out, acc[2 * i]!, l, l),
              ),
            );
        f.inc(out, outPlane);
      }
    };
    f.iff(
      i32.eq(cols, NR),
      () => stored(true),
      () => stored(false),
    );
  });
}

/**
 * (x, dst, n, N, pairs, plane, zero, odd): a panel of outputs n … from bytes where they lie; `plane` bytes a channel.
 */
function gatherBytes(m: Mod, s: Spec): Fn {
  return m.fn('gather_bytes', i32s(8), [], false, (f) => {
    const { x, dst, n, N, pairs, plane, zero, odd } = params(f, 'x', 'dst', 'n', 'N', 'pairs', 'plane', 'zero', 'odd');
    const a = f.let(i32.add(x, n));
    const b = f.local('i32');
    const left = f.let(pairs);
    const z = f.let(i16x8.splat(zero));
    const cols = f.let(i32.sub(N, n));
    const each = (body: () => void): void =>
      f.whileLoop(
        () => left,
        () => {
          f.set(b, i32.select(i32.and(odd, i32.eq(left, 1)), a, i32.add(a, plane)));
          body();
          f.inc(a, i32.shl(plane, 1));
          f.inc(dst, 4 * NR);
          f.inc(left, -1);
        },
      );
    f.iff(
      i32.geu(cols, NR),
      () =>
        each(() => {
          const [low, high] = paired(f, s.x, v128.load64zero(a), v128.load64zero(b), z);
          f.emit(v128.store(dst, low), v128.store(dst, high, 16));
        }),
      () =>
        each(() => {
          for (let l = 0; l < NR - 1; l++)
            f.iff(i32.gtu(cols, l), () =>
              f.emit(
                i32.store16(dst, i32.sub(byteAt(s.x, a, l), zero), 4 * l),
                i32.store16(dst, i32.sub(byteAt(s.x, b, l), zero), 4 * l + 2),
              ),
            );
        }),
    );
  });
}
/**
 * (planes, dst, n, N, table, K2, OW, OH, stepZ, stepY, stepX): a panel of outputs n … from padded planes; outputs
 * beyond N repeat the last.
 */
function gatherPairs(m: Mod, s: Spec): Fn {
  return m.fn('gather_pairs', i32s(11), [], false, (f) => {
    const { planes, dst, n, N, table, K2, OW, OH, stepZ, stepY, stepX } = params(
      f,
      'planes',
      'dst',
      'n',
      'N',
      'table',
      'K2',
      'OW',
      'OH',
      'stepZ',
      'stepY',
      'stepX',
    );
    const [line, column, at] = locals(f, 'i32', 3) as [L, L, L];
    const v = f.local('v128');
    const home = (): I32 =>
      i32.add(
        i32.add(planes, i32.mul(i32.divu(line, OH), stepZ)),
        i32.add(i32.mul(i32.remu(line, OH), stepY), i32.mul(column, stepX)),
      );
    f.set(line, i32.divu(n, OW));
    f.set(column, i32.remu(n, OW));
    const each = (body: () => void): void =>
      f.times(K2, () => {
        body();
        f.inc(table, 4);
        f.inc(dst, 4 * NR);
      });
    const apart = (): void => {
      const from = locals(f, 'i32', NR) as L[];
      from.forEach((a, i) => {
        f.set(a, home());
        if (i < NR - 1)
          f.iff(i32.ltu(i32.add(n, i + 1), N), () => {
            f.inc(column, 1);
            f.iff(i32.eq(column, OW), () => {
              f.set(column, i32.const(0));
              f.inc(line, 1);
            });
          });
      });
      each(() => {
        f.set(at, i32.load(table));
        for (let h = 0; h < 2; h++) {
          f.set(v, v128.load32zero(i32.add(from[4 * h]!, at)));
          for (let l = 1; l < 4; l++) f.set(v, v128.load32lane(i32.add(from[4 * h + l]!, at), v, l));
          f.emit(v128.store(dst, v, 16 * h));
        }
      });
    };
    if (!s.dense) return apart();
    f.iff(
      i32.leu(i32.add(column, NR), OW),
      () => {
        const base = f.let(home());
        each(() => {
          f.set(at, i32.add(base, i32.load(table)));
          f.emit(v128.store(dst, v128.load(at)), v128.store(dst, v128.load(at, 16), 16));
        });
      },
      apart,
    );
  });
}

const NAMES = [
  'from',
  'panels',
  'x',
  'xZero',
  'table',
  'w',
  'bias',
  'scales',
  'yZero',
  'y',
  'room',
  'block',
  'batch',
  'groups',
  'N',
  'K2',
  'filters',
  'xGroup',
  'wGroup',
  'plane',
  'odd',
  'OW',
  'OH',
  'stepZ',
  'stepY',
  'stepX',
] as const;
/**
 * run(…NAMES): `panels` panels of 8 outputs from number `from` on, `block` of them at a time in `room`, for every
 * image, group and filter. xGroup, wGroup: bytes of a group.
 */
export const productModule: WasmEmitter<Spec> = {
  name: 'conv_bytes',
  build: (s, caps) =>
    kernelModule('conv_bytes', i32s(NAMES.length), caps, (f, m) => {
      const p = params(f, ...NAMES);
      const many = s.tall ? tile(m, s, MR) : null;
      const rest = s.mTail ? tile(m, s, s.mTail) : null;
      const gather = s.direct ? gatherBytes(m, s) : gatherPairs(m, s);
      const zero = f.let(s.direct && s.xZero ? byteAt(s.x, p.xZero) : i32.const(0));
      const yZero = f.let(s.y === 'int32' ? i32.const(0) : byteAt(s.y, p.yZero));
      const outPlane = f.let(i32.mul(p.N, wide(s)));
      const panelBytes = f.let(i32.shl(p.K2, 5));
      const [w, bias, scales, first, left, here, i, at, n, fw, fb, fs, out, cols] = locals(f, 'i32', 14) as [
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
        L,
      ];
      f.times(p.batch, () => {
        f.set(w, p.w);
        f.set(bias, p.bias);
        f.set(scales, p.scales);
        f.times(p.groups, () => {
          f.set(first, p.from);
          f.set(left, p.panels);
          f.whileLoop(
            () => left,
            () => {
              f.set(here, i32.select(i32.ltu(left, p.block), left, p.block));
              f.set(at, p.room);
              f.set(n, i32.shl(first, 3));
              f.times(here, () => {
                if (s.direct) f.call(gather, p.x, at, n, p.N, p.K2, p.plane, zero, p.odd);
                else f.call(gather, p.x, at, n, p.N, p.table, p.K2, p.OW, p.OH, p.stepZ, p.stepY, p.stepX);
                f.inc(at, panelBytes);
                f.inc(n, NR);
              });
              f.set(fw, w);
              f.set(fb, bias);
              f.set(fs, scales);
              f.set(out, i32.add(p.y, i32.mul(i32.shl(first, 3), wide(s))));
              const filters = (fn: Fn, rows: number): void => {
                f.set(at, p.room);
                f.set(n, i32.shl(first, 3));
                f.set(i, out);
                f.times(here, () => {
                  f.set(cols, i32.sub(p.N, n));
                  f.call(fn, fw, at, p.K2, i, outPlane, fb, fs, yZero, i32.select(i32.ltu(cols, NR), cols, NR));
                  f.inc(at, panelBytes);
                  f.inc(n, NR);
                  f.inc(i, NR * wide(s));
                });
                f.inc(fw, i32.mul(p.K2, 4 * rows));
                f.inc(fb, 4 * rows);
                f.inc(fs, 4 * rows);
                f.inc(out, i32.mul(outPlane, rows));
              };
              if (many) f.times(i32.divu(p.filters, MR), () => filters(many, MR));
              if (rest) filters(rest, s.mTail);
              f.inc(first, here);
              f.set(left, i32.sub(left, here));
            },
          );
          f.inc(p.x, p.xGroup);
          f.inc(p.y, i32.mul(outPlane, p.filters));
          f.inc(w, p.wGroup);
          if (s.bias) f.inc(bias, i32.shl(p.filters, 2));
          f.inc(scales, i32.shl(p.filters, 2));
        });
      });
    }),
};
