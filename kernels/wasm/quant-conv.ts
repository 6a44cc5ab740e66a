/**
 * Convolutions of bytes. Values less their zero point are 16 bits wide; neighbouring channels lie side by side in 32
 * bits, so that one instruction multiplies pairs and adds them exactly. Inputs of 8 neighbouring outputs are gathered
 * to panels [channel pair and tap][output][2], a few of which stay near while all filters pass by. Sums are finished as
 * they are stored: scaled, rounded to even, saturated.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { RANGE } from '../quantize-round.ts';
import { numbers } from '../../src/core/numbers.ts';
import {
  type Fn,
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  i8x16,
  type I32,
  type Local,
  memory,
  type Mod,
  type V,
  v128,
} from './asm.ts';
import { type Geometry, geometryOf, TABLE_ARGS, tableArgs, tapOffsets, tapsOf } from './conv-core.ts';
import { loadSplat } from './elem.ts';
import { context } from './float.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import type { Roles } from './contract.ts';

export type Byte = 'uint8' | 'int8';
type L = Local<'i32'>;
export const byteAt = (d: DType, p: I32, off = 0): I32 => (d === 'int8' ? i32.load8s(p, off) : i32.load8u(p, off));
/**
 * Two vectors of sums, scaled, rounded to even and moved by `zero`, as saturated bytes in the lower half of one.
 * Constants are kept in locals from here on.
 */
export function requantized(f: Fn, d: Byte, zero: I32): (a: V, b: V, scale: V) => V {
  const [least, most] = RANGE[d]!;
  const z = f.let(i32x4.splat(zero));
  const zf = f.let(f32x4.convS(z));
  const low = f.let(f32x4.sub(least, zf));
  const high = f.let(f32x4.sub(most, zf));
  const shift = f.let(i32x4.sub(z, v128.const32(0x4b400000)));
  const one = (v: V, scale: V): V =>
    // 1.5 · 2^23: the sum's low bits are the number, rounded to even
    i32x4.add(f32x4.add(f32x4.pmin(f32x4.pmax(f32x4.mul(v, scale), low), high), 12582912), shift);
  return (a, b, scale) => {
    const v = f.let(i16x8.narrowS(one(a, scale), one(b, scale)));
    return f.let(d === 'int8' ? i8x16.narrowS(v, v) : i8x16.narrowU(v, v));
  };
}
const BESIDE = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
/** Bytes of one vector beside those of another, in pairs, as two vectors of 16-bit numbers less `zero`. */
function paired(f: Fn, d: Byte, a: V, b: V, zero: V): [V, V] {
  const v = f.let(v128.shuffle(a, b, BESIDE));
  const [low, high] = d === 'int8' ? [i16x8.extLowS(v), i16x8.extHighS(v)] : [i16x8.extLowU(v), i16x8.extHighU(v)];
  return [i16x8.sub(low, zero), i16x8.sub(high, zero)];
}

