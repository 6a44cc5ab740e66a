/**
 * The register-tiled product C (+)= A × B that matmul, convolution and recurrent kernels are made of.
 *
 * A tile of `mr` rows × `nv` vectors of 4 columns stays in registers while k runs; A values are splat straight from
 * memory, B is read as vectors. k is not unrolled: older V8 versions then spill the accumulators. Each element of C is
 * a sum of chains of `CHAIN` or `ROW_CHAIN` steps, in ascending k: results do not depend on the tile, and the rounding
 * error of a long sum grows with the length of its chains and with their number, not with K.
 */
import type { WasmCaps } from '../../src/core/plan.ts';
import {
  type Fn,
  f32,
  f32x4,
  i32,
  type I32,
  type Local,
  leaf,
  type Mod,
  type Num,
  type V,
  v128,
  type VT,
} from './asm.ts';

/** Rows and columns of a register tile. */
export type Tile = readonly [mr: number, nr: number];
/**
 * Tiles of products worth calibrating, the safe default first. Which is fastest depends on how the engine orders loads
 * and allocates registers.
 */
export const TILES: { readonly fma: readonly Tile[]; readonly plain: readonly Tile[] } = {
  fma: [
    [3, 12],
    [6, 8],
    [2, 16],
    [6, 16],
  ],
  plain: [
    [4, 8],
    [3, 12],
    [2, 16],
  ],
};
/** The tile of products: the calibrated one, or the default. */
const tileOf = (caps: WasmCaps): Tile => caps.tile ?? (caps.fma ? TILES.fma : TILES.plain)[0]!;

/**
 * Rows of A that are worked on while B passes by, depth of one pass over k, and steps of one chain of sums: of several
 * rows, and of one.
 */
const MC = 48;
const KC = 768;
const CHAIN = 64;
const ROW_CHAIN = 128;

/** acc + a·b, in one rounding where the machine has it. */
export const mac = (fma: boolean, a: V, b: V, acc: V): V =>
  fma ? f32x4.rmadd(a, b, acc) : f32x4.add(acc, f32x4.mul(a, b));

/** Named i32 parameters of a function being built. */
export const params = <K extends string>(f: Fn, ...names: K[]): Record<K, Local<'i32'>> =>
  Object.fromEntries(names.map((n, i) => [n, f.arg('i32', i)])) as Record<K, Local<'i32'>>;
export const i32s = (n: number): VT[] => new Array<VT>(n).fill('i32');
export const locals = <T extends VT>(f: Fn, type: T, n: number): Local<T>[] =>
  Array.from({ length: n }, () => f.local(type));
/** for (l = from; l < to; l += step), unsigned, zero times when from >= to. */
export function loop(f: Fn, l: Local<'i32'>, from: Num, to: Num, step: Num, body: () => void): void {
  f.set(l, typeof from === 'number' ? i32.const(from) : from);
  f.whileLoop(
    () => i32.ltu(l, to),
    () => {
      body();
      f.inc(l, step);
    },
  );
}

/** The first `n` (1 to 4) floats at `p`, the rest 0; reads no further. */
export function loadLanes(p: I32, n: number, off = 0): V {
  if (n === 4) return v128.load(p, off);
  if (n === 1) return v128.load32zero(p, off);
  const low = v128.load64zero(p, off);
  return n === 2 ? low : v128.load32lane(p, low, 2, off + 8);
}
/** Stores the first `n` (1 to 4) lanes. */
export function storeLanes(f: Fn, p: I32, v: Local<'v128'>, n: number, off = 0): void {
  if (n === 4) f.emit(v128.store(p, v, off));
  if (n === 2 || n === 3) f.emit(v128.store64lane(p, v, 0, off));
  if (n === 1 || n === 3) f.emit(v128.store32lane(p, v, n - 1, off + 4 * (n - 1)));
}

/**
 * A micro-kernel: (a, aRow, aStep, b, bStep, k, c, cRow, init): mr × cols of C from k steps, strides in bytes.
 * `init`: 0 adds the sums to C, 1 stores them.
 * `exactB`: B has no room behind its last column, so a part vector is read lane by lane. `one`: the product has a single row.
 */
