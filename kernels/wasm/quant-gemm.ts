/**
 * Integer matrix products. A less its zero point is widened to 16 bits, B is packed as pairs of 16-bit values of
 * neighbouring k's; one instruction multiplies pairs and adds them exactly in 32 bits. B's zero points are taken off at
 * the end, by the sums of A's rows.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { matmulShape } from '../matmul-shape.ts';
import { f32x4, type Fn, i16x8, i32, i32x4, type Local, type Mod, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4 } from './elem.ts';
import { context } from './float.ts';
import { type Level, productOf } from './gemm.ts';
import { i32s, locals, params, storeLanes } from './gemm-core.ts';
import { kernelModule } from './module.ts';

const MR = 4;
const NR = 8;
type Byte = 'uint8' | 'int8';
interface Spec {
  readonly a: Byte;
  readonly b: Byte;
  readonly packs: boolean;
  /** M is 1. */
  readonly one: boolean;
  readonly wide: boolean;
  readonly nTail: number;
  readonly levels: number;
  /** A has a zero point; B has one, or one per column. */
  readonly aZero: boolean;
  readonly bZero: '' | 'one' | 'columns';
}
const isSigned = (d: DType): boolean => d === 'int8';
const pairs = (k: number): number => Math.ceil(k / 2);
const panelBytes = (K: number, N: number): number => Math.ceil(N / NR) * NR * pairs(K) * 4;

/**
 * (src, row, dst, sums, zero, M, K): rows of bytes to 16 bits less `zero`, an odd row filled up with 0, and the sum of
 * each.
 */
function widenRows(m: Mod, s: Spec): Fn {
  return m.fn('widen', i32s(7), [], false, (f) => {
    const { src, row, dst, sums, zero, M, K } = params(f, 'src', 'row', 'dst', 'sums', 'zero', 'M', 'K');
    const z = f.let(i16x8.splat(zero));
    const v = f.local('v128');
    const sum = f.local('i32');
    const total = f.local('v128');
    const one = f.local('i32');
    const at = f.local('i32');
    f.times(M, () => {
      f.set(at, src);
      f.set(sum, i32.const(0));
      f.set(total, v128.zero());
      f.times(i32.shru(K, 3), () => {
        f.set(v, i16x8.sub(isSigned(s.a) ? v128.load8x8s(at) : v128.load8x8u(at), z));
        f.emit(v128.store(dst, v));
        f.set(total, i32x4.add(total, i32x4.extaddS(v)));
        f.inc(at, 8);
        f.inc(dst, 16);
      });
      f.times(i32.and(K, 7), () => {
        f.set(one, i32.sub(isSigned(s.a) ? i32.load8s(at) : i32.load8u(at), zero));
        f.emit(i32.store16(dst, one));
        f.inc(sum, one);
        f.inc(at, 1);
        f.inc(dst, 2);
      });
      f.iff(i32.and(K, 1), () => {
        f.emit(i32.store16(dst, 0));
        f.inc(dst, 2);
      });
      for (let l = 0; l < 4; l++) f.inc(sum, i32x4.lane(total, l));
      f.emit(i32.store(sums, sum));
      f.inc(sums, 4);
      f.inc(src, row);
    });
  });
}
/** (src, kStep, nStep, dst, N, K): the packer "gemm.pairs" for a B that is not constant. */
function packPairs(m: Mod, s: Spec): Fn {
  return m.fn('pack', i32s(6), [], false, (f) => {
    const { src, kStep, nStep, dst, N, K } = params(f, 'src', 'kStep', 'nStep', 'dst', 'N', 'K');
    const [at, k] = locals(f, 'i32', 2) as [Local<'i32'>, Local<'i32'>];
    const load = (p: Local<'i32'>, off: Local<'i32'> | null) => {
      const q = off ? i32.add(p, off) : p;
      return isSigned(s.b) ? i32.load8s(q) : i32.load8u(q);
    };
    const panel = (cols: number): void => {
      f.set(k, i32.const(0));
      f.whileLoop(
        () => i32.ltu(k, K),
        () => {
          f.set(at, i32.add(src, i32.mul(k, kStep)));
          for (let n = 0; n < NR; n++) {
            if (n < cols) {
              f.emit(i32.store16(dst, load(at, null), 4 * n), i32.store16(dst, 0, 4 * n + 2));
              f.iff(i32.ltu(i32.add(k, 1), K), () => f.emit(i32.store16(dst, load(at, kStep), 4 * n + 2)));
              f.inc(at, nStep);
            } else f.emit(i32.store(dst, 0, 4 * n));
          }
          f.inc(dst, 4 * NR);
          f.inc(k, 2);
        },
      );
      f.inc(src, i32.mul(nStep, cols));
    };
    if (s.wide) f.times(i32.divu(N, NR), () => panel(NR));
    if (s.nTail) panel(s.nTail);
  });
}
/** (a, aRow, b, K2, c, cRow, sums, zeros): a tile; `zeros`: B's zero points of these columns. */
function tile(m: Mod, s: Spec, rows: number, cols: number): Fn {
  const nv = Math.ceil(cols / 4);
  return m.fn(`pairs_${rows}x${cols}`, i32s(8), [], false, (f) => {
    const { a, aRow, b, K2, c, cRow, sums, zeros } = params(f, 'a', 'aRow', 'b', 'K2', 'c', 'cRow', 'sums', 'zeros');
    const acc = locals(f, 'v128', rows * nv);
    const bv = locals(f, 'v128', nv);
    const av = f.local('v128');
    const at = [a, ...locals(f, 'i32', rows - 1)];
    for (let i = 1; i < rows; i++) f.set(at[i]!, i32.add(at[i - 1]!, aRow));
    f.times(K2, () => {
      for (let j = 0; j < nv; j++) f.set(bv[j]!, v128.load(b, 16 * j));
      for (let i = 0; i < rows; i++) {
        f.set(av, v128.load32splat(at[i]!));
        for (let j = 0; j < nv; j++) {
          const x = acc[i * nv + j]!;
          f.set(x, i32x4.add(x, i32x4.dot16(av, bv[j]!)));
        }
        f.inc(at[i]!, 4);
      }
      f.inc(b, 4 * NR);
    });
    const ctx = context(f, m, false);
    const lane = (j: number, l: number): V => loadSplat(ctx, s.b, zeros, 4 * j + l);
    const zero = Array.from({ length: s.bZero ? nv : 0 }, (_, j) => {
      if (s.bZero === 'one') return f.let(loadSplat(ctx, s.b, zeros));
      if (cols - 4 * j >= 4) return f.let(load4(ctx, s.b, zeros, 4 * j));
      const v = f.let(v128.zero());
      for (let l = 0; l < cols - 4 * j; l++) f.set(v, i32x4.replace(v, l, i32x4.lane(lane(j, l), 0)));
      return v;
    });
    for (let i = 0; i < rows; i++) {
      if (s.bZero) f.set(av, v128.load32splat(sums, 4 * i));
      for (let j = 0; j < nv; j++) {
        const x = acc[i * nv + j]!;
        if (s.bZero) f.set(x, i32x4.sub(x, i32x4.mul(av, zero[j]!)));
        storeLanes(f, c, x, Math.min(4, cols - 4 * j), 16 * j);
      }
      f.inc(c, cRow);
    }
  });
}