// ── before: scales, and padded planes of channel pairs ──────────────────────────────────────────────────────────────
interface StageSpec {
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
const stageModule: WasmEmitter<StageSpec> = {
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

// ── the product ─────────────────────────────────────────────────────────────────────────────────────────────────────
const MR = 4;
const NR = 8;
interface Spec {
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
function tile(m: Mod, s: Spec, rows: number): Fn {
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
const productModule: WasmEmitter<Spec> = {
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

/** Bytes of panels that stay in the second cache, beside a tile of weights. */
const NEAR = 1 << 16;
/** The image as planes of channel pairs: rows of 32-bit words without gaps for strides. */
function pairGeometry(
  x: readonly number[],
  filters: number,
  w: Window,
): { g: Geometry; pairs: number; direct: boolean; N: number } {
  const g = geometryOf(x, filters, w);
  const lead = 3 - w.kernel.length;
  const padded = g.input.map((n, i) => n + g.pads[i]! + (i < lead ? 0 : w.pads[w.kernel.length + i - lead]!));
  const row = 4 * padded[2]!;
  const slice = row * padded[1]!;
  const direct = tapsOf(g) === 1 && g.direct && g.strides.every((s) => s === 1);
  return {
    g: { ...g, row, slice, plane: slice * padded[0]!, phase: row },
    pairs: Math.ceil(g.channels / 2),
    direct,
    N: g.output[0] * g.output[1] * g.output[2],
  };
}
/** The constant zero points of an input: [0] where it is left out, null where they are not known. */
export const zeroPoints = (call: Call, at: number | null): readonly number[] | null => {
  const fact = at === null ? null : call.inputs[at];
  if (!fact) return [0];
  const t = fact.constant?.peek();
  return t ? Array.from(numbers(t)) : null;
};
export const isByte = (d: DType | undefined): boolean => d === 'uint8' || d === 'int8';

/** Convolutions with constant weights, channels first. */
export const pairConvWasm = (name: string, roles: Roles, windowOf: (call: Call) => Window): WasmKernel => {
  const laid = (call: Call) =>
    pairGeometry(call.inputs[roles.x]!.shape, call.inputs[roles.w]!.shape[0]!, windowOf(call));
  const blockOf = (K2: number, panels: number): number =>
    Math.max(1, Math.min(panels, Math.floor(NEAR / (4 * NR * K2))));
  return {
    name,
    accepts: (call) => {
      const [x, w] = [call.inputs[roles.x]!, call.inputs[roles.w]!];
      return (
        !call.attrs.channels_last &&
        isByte(x.dtype) &&
        isByte(w.dtype) &&
        w.constant?.peek() != null &&
        x.shape.length <= 5 &&
        zeroPoints(call, roles.wZero) !== null &&
        sizeOf(w.shape.slice(1)) > 0 &&
        sizeOf(w.shape.slice(1)) < 1 << 14
      );
    },
    scratch: (call, caps) => {
      const { g, pairs, direct, N } = laid(call);
      const K2 = pairs * tapsOf(g);
      const block = blockOf(K2, Math.ceil(N / NR));
      return [
        caps.threads * block * 4 * NR * K2,
        4 * g.groups * g.filters,
        direct ? 16 : 4 * K2,
        direct ? 16 : g.batch * g.groups * pairs * g.plane + 64,
      ];
    },
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const { g, pairs, direct, N } = laid(call);
      const K2 = pairs * tapsOf(g);
      const panels = Math.ceil(N / NR);
      const block = blockOf(K2, panels);
      const all = g.groups * g.filters;
      const x = call.inputs[roles.x]!;
      const y = call.outputs[0]!;
      const [xs, ws, ys] = roles.scales ?? [null, null, null];
      const given = (i: number | null | undefined): boolean => i != null && call.inputs[i] != null;
      const ref = (i: number | null | undefined): Ref | 0 => (given(i) ? { input: i! } : 0);
      const w: Ref = {
        input: roles.w,
        pack: {
          name: 'conv.pairs',
          args: [MR, g.groups, g.filters, g.channels, tapsOf(g), ...zeroPoints(call, roles.wZero)!],
          bytes: all * K2 * 4,
        },
      };
      const [xZero, bias] = [given(roles.xZero), given(roles.bias)];
      const scaled = roles.scales !== null;
      const planes = !direct;
      const stage: WasmLaunch<StageSpec> = {
        emit: stageModule,
        spec: { x: x.dtype as Byte, planes, xZero, scaled },
        args: [
          { input: roles.x },
          ref(roles.xZero),
          planes ? { scratch: 3 } : 0,
          g.batch * g.groups * pairs * g.plane,
          planes ? { scratch: 2 } : 0,
          g.batch * g.groups,
          g.channels,
          ...g.input,
          g.row,
          g.slice,
          g.plane,
          g.pads[0] * g.slice + g.pads[1] * g.row + 4 * g.pads[2],
          { scratch: 1 },
          ref(xs),
          ref(ws),
          ws != null && sizeOf(call.inputs[ws]!.shape) > 1 ? 4 : 0,
          ref(ys),
          all,
          ...tableArgs({ ...g, channels: pairs }),
        ],
      };
      const room = block * 4 * NR * K2;
      const product: WasmLaunch<Spec> = {
        emit: productModule,
        spec: {
          x: x.dtype as Byte,
          y: y.dtype as Spec['y'],
          xZero,
          bias,
          direct,
          dense: g.strides[2] === 1,
          tall: g.filters >= MR,
          mTail: g.filters % MR,
        },
        args: [
          0,
          panels,
          direct ? { input: roles.x } : { scratch: 3 },
          ref(roles.xZero),
          direct ? 0 : { scratch: 2 },
          w,
          ref(roles.bias),
          { scratch: 1 },
          ref(roles.yZero),
          { output: 0 },
          { scratch: 0 },
          block,
          g.batch,
          g.groups,
          N,
          K2,
          g.filters,
          direct ? g.channels * N : pairs * g.plane,
          g.filters * K2 * 4,
          N,
          g.channels % 2,
          g.output[2],
          g.output[1],
          g.strides[0] * g.slice,
          g.strides[1] * g.row,
          4 * g.strides[2],
        ],
        split: { items: 1, grain: 1, moves: [[0, 1]], own: [[10, room]], cost: (all * g.batch * K2 * 2 * NR) / 32 },
      };
      return scaled || planes ? [stage, product] : [product];
    },
  };
};