export const microKernel = leaf(
  (_fma: boolean, mr: number, cols: number, _exactB: boolean, one: boolean) => `tile_${mr}x${cols}${one ? '_one' : ''}`,
  () => i32s(9),
  (f, fma, mr, cols, exactB, one) => {
    const chain = one ? ROW_CHAIN : CHAIN;
    const nv = Math.ceil(cols / 4);
    const lanes = (j: number): number => (j < nv - 1 ? 4 : cols - 4 * (nv - 1));
    const { a, aRow, aStep, b, bStep, k, c, cRow, init } = params(
      f,
      'a',
      'aRow',
      'aStep',
      'b',
      'bStep',
      'k',
      'c',
      'cRow',
      'init',
    );
    const acc = locals(f, 'v128', mr * nv);
    const bv = locals(f, 'v128', nv);
    const av = f.local('v128');
    const rows = [a, ...locals(f, 'i32', mr - 1)];
    const end = f.local('i32');
    const at = f.local('i32');
    const byRow = (visit: (i: number) => void): void => {
      f.set(at, c);
      for (let i = 0; i < mr; i++) {
        visit(i);
        if (i < mr - 1) f.inc(at, cRow);
      }
    };
    for (let i = 1; i < mr; i++) f.set(rows[i]!, i32.add(rows[i - 1]!, aRow));
    f.doWhile(
      () => {
        f.set(end, i32.add(b, i32.mul(i32.select(i32.gtu(k, chain), i32.const(chain), k), bStep)));
        f.iff(k, () =>
          f.doWhile(
            () => {
              for (let j = 0; j < nv; j++)
                f.set(bv[j]!, exactB ? loadLanes(b, lanes(j), 16 * j) : v128.load(b, 16 * j));
              for (let i = 0; i < mr; i++) {
                f.set(av, v128.load32splat(rows[i]!));
                for (let j = 0; j < nv; j++) f.set(acc[i * nv + j]!, mac(fma, av, bv[j]!, acc[i * nv + j]!));
                f.inc(rows[i]!, aStep);
              }
              f.inc(b, bStep);
            },
            () => i32.ne(b, end),
          ),
        );
        f.iff(i32.eqz(init), () =>
          byRow((i) => {
            for (let j = 0; j < nv; j++) {
              const x = acc[i * nv + j]!;
              f.set(x, f32x4.add(x, loadLanes(at, lanes(j), 16 * j)));
            }
          }),
        );
        byRow((i) => {
          for (let j = 0; j < nv; j++) storeLanes(f, at, acc[i * nv + j]!, lanes(j), 16 * j);
        });
        f.iff(i32.leu(k, chain), () => f.returnNow());
        for (const x of acc) f.set(x, v128.zero());
        f.inc(k, -chain);
        f.set(init, i32.const(0));
      },
      () => k,
    );
  },
);

/**
 * What of a problem is baked into the code: the tile, and what is left over of N. M and K may be any, as dims of inputs
 * are.
 */
export interface GemmSpec {
  readonly tile: Tile;
  /** M is 1: there are no other rows to share what is read of B. */
  readonly one: boolean;
  /** N ≥ nr, and N % nr; or N is any, panels are all of nr columns, and rows of C have room for them. */
  readonly wide: boolean;
  readonly nTail: number | 'any';
  /** B is packed in panels (see `packPanels`), or read where it lies: rows of N floats. */
  readonly direct?: boolean;
}
export function gemmSpec(caps: WasmCaps, M: number, N: number, direct = false): GemmSpec {
  const tile: Tile = direct ? directTile(caps, M) : tileOf(caps);
  const nr = tile[1];
  return { tile, one: M === 1, wide: N >= nr, nTail: N % nr, ...(direct ? { direct } : {}) };
}
/** The spec of a product whose N is a dim of inputs too. */
export const anyWidth = (caps: WasmCaps): GemmSpec => ({ tile: tileOf(caps), one: false, wide: true, nTail: 'any' });
/** Few rows: long vectors, so that each row of B is read in whole cache lines. */
const directTile = (caps: WasmCaps, M: number): Tile => (M === 1 ? [1, 32] : M === 2 ? [2, 16] : tileOf(caps));
const up4 = (n: number): number => Math.ceil(n / 4) * 4;
/** Floats of B packed in panels of `nr` columns, the last one of its own width rounded up to 4. */
export const panelFloats = (nr: number, K: number, N: number): number => K * (Math.floor(N / nr) * nr + up4(N % nr));