const HEAD = 14;
/**
 * run(a, aRow, b, bRow, bCol, packed, aWide, sums, aZero, bZero, c, M, N, K, then per level: n, a, b): int32 products
 * of bytes.
 */
export const quantGemmModule: WasmEmitter<Spec> = {
  name: 'gemm_pairs',
  build: (s, caps) =>
    kernelModule('gemm_pairs', i32s(HEAD + 3 * s.levels), caps, (f, m) => {
      const p = params(
        f,
        'a',
        'aRow',
        'b',
        'bRow',
        'bCol',
        'packed',
        'aWide',
        'sums',
        'aZero',
        'bZero',
        'c',
        'M',
        'N',
        'K',
      );
      const widen = widenRows(m, s);
      const pack = s.packs ? packPairs(m, s) : null;
      const tiles = new Map<string, Fn>();
      const most = s.one ? 1 : MR;
      for (let r = 1; r <= most; r++)
        for (const n of [s.wide ? NR : 0, s.nTail]) if (n) tiles.set(`${r},${n}`, tile(m, s, r, n));
      const K2 = f.let(i32.shru(i32.add(p.K, 1), 1));
      const aRow = f.let(i32.shl(K2, 2));
      const cRow = f.let(i32.shl(p.N, 2));
      const zero = f.let(i32.const(0));
      const last = f.let(i32.const(-1));
      if (s.aZero) f.set(zero, isSigned(s.a) ? i32.load8s(p.aZero) : i32.load8u(p.aZero));
      const [a, b, c, sums, zeros, cols] = locals(f, 'i32', 6) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const one = (): void => {
        f.call(widen, p.a, p.aRow, p.aWide, p.sums, zero, p.M, p.K);
        if (pack)
          f.iff(i32.ne(last, p.b), () => {
            f.call(pack, p.b, p.bRow, p.bCol, p.packed, p.N, p.K);
            f.set(last, p.b);
          });
        f.set(b, pack ? p.packed : p.b);
        f.set(cols, p.c);
        f.set(zeros, p.bZero);
        const panel = (n: number): void => {
          f.set(a, p.aWide);
          f.set(c, cols);
          f.set(sums, p.sums);
          const call = (r: number): void => f.call(tiles.get(`${r},${n}`)!, a, aRow, b, K2, c, cRow, sums, zeros);
          f.times(i32.divu(p.M, most), () => {
            call(most);
            f.inc(a, i32.mul(aRow, most));
            f.inc(c, i32.mul(cRow, most));
            f.inc(sums, 4 * most);
          });
          for (let r = 1; r < most; r++) f.iff(i32.eq(i32.remu(p.M, most), r), () => call(r));
          f.inc(b, i32.mul(K2, 4 * NR));
          f.inc(cols, 4 * n);
          if (s.bZero === 'columns') f.inc(zeros, n);
        };
        if (s.wide) f.times(i32.divu(p.N, NR), () => panel(NR));
        if (s.nTail) panel(s.nTail);
        f.inc(p.c, i32.mul(p.M, cRow));
      };
      const level = (l: number): void => {
        if (l === s.levels) return one();
        const [n, sa, sb] = [0, 1, 2].map((i) => f.arg('i32', HEAD + 3 * l + i)) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        f.times(n, () => {
          level(l + 1);
          f.inc(p.a, sa);
          f.inc(p.b, sb);
        });
        f.inc(p.a, i32.sub(0, i32.mul(n, sa)));
        f.inc(p.b, i32.sub(0, i32.mul(n, sb)));
      };
      level(0);
    }),
};

