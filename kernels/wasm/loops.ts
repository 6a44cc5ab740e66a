/**
 * Kernels written as plain loops over elements of any dtype, in double precision: for operators whose time does not
 * matter much.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { WasmEmitter } from '../define.ts';
import { type Expr, type F64, f64, f64x2, type Fn, i32, type I32, i64, type Local, type Mod, type Num } from './asm.ts';
import { type Ctx, context, exp64, log64, shared } from './float.ts';
import { i32s, loop } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { elementAt, loadAt, storeNumber } from './number.ts';

/** A function being written, its parameters by name, and what loops are made of. Elements are addressed by number. */
export interface Loops<P extends string> {
  readonly f: Fn;
  readonly m: Mod;
  readonly c: Ctx;
  readonly p: Readonly<Record<P, Local<'i32'>>>;
  readonly get: (d: DType, base: I32, i: I32) => F64;
  /** The element in a local. */
  readonly take: (d: DType, base: I32, i: I32) => Local<'f64'>;
  readonly put: (d: DType, base: I32, i: I32, v: F64) => void;
  /** i = 0 … n − 1 (`from` … n − 1). */
  readonly each: (n: Num, body: (i: Local<'i32'>) => void, from?: Num) => void;
  readonly int: (v: Num) => Local<'i32'>;
  readonly real: (v: F64 | number) => Local<'f64'>;
}
export const loopsOf = <P extends string>(
  f: Fn,
  m: Mod,
  fma: boolean,
  names: readonly P[],
  made?: Map<string, Fn>,
): Loops<P> => {
  const c: Ctx = made ? { f, m, fma, made } : context(f, m, fma);
  return {
    f,
    m,
    c,
    p: Object.fromEntries(names.map((n, i) => [n, f.arg('i32', i)])) as Record<P, Local<'i32'>>,
    get: (d, base, i) => loadAt(c, d, base, i),
    take: (d, base, i) => f.let(loadAt(c, d, base, i)),
    put: (d, base, i, v) => storeNumber(c, d, elementAt(d, base, i), v),
    each: (n, body, from = 0) => {
      const i = f.local('i32');
      loop(f, i, from, n, 1, () => body(i));
    },
    int: (v) => f.let(typeof v === 'number' ? i32.const(v) : v),
    real: (v) => f.let(typeof v === 'number' ? f64.const(v) : v),
  };
};

/** A kernel of loops. Parameters are `names` in order; `checked`: the loops may leave with status 1, else it is 0. */
export const loopEmitter = <S, P extends string>(
  name: string,
  names: (spec: S) => readonly P[],
  build: (k: Loops<P>, spec: S) => void,
  checked = false,
): WasmEmitter<S> => ({
  name,
  build: (spec, caps) => {
    const of = names(spec);
    return kernelModule(
      name,
      i32s(of.length),
      caps,
      (f, m) => {
        build(loopsOf(f, m, caps.fma, of), spec);
        if (checked) f.ret(i32.const(0));
      },
      checked,
    );
  },
});

/** Sum of products: i·n + j. */
export const at = (i: I32, n: Num, j: Num): I32 => i32.add(i32.mul(i, n), j);
/** a · b + c · d …, for offsets. */
export const sum = (...terms: Num[]): I32 =>
  terms.map((t) => (typeof t === 'number' ? i32.const(t) : t)).reduce((a, b) => i32.add(a, b));

const unaryFn = (c: Ctx, name: string, body: (f: Fn, x: Local<'f64'>) => F64): Fn =>
  shared(c, name, (m) => m.fn(name, ['f64'], ['f64'], false, (f) => f.ret(body(f, f.arg('f64', 0)))));
const expFn = (c: Ctx): Fn =>
  unaryFn(c, 'exp64', (f, x) => f64.select(f64.ne(x, x), x, f64x2.lane(exp64({ ...c, f }, f64x2.splat(x)), 0) as F64));
/** e^x, relative error 3e-16; 0 and infinity where it must be; NaN stays. */
export const expOf = (c: Ctx): ((x: F64) => F64) => {
  const fn = expFn(c);
  return (x) => c.f.value('f64', fn, x);
};
/** Natural logarithm. */
export const logOf = (c: Ctx): ((x: F64) => F64) => {
  const fn = unaryFn(c, 'log64', (f, x) => f64x2.lane(log64({ ...c, f }, f64x2.splat(x)), 0) as F64);
  return (x) => c.f.value('f64', fn, x);
};
/** tanh by its exponential, and by its series where that would cancel. */
export function tanhOf(c: Ctx): (x: F64) => F64 {
  const exp = expFn(c);
  const fn = unaryFn(c, 'tanh64', (f, x) => {
    const a = f.let(f64.abs(x));
    const z = f.let(f64.mul(x, x));
    f.iff(f64.lt(a, 0.03125), () =>
      f.returnNow(
        f64.mul(
          x,
          f64.add(
            1,
            f64.mul(
              z,
              f64.add(-1 / 3, f64.mul(z, f64.add(2 / 15, f64.mul(z, f64.add(-17 / 315, f64.mul(z, 62 / 2835)))))),
            ),
          ),
        ),
      ),
    );
    return f64.copysign(f64.sub(1, f64.div(2, f64.add(f.value('f64', exp, f64.mul(f64.min(a, 20), 2)), 1))), x);
  });
  return (x) => c.f.value('f64', fn, x);
}

/**
 * The integer at element `i` of an int32 or int64 tensor as an i32. What does not fit 31 bits and a sign becomes the
 * least of them, so range checks refuse it.
 */
export function indexAt(f: Fn, d: DType, base: I32, i: I32): Local<'i32'> {
  if (d !== 'int64') return f.let(i32.load(elementAt(d, base, i)));
  const v = f.let(i64.load(elementAt(d, base, i)));
  return f.let(i32.select(i64.eq(i64.extend32s(v), v), i32.wrap(v), -0x80000000));
}
/** Nested loops over `dims` with running element numbers: body gets one for each list of strides. */
export function nest(
  k: Loops<string>,
  dims: readonly Num[],
  strides: readonly (readonly Num[])[],
  starts: readonly I32[],
  body: (at: readonly Local<'i32'>[]) => void,
): void {
  const { f } = k;
  const level = (d: number, from: readonly Expr<'i32'>[]): void => {
    const here = from.map((v) => f.let(v));
    if (d === dims.length) {
      body(here);
      return;
    }
    f.times(dims[d]!, () => {
      level(d + 1, here);
      here.forEach((v, s) => f.inc(v, strides[s]![d]!));
    });
  };
  level(0, starts);
}

/** Names of parameters of each of `rank` dims, dim by dim. */
export const ofDims = (rank: number, of: (d: number) => string[]): string[] =>
  Array.from({ length: rank }, (_, d) => of(d)).flat();