type L = Local<'i32'>;
type Local10 = [L, L, L, L, L, L, L, L, L, L];

/**
 * (a, aRow, aStep, b, bRow, c, cRow, M, N, K): C = A × B. Strides in bytes; M and N may also be those of the spec's
 * product less a multiple of the tile's, or such a multiple. B: packed panels, or where `direct` rows `bRow` bytes
 * apart.
 */
export function gemm2d(m: Mod, caps: WasmCaps, s: GemmSpec): Fn {
  const nr = s.tile[1];
  const mr = s.one ? 1 : s.tile[0];
  const nTail = s.nTail === 'any' ? 0 : s.nTail;
  if (!s.direct && s.one && s.wide && nr <= 16) return gemv(m, caps, s);
  const tile = (rows: number, cols: number): Fn => microKernel(m, caps.fma, rows, cols, !!s.direct, s.one);
  for (let r = 1; r <= mr; r++) for (const c of [s.wide ? nr : 0, nTail]) if (c) tile(r, c);
  return m.fn('gemm', i32s(10), [], false, (f) => {
    const p = params(f, 'a', 'aRow', 'aStep', 'b', 'bRow', 'c', 'cRow', 'M', 'N', 'K');
    const mc = Math.max(mr, Math.floor(MC / mr) * mr);
    const [a, c, b, kc, k0, init, left, block, bk, cb] = locals(f, 'i32', 10) as Local10;
    f.set(left, p.M);
    f.whileLoop(
      () => left,
      () => {
        f.set(block, i32.const(mc));
        f.iff(i32.ltu(left, mc), () => f.set(block, left));
        f.set(k0, i32.const(0));
        f.set(init, i32.const(1));
        f.doWhile(
          () => {
            // k passes; one even when K = 0
            f.set(kc, i32.sub(p.K, k0));
            f.iff(i32.gtu(kc, KC), () => f.set(kc, i32.const(KC)));
            f.set(cb, p.c);
            const panel = (cols: number, rowBytes: number): void => {
              f.set(a, i32.add(p.a, i32.mul(k0, p.aStep)));
              f.set(c, cb);
              const bStep = s.direct ? p.bRow : i32.const(rowBytes);
              f.set(bk, i32.add(b, i32.mul(k0, bStep)));
              const call = (rows: number): void =>
                f.call(tile(rows, cols), a, p.aRow, p.aStep, bk, bStep, kc, c, p.cRow, init);
              f.times(i32.divu(block, mr), () => {
                call(mr);
                f.inc(a, i32.mul(p.aRow, mr));
                f.inc(c, i32.mul(p.cRow, mr));
              });
              for (let r = 1; r < mr; r++) f.iff(i32.eq(i32.remu(block, mr), r), () => call(r));
              f.inc(b, s.direct ? i32.const(cols * 4) : i32.mul(p.K, rowBytes));
              f.inc(cb, cols * 4);
            };
            f.set(b, p.b);
            if (s.wide) f.times(i32.divu(s.nTail === 'any' ? i32.add(p.N, nr - 1) : p.N, nr), () => panel(nr, nr * 4));
            if (nTail) f.iff(i32.remu(p.N, nr), () => panel(nTail, up4(nTail) * 4));
            f.inc(k0, kc);
            f.set(init, i32.const(0));
          },
          () => i32.ltu(k0, p.K),
        );
        f.inc(p.a, i32.mul(p.aRow, block));
        f.inc(p.c, i32.mul(p.cRow, block));
        f.inc(left, i32.sub(0, block));
      },
    );
  });
}