/** Inputs of an integer product by their numbers; zero points may be left out. */
interface Inputs {
  readonly a: number;
  readonly b: number;
  readonly aZero: number;
  readonly bZero: number;
}
const isByte = (d: DType | undefined): boolean => d === 'uint8' || d === 'int8';
function acceptsBytes(call: Call, at: Inputs): boolean {
  const { a, b, aZero, bZero } = {
    a: call.inputs[at.a]!,
    b: call.inputs[at.b]!,
    aZero: call.inputs[at.aZero],
    bZero: call.inputs[at.bZero],
  };
  const { aStep } = productOf(matmulShape(a.shape, b.shape));
  return (
    isByte(a.dtype) &&
    isByte(b.dtype) &&
    aStep === 1 &&
    (!aZero || sizeOf(aZero.shape) === 1) &&
    (!bZero || sizeOf(bZero.shape) === 1 || (bZero.shape.length === 1 && b.shape.length > 1))
  );
}
const bytesScratch = (call: Call, at: Inputs): number[] => {
  const b = call.inputs[at.b]!;
  const p = productOf(matmulShape(call.inputs[at.a]!.shape, b.shape));
  return [p.M * pairs(p.K) * 4 + 16, 4 * p.M + 16, b.constant ? 16 : panelBytes(p.K, p.N) + 16];
};
/** An int32 product; uses scratch 0, 1 and 2 of `bytesScratch`. */
function bytesLaunch(call: Call, at: Inputs, c: Ref): WasmLaunch<Spec> {
  const a = call.inputs[at.a]!;
  const b = call.inputs[at.b]!;
  const p = productOf(matmulShape(a.shape, b.shape));
  const bZero = call.inputs[at.bZero];
  const constant = b.constant !== undefined;
  const matrix = p.K * p.N;
  const matrices = matrix ? sizeOf(b.shape) / matrix : 0;
  const packed: Ref = {
    input: at.b,
    pack: { name: 'gemm.pairs', args: [p.K, p.N, p.bRow, p.bCol, matrices], bytes: matrices * panelBytes(p.K, p.N) },
  };
  const move = (l: Level): number => (constant && matrix ? (l.b / matrix) * panelBytes(p.K, p.N) : l.b);
  return {
    emit: quantGemmModule,
    spec: {
      a: a.dtype as Byte,
      b: b.dtype as Byte,
      packs: !constant,
      one: p.M === 1,
      wide: p.N >= NR,
      nTail: p.N % NR,
      levels: p.levels.length,
      aZero: !!call.inputs[at.aZero],
      bZero: !bZero ? '' : sizeOf(bZero.shape) === 1 ? 'one' : 'columns',
    },
    args: [
      { input: at.a },
      p.aRow,
      constant ? packed : { input: at.b },
      p.bRow,
      p.bCol,
      constant ? 0 : { scratch: 2 },
      { scratch: 0 },
      { scratch: 1 },
      call.inputs[at.aZero] ? { input: at.aZero } : 0,
      bZero ? { input: at.bZero } : 0,
      c,
      p.M,
      p.N,
      p.K,
      ...p.levels.flatMap((l) => [l.n, l.a, move(l)]),
    ],
    // Rows widen what they need of A themselves.
    split:
      p.levels.length > 0 || !constant
        ? null
        : {
            items: 11,
            grain: MR,
            moves: [
              [0, p.aRow],
              [6, 4 * pairs(p.K)],
              [7, 4],
              [10, 4 * p.N],
            ],
            cost: (p.N * p.K) / 25,
          },
  };
}