/**
 * (a, aStep, b, pitch, c, K): one chain of one row of A against `n` panels of `nv` vectors, `pitch` bytes apart, at
 * once.
 */
const rowPanels = leaf(
  (_fma: boolean, _nv: number, n: number) => `row_x${n}`,
  () => i32s(6),
  (f, fma, nv, n) => {
    const { a, aStep, b, pitch, c, K } = params(f, 'a', 'aStep', 'b', 'pitch', 'c', 'K');
    const acc = locals(f, 'v128', n * nv);
    const bs = [b, ...locals(f, 'i32', n - 1)];
    const av = f.local('v128');
    for (let g = 1; g < n; g++) f.set(bs[g]!, i32.add(bs[g - 1]!, pitch));
    f.times(K, () => {
      f.set(av, v128.load32splat(a));
      for (let g = 0; g < n; g++) {
        for (let j = 0; j < nv; j++) f.set(acc[g * nv + j]!, mac(fma, av, v128.load(bs[g]!, 16 * j), acc[g * nv + j]!));
        f.inc(bs[g]!, 16 * nv);
      }
      f.inc(a, aStep);
    });
    acc.forEach((x, j) => f.emit(v128.store(c, x, 16 * j)));
  },
);

/**
 * One row of A against packed panels: several panels at once, since one alone would wait for each sum. Same signature
 * as `gemm2d`.
 */
function gemv(m: Mod, caps: WasmCaps, s: GemmSpec): Fn {
  const nr = s.tile[1];
  const nv = nr / 4;
  const together = Math.max(1, Math.floor(9 / nv));
  const many = rowPanels(m, caps.fma, nv, together);
  const one = together > 1 ? rowPanels(m, caps.fma, nv, 1) : many;
  const nTail = s.nTail as number;
  const tail = nTail ? microKernel(m, caps.fma, 1, nTail, false, true) : null;
  return m.fn('gemm', i32s(10), [], false, (f) => {
    const p = params(f, 'a', 'aRow', 'aStep', 'b', 'bRow', 'c', 'cRow', 'M', 'N', 'K');
    const [a, b, left] = locals(f, 'i32', 3) as [L, L, L];
    const pitch = f.let(i32.mul(p.K, nr * 4));
    const before = locals(f, 'v128', together * nv);
    const run = (fn: Fn, n: number): void => {
      const chain = f.let(i32.select(i32.gtu(p.K, ROW_CHAIN), i32.const(ROW_CHAIN), p.K));
      const sums = before.slice(0, n * nv);
      f.call(fn, p.a, p.aStep, p.b, pitch, p.c, chain);
      f.set(a, p.a);
      f.set(b, p.b);
      f.set(left, i32.sub(p.K, chain));
      f.whileLoop(
        () => left,
        () => {
          // added here: V8 keeps sums in memory that are more than stored behind their loop
          sums.forEach((x, j) => f.set(x, v128.load(p.c, 16 * j)));
          f.inc(a, i32.mul(chain, p.aStep));
          f.inc(b, i32.mul(chain, nr * 4));
          f.iff(i32.ltu(left, chain), () => f.set(chain, left));
          f.call(fn, a, p.aStep, b, pitch, p.c, chain);
          sums.forEach((x, j) => f.emit(v128.store(p.c, f32x4.add(x, v128.load(p.c, 16 * j)), 16 * j)));
          f.inc(left, i32.sub(0, chain));
        },
      );
      f.inc(p.b, i32.mul(pitch, n));
      f.inc(p.c, n * nr * 4);
    };
    f.times(i32.divu(p.N, nr * together), () => run(many, together));
    if (together > 1) f.times(i32.remu(i32.divu(p.N, nr), together), () => run(one, 1));
    if (tail)
      f.iff(i32.remu(p.N, nr), () =>
        f.call(tail, p.a, p.aRow, p.aStep, p.b, i32.const(up4(nTail) * 4), p.K, p.c, p.cRow, i32.const(1)),
      );
  });
}

/**
 * (src, kStep, nStep, dst, N, K): packs B into panels. Columns adjacent (`nStep` 4) are copied as vectors; columns of
 * adjacent k's (`kStep` 4: B transposed) are turned 4 × 4.
 */
export function packPanels(m: Mod, s: GemmSpec, transposed: boolean): Fn {
  const nr = s.tile[1];
  const { nTail } = s;
  return m.fn('pack', i32s(6), [], false, (f) => {
    const { src, kStep, nStep, dst, N, K } = params(f, 'src', 'kStep', 'nStep', 'dst', 'N', 'K');
    const [at, to, col] = locals(f, 'i32', 3) as [L, L, L];
    const rows = locals(f, 'v128', 4);
    const half = locals(f, 'v128', 4);
    /** What is left of N, column by column; the other columns of its panel are left as they are. */
    const rest = (): void =>
      f.times(i32.remu(N, nr), () => {
        f.set(at, src);
        f.set(to, dst);
        f.times(K, () => {
          f.emit(i32.store(to, i32.load(at)));
          f.inc(at, kStep);
          f.inc(to, 4 * nr);
        });
        f.inc(src, nStep);
        f.inc(dst, 4);
      });
    const panel = (cols: number): void => {
      const bytes = up4(cols) * 4;
      if (!transposed) {
        f.set(at, src);
        f.times(K, () => {
          for (let j = 0; j < cols; j += 4) f.emit(v128.store(dst, loadLanes(at, Math.min(4, cols - j), 4 * j), 4 * j));
          f.inc(at, kStep);
          f.inc(dst, bytes);
        });
      } else {
        f.set(col, src);
        for (let j = 0; j < cols; j += 4) {
          const n = Math.min(4, cols - j);
          f.set(at, col);
          f.set(to, i32.add(dst, 4 * j));
          f.times(i32.shru(K, 2), () => {
            for (let i = 0; i < 4; i++)
              f.set(rows[i]!, i < n ? v128.load(i ? i32.add(at, i32.mul(nStep, i)) : at) : v128.zero());
            turn4(f, rows, half).forEach((v, i) => f.emit(v128.store(to, v, i * bytes)));
            f.inc(at, 16);
            f.inc(to, 4 * bytes);
          });
          f.times(i32.and(K, 3), () => {
            for (let i = 0; i < 4; i++)
              f.emit(f32.store(to, i < n ? f32.load(i ? i32.add(at, i32.mul(nStep, i)) : at) : f32.const(0), 4 * i));
            f.inc(at, 4);
            f.inc(to, bytes);
          });
          f.inc(col, i32.mul(nStep, n));
        }
        f.inc(dst, i32.mul(K, bytes));
      }
      f.inc(src, i32.mul(nStep, cols));
    };
    if (s.wide) f.times(i32.divu(N, nr), () => panel(nr));
    if (nTail === 'any') rest();
    else if (nTail) f.iff(i32.remu(N, nr), () => panel(nTail));
  });
}
/** The 4 × 4 transpose of `rows`; `half` is overwritten. */
export function turn4(f: Fn, rows: readonly V[], half: readonly Local<'v128'>[]): V[] {
  const [r0, r1, r2, r3] = rows as [V, V, V, V];
  const [h0, h1, h2, h3] = half as [Local<'v128'>, Local<'v128'>, Local<'v128'>, Local<'v128'>];
  f.set(h0, v128.shuf32(r0, r1, [0, 4, 1, 5]));
  f.set(h1, v128.shuf32(r2, r3, [0, 4, 1, 5]));
  f.set(h2, v128.shuf32(r0, r1, [2, 6, 3, 7]));
  f.set(h3, v128.shuf32(r2, r3, [2, 6, 3, 7]));
  return [
    v128.shuf32(h0, h1, [0, 1, 4, 5]),
    v128.shuf32(h0, h1, [2, 3, 6, 7]),
    v128.shuf32(h2, h3, [0, 1, 4, 5]),
    v128.shuf32(h2, h3, [2, 3, 6, 7]),
  ];
}