const PLAIN: Inputs = { a: 0, b: 1, aZero: 2, bZero: 3 };
const LINEAR: Inputs = { a: 0, b: 3, aZero: 2, bZero: 5 };
export const matMulIntegerWasm: WasmKernel = {
  name: 'gemm.pairs',
  accepts: (call) => acceptsBytes(call, PLAIN),
  scratch: (call) => bytesScratch(call, PLAIN),
  launch: (call) => bytesLaunch(call, PLAIN, { output: 0 }),
};

// ── QLinearMatMul ───────────────────────────────────────────────────────────────────────────────────────────────────
interface RequantSpec {
  readonly dtype: Byte;
  readonly columns: boolean;
}
/** run(sums, out, aScale, bScale, yScale, zero, rows, n): round(sum · aScale · bScale / yScale) + zero, saturated. */
export const requantModule: WasmEmitter<RequantSpec> = {
  name: 'requantize',
  build: (s, caps) =>
    kernelModule('requantize', i32s(8), caps, (f, m) => {
      const { sums, out, aScale, bScale, yScale, zero, rows, n } = params(
        f,
        'sums',
        'out',
        'aScale',
        'bScale',
        'yScale',
        'zero',
        'rows',
        'n',
      );
      const c = context(f, m, caps.fma);
      const at = f.local('i32');
      const scale = f.let(
        f32x4.div(
          f32x4.mul(v128.load32splat(aScale), s.columns ? f32x4.const(1) : v128.load32splat(bScale)),
          v128.load32splat(yScale),
        ),
      );
      const z = f.let(loadSplat(c, s.dtype, zero));
      const [least, most] = s.dtype === 'int8' ? [-128, 127] : [0, 255];
      const value = (v: V, by: V): V => {
        const scaled = f32x4.nearest(f32x4.mul(f32x4.convS(v), s.columns ? f32x4.mul(scale, by) : scale));
        return i32x4.mins(
          i32x4.maxs(
            i32x4.add(i32x4.truncSatS(f32x4.pmin(f32x4.pmax(scaled, -65536), 65536)), z),
            v128.const32(least!),
          ),
          v128.const32(most!),
        );
      };
      f.times(rows, () => {
        f.set(at, bScale);
        f.times(i32.shru(n, 2), () => {
          f.emit(store4(c, s.dtype, out, value(v128.load(sums), v128.load(at))));
          f.inc(sums, 16);
          f.inc(out, 4);
          if (s.columns) f.inc(at, 16);
        });
        f.times(i32.and(n, 3), () => {
          f.emit(store1(c, s.dtype, out, value(v128.load32splat(sums), v128.load32splat(at))));
          f.inc(sums, 4);
          f.inc(out, 1);
          if (s.columns) f.inc(at, 4);
        });
      });
    }),
};
export const qlinearMatMulWasm: WasmKernel = {
  name: 'gemm.pairs_linear',
  accepts: (call) => {
    const [as, bs, ys, yz] = [1, 4, 6, 7].map((i) => call.inputs[i]!);
    const single = (i: number): boolean => sizeOf(call.inputs[i]!.shape) === 1;
    return (
      acceptsBytes(call, LINEAR) &&
      [as!, bs!, ys!].every((s) => s.dtype === 'float32') &&
      isByte(yz!.dtype) &&
      single(1) &&
      single(6) &&
      single(7) &&
      (single(4) || (bs!.shape.length === 1 && call.inputs[3]!.shape.length > 1))
    );
  },
  scratch: (call) => [...bytesScratch(call, LINEAR), 4 * sizeOf(call.outputs[0]!.shape) + 16],
  launch: (call) => {
    const total = sizeOf(call.outputs[0]!.shape);
    const columns = sizeOf(call.inputs[4]!.shape) > 1;
    const n = columns ? call.inputs[3]!.shape.at(-1)! : total;
    const requant: WasmLaunch<RequantSpec> = {
      emit: requantModule,
      spec: { dtype: call.outputs[0]!.dtype as Byte, columns },
      args: [
        { scratch: 3 },
        { output: 0 },
        { input: 1 },
        { input: 4 },
        { input: 6 },
        { input: 7 },
        n ? total / n : 0,
        n,
      ],
      split: columns
        ? {
            items: 6,
            grain: 1,
            moves: [
              [0, 4 * n],
              [1, n],
            ],
            cost: n,
          }
        : {
            items: 7,
            grain: 16,
            moves: [
              [0, 4],
              [1, 1],
            ],
            cost: 1,
          },
    };
    return [bytesLaunch(call, LINEAR, { scratch: 3 }), requant];
  },
};
