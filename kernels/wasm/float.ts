/**
 * Functions of four f32 lanes, in vector code. Polynomials are our own minimax fits. Stated errors are the largest
 * found against float64 over each function's range, in units of 2^-24 relative (f32's half ulp at 1) unless said
 * otherwise; with and without relaxed multiply-add. NaN gives NaN everywhere; infinities and zeros behave as in C.
 */
import { type Fn, f32, f32x4, f64, f64x2, i32, i32x4, i64, i64x2, type Local, type Mod, type V, v128 } from './asm.ts';

/** Where code is written, and with what. */
export interface Ctx {
  readonly f: Fn;
  readonly m: Mod;
  readonly fma: boolean;
  readonly made: Map<string, Fn>;
}
export const context = (f: Fn, m: Mod, fma: boolean): Ctx => ({ f, m, fma, made: new Map() });

/** A function of the module, made at its first use. */
export function shared(c: Ctx, name: string, make: (m: Mod) => Fn): Fn {
  let fn = c.made.get(name);
  if (!fn) c.made.set(name, (fn = make(c.m)));
  return fn;
}

const K = f32x4.const;
const SIGN = (): V => v128.const32(-0x80000000);
/** a·b + d, rounded once or twice. */
export const madd = (c: Ctx, a: V, b: V, d: V): V => (c.fma ? f32x4.rmadd(a, b, d) : f32x4.add(f32x4.mul(a, b), d));
/** d − a·b, rounded once or twice. */
export const nmadd = (c: Ctx, a: V, b: V, d: V): V => (c.fma ? f32x4.rnmadd(a, b, d) : f32x4.sub(d, f32x4.mul(a, b)));
/** Coefficients from the constant upwards. */
const poly = (c: Ctx, x: V, co: readonly number[]): V =>
  co.slice(0, -1).reduceRight((p, k) => madd(c, p, x, K(k)), K(co.at(-1)!));
const choose = (mask: V, a: V, b: V): V => v128.bitselect(a, b, mask);
/** Magnitude of `a`, sign of `like`. */
const signed = (a: V, like: V): V => v128.or(a, v128.and(like, SIGN()));
/**
 * 1.5 · 2^23, and 127: adding it rounds to an integer n and leaves n + 127 in the low mantissa bits. Shifted by 23 they
 * are those of 2^n.
 */
const MAGIC = 12582912 + 127;

const EXP = [0.49999994, 0.166665196, 0.0416682586, 0.0083688572, 0.00138217676];
/** e^r and the integer n of x = n·ln 2 + r, in `m` as MAGIC has it. */
function expParts(c: Ctx, x: V): { p: V; m: Local<'v128'> } {
  const { f } = c;
  const m = f.let(madd(c, x, K(1.4426950408889634), K(MAGIC)));
  const n = f.let(f32x4.sub(m, MAGIC));
  const r = f.let(nmadd(c, n, K(-2.1219444e-4), nmadd(c, n, K(0.693359375), x)));
  return { p: f32x4.add(madd(c, poly(c, r, EXP), f32x4.mul(r, r), r), 1), m };
}
/** p · 2^n of normal numbers. The product, unlike a sum of exponents, keeps any NaN one. */
const scaled = (p: V, m: V): V => f32x4.mul(p, i32x4.shl(m, 23));
/** e^x · 2^bias, also where the result is subnormal or infinite. 1.5 units. */
export function exp(c: Ctx, x0: V, bias = 0): V {
  const { f } = c;
  const { p, m } = expParts(c, f.let(f32x4.pmin(f32x4.pmax(x0, -105), 90)));
  const n = f.let(i32x4.sub(m, v128.const32(0x4b40007f - bias)));
  const half = f.let(i32x4.shrs(n, 1));
  const power = (k: V): V => i32x4.shl(i32x4.add(k, v128.const32(127)), 23);
  return f32x4.mul(f32x4.mul(p, power(half)), power(i32x4.sub(n, half)));
}
/** e^x for x ≤ 0 (softmax), 0 below −87.3: less work. 1.5 units. */
export function expNegative(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const { p, m } = expParts(c, f.let(f32x4.pmax(x, -87.3)));
  return v128.andnot(scaled(p, m), f32x4.lt(x, -87.3));
}
const EXP2 = [1, 0.693147004, 0.240222394, 0.0555073619, 0.00967172906, 0.00132644654];
/**
 * e^x for x ≤ 0 that are differences, as softmax has them: less work than `expNegative`. 3.2 + 1.25 |x| units (a
 * difference's own rounding comes to |x|); 0 below −87.7, and off by less than 2^-126 from there to −87.3.
 */
export function expDecay(c: Ctx, x: V): V {
  const { f } = c;
  const t = f.let(f32x4.pmax(f32x4.mul(x, Math.LOG2E), -127)); // the power for −127 is 0
  const n = f.let(f32x4.nearest(t));
  const r = f.let(f32x4.sub(t, n));
  const z = f.let(f32x4.mul(r, r));
  const pair = (k: number): V => poly(c, r, EXP2.slice(k, k + 2)); // a shorter chain than Horner's
  return scaled(madd(c, madd(c, pair(4), z, pair(2)), z, pair(0)), f32x4.add(n, MAGIC));
}
/** e^x for x not below −87.3, infinite from 88.4: less work, never 0. 1.5 units. */
function expUnbounded(c: Ctx, x: V): V {
  const { p, m } = expParts(c, c.f.let(f32x4.pmin(f32x4.pmax(x, -87.3), 88.8))); // the power for 88.8 is infinite
  return scaled(p, m);
}

const LOG = [0.666666627, 0.400009722, 0.284987897, 0.242790431];
/** Natural logarithm. 1.6 units, or 2^-24 absolute next to 1. */
export function log(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const tiny = f.let(f32x4.lt(x, 1.1754943508222875e-38));
  const i = f.let(i32x4.sub(choose(tiny, f32x4.mul(x, 8388608), x), v128.const32(0x3f3504f3))); // 0x3f3504f3: sqrt(1/2)
  const e = f.let(f32x4.sub(f32x4.convS(i32x4.shrs(i, 23)), v128.and(tiny, K(23))));
  const t = f.let(f32x4.sub(i32x4.add(v128.and(i, v128.const32(0x7fffff)), v128.const32(0x3f3504f3)), 1));
  const s = f.let(f32x4.div(t, f32x4.add(t, 2)));
  const z = f.let(f32x4.mul(s, s));
  const h = f.let(f32x4.mul(f32x4.mul(t, t), 0.5));
  const low = madd(c, s, madd(c, z, poly(c, z, LOG), h), f32x4.mul(e, -2.1219444e-4));
  const r = madd(c, e, K(0.693359375), f32x4.sub(t, f32x4.sub(h, low)));
  const finite = choose(f32x4.lt(x, Infinity), r, x);
  const zero = choose(f32x4.eq(x, 0), K(-Infinity), finite);
  return v128.or(zero, f32x4.lt(x, 0)); // all ones: a NaN
}
/** log(1 + t), exact to 2.5 units also for tiny t. */
export function log1p(c: Ctx, t0: V): V {
  const { f } = c;
  const t = f.let(t0);
  const u = f.let(f32x4.add(t, 1));
  const l = f.let(log(c, u));
  const corrected = f32x4.add(l, f32x4.div(f32x4.sub(t, f32x4.sub(u, 1)), u));
  return choose(v128.and(f32x4.lt(t, Infinity), f32x4.gt(u, 0)), corrected, l);
}

/** 1 / (1 + e^-x). 3 units; 0 below −88.4. */
export const sigmoid = (c: Ctx, x: V): V => f32x4.div(1, f32x4.add(expUnbounded(c, f32x4.neg(x)), 1));

const LOG1P = [0.666666687, 0.399997681, 0.285799623, 0.220955968, 0.18817088, 0.167467818];
/** log(1 + e^x). 3 units; 0 below −87.3. */
export function softplus(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const t = f.let(expNegative(c, f32x4.neg(f32x4.abs(x))));
  const s = f.let(f32x4.div(t, f32x4.add(t, 2)));
  const z = f.let(f32x4.mul(s, s));
  return f32x4.add(f32x4.pmax(x, 0), madd(c, f32x4.mul(s, z), poly(c, z, LOG1P), f32x4.add(s, s)));
}

const TANH_P = [0.999999999, 0.136799148, 0.00386832744, 2.80074538e-5, 3.05850138e-8, -1.2203462e-11];
const TANH_Q = [1, 0.470132469, 0.0272458376, 0.000393863062, 1.2873663e-6];
/** 4 units. */
export function tanh(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(f32x4.pmin(f32x4.pmax(x0, -9.02), 9.02));
  const z = f.let(f32x4.mul(x, x));
  return f32x4.pmin(f32x4.pmax(f32x4.div(f32x4.mul(poly(c, z, TANH_P), x), poly(c, z, TANH_Q)), -1), 1);
}

const ERF_P = [1.12837917, 0.18514762, 0.0542547387, 0.00384029206, 0.000377167815, 4.62006663e-6, -1.28580089e-8];
const ERF_Q = [1, 0.497416214, 0.113886929, 0.0154348384, 0.00130240966, 6.25009432e-5];
/** 6 units. */
export function erf(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(f32x4.pmin(f32x4.pmax(x0, -3.93), 3.93));
  const z = f.let(f32x4.mul(x, x));
  return f32x4.pmin(f32x4.pmax(f32x4.div(f32x4.mul(poly(c, z, ERF_P), x), poly(c, z, ERF_Q)), -1), 1);
}

/** Bits of 2/π after the point, from the highest. */
const TWO_OVER_PI = [0xa2f9836e4e441529n, 0xfc2757d1f534ddc0n, 0xdb6295993c439041n, 0xfe5163abdebbc561n];
/**
 * |x| ≥ 2^26, in [r in (−π/4, π/4], quadrant mod 4]: x·2/π with 128 bits of 2/π from where its bits begin to matter
 * (Payne and Hanek).
 */
const reduceLarge = (c: Ctx): Fn =>
  shared(c, 'reduce large', (m) =>
    m.fn('reduce large', ['f32'], ['f32', 'i32'], false, (f) => {
      const x = f.arg('f32', 0);
      const bits = f.let(i32.bitsOf(x));
      f.iff(i32.ges(i32.and(bits, 0x7fffffff), 0x7f800000), () => f.returnNow(f32.sub(x, x), i32.const(0)));
      const man = f.let(i64.extendU(i32.or(i32.and(bits, 0x7fffff), 0x800000)));
      // x = man · 2^(at+2): bits before `at` give whole turns
      const at = f.let(i64.extendU(i32.sub(i32.and(i32.shru(bits, 23), 255), 152)));
      const word = f.let(i32.wrap(i64.shru(at, 6)));
      const shift = f.let(i64.and(at, 63));
      const pick = (k: number) => i64.select(i32.eqz(word), TWO_OVER_PI[k]!, TWO_OVER_PI[k + 1]!);
      const [a, b, d] = [f.let(pick(0)), f.let(pick(1)), f.let(pick(2))];
      const join = (hi: typeof a, lo: typeof a) =>
        i64.or(i64.shl(hi, shift), i64.shru(i64.shru(lo, 1), i64.sub(63, shift)));
      const hi = f.let(join(a, b));
      const lo = f.let(join(b, d));
      const carry = i64.shru(
        i64.add(i64.mul(man, i64.shru(lo, 32)), i64.shru(i64.mul(man, i64.and(lo, 0xffffffffn)), 32)),
        32,
      );
      // quarter turns in the top two bits, a fraction of one below
      const turn = f.let(i64.add(i64.mul(man, hi), carry));
      const n = f.let(i64.shru(i64.add(turn, 1n << 61n), 62));
      const part = i64.sub(turn, i64.shl(n, 62));
      const r = f.let(f32.demote(f64.mul(f64.convS64(part), 1.5707963267948966 * 2 ** -62)));
      const negative = f.let(i32.lts(bits, 0));
      f.ret(f32.select(negative, f32.neg(r), r));
      f.ret(i32.and(i32.select(negative, i32.sub(0, i32.wrap(n)), i32.wrap(n)), 3));
    }),
  );
/** x = q·π/2 + r with |r| ≤ π/4, for any finite x. */
function reduce(c: Ctx, x: Local<'v128'>): { r: Local<'v128'>; q: Local<'v128'> } {
  const { f } = c;
  const half = (part: V): { r: V; n: V } => {
    const d = f.let(f64x2.promote(part));
    const n = f.let(f64x2.nearest(f64x2.mul(d, 0.6366197723675814)));
    return {
      r: f32x4.demote(f64x2.sub(f64x2.sub(d, f64x2.mul(n, 1.5707963109016418)), f64x2.mul(n, 1.5893254773528196e-8))),
      n: i32x4.truncSatS64(n),
    };
  };
  const a = half(x);
  const b = half(v128.shuf32(x, x, [2, 3, 2, 3]));
  const r = f.let(v128.shuf32(a.r, b.r, [0, 1, 4, 5]));
  const q = f.let(v128.shuf32(a.n, b.n, [0, 1, 4, 5]));
  const large = f.let(v128.not(f32x4.lt(f32x4.abs(x), 2 ** 26)));
  f.iff(v128.anyTrue(large), () => {
    const rl = f.local('f32');
    const ql = f.local('i32');
    for (let l = 0; l < 4; l++)
      f.iff(i32x4.lane(large, l), () => {
        f.call(reduceLarge(c), f32x4.lane(x, l));
        f.pop(ql);
        f.pop(rl);
        f.set(r, f32x4.replace(r, l, rl));
        f.set(q, i32x4.replace(q, l, ql));
      });
  });
  return { r, q };
}
const SIN = [-0.166666672, 0.0083333794, -0.000198530717, 2.83268014e-6];
const COS = [0.0416666456, -0.00138873095, 2.44323364e-5];
function sinCos(c: Ctx, x0: V): { s: Local<'v128'>; k: Local<'v128'>; q: Local<'v128'> } {
  const { f } = c;
  const { r, q } = reduce(c, f.let(x0));
  const z = f.let(f32x4.mul(r, r));
  const s = f.let(madd(c, f32x4.mul(r, z), poly(c, z, SIN), r));
  const k = f.let(madd(c, f32x4.mul(z, z), poly(c, z, COS), nmadd(c, z, K(0.5), K(1))));
  return { s, k, q };
}
const odd = (q: V): V => i32x4.ne(v128.and(q, v128.const32(1)), v128.zero());
const turned = (q: V): V => i32x4.shl(v128.and(q, v128.const32(2)), 30);
/** Any finite x. 1.7 units. */
export function sin(c: Ctx, x: V): V {
  const { s, k, q } = sinCos(c, x);
  return v128.xor(choose(odd(q), k, s), turned(q));
}
/** Any finite x. 1.7 units. */
export function cos(c: Ctx, x: V): V {
  const { s, k, q } = sinCos(c, x);
  return v128.xor(choose(odd(q), s, k), turned(i32x4.add(q, v128.const32(1))));
}
/** Any finite x. 4 units. */
export function tan(c: Ctx, x: V): V {
  const { s, k, q } = sinCos(c, x);
  const o = c.f.let(odd(q));
  return f32x4.div(choose(o, k, s), v128.xor(choose(o, s, k), v128.and(o, SIGN())));
}

const ATAN = [-0.333333164, 0.199985266, -0.142443448, 0.105987281, -0.0608873554];
/** 3 units. */
export function atan(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const a = f.let(f32x4.abs(x));
  const far = f.let(f32x4.gt(a, 2.414213562373095));
  const mid = f.let(v128.andnot(f32x4.gt(a, 0.41421356237309503), far));
  const num = choose(far, K(-1), choose(mid, f32x4.sub(a, 1), a));
  const den = choose(far, a, choose(mid, f32x4.add(a, 1), K(1)));
  const base = v128.or(v128.and(far, K(Math.PI / 2)), v128.and(mid, K(Math.PI / 4)));
  const r = f.let(f32x4.div(num, den));
  const z = f.let(f32x4.mul(r, r));
  return signed(f32x4.add(base, madd(c, f32x4.mul(r, z), poly(c, z, ATAN), r)), x);
}
const ASIN = [0.166666597, 0.0750052184, 0.0445133746, 0.0318390839, 0.0143149635, 0.0376964621];
/** asin of |x|, folded: `far` where |x| > 1/2, and there asin = π/2 − 2·p; else asin = p. */
function asinParts(c: Ctx, x: V): { p: Local<'v128'>; far: Local<'v128'> } {
  const { f } = c;
  const a = f.let(f32x4.abs(x));
  const far = f.let(f32x4.gt(a, 0.5));
  const z = f.let(choose(far, f32x4.mul(f32x4.sub(1, a), 0.5), f32x4.mul(a, a)));
  const s = f.let(choose(far, f32x4.sqrt(z), a));
  return { p: f.let(madd(c, f32x4.mul(s, z), poly(c, z, ASIN), s)), far };
}
/** 5 units. */
export function asin(c: Ctx, x0: V): V {
  const x = c.f.let(x0);
  const { p, far } = asinParts(c, x);
  return signed(choose(far, f32x4.sub(Math.PI / 2, f32x4.add(p, p)), p), x);
}
/** 3 units; 2^-24 absolute next to a zero. */
export function acos(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const { p, far } = asinParts(c, x);
  const twice = f.let(f32x4.add(p, p));
  return choose(
    far,
    choose(f32x4.lt(x, 0), f32x4.sub(Math.PI, twice), twice),
    f32x4.sub(Math.PI / 2, v128.xor(p, v128.and(x, SIGN()))),
  );
}

const SINH = [0.166666672, 0.00833331048, 0.000198428956, 2.78221319e-6];
/** 3 units. */
export function sinh(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const a = f.let(f32x4.abs(x));
  const h = f.let(exp(c, a, -1));
  const z = f.let(f32x4.mul(x, x));
  const near = madd(c, f32x4.mul(x, z), poly(c, z, SINH), x);
  return choose(f32x4.lt(a, 1), near, signed(f32x4.sub(h, f32x4.div(0.25, h)), x));
}
/** 3 units. */
export function cosh(c: Ctx, x: V): V {
  const h = c.f.let(exp(c, f32x4.abs(x), -1));
  return f32x4.add(h, f32x4.div(0.25, h));
}
/** 4 units. */
export function asinh(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const a = f.let(f32x4.abs(x));
  const far = f.let(f32x4.gt(a, 2 ** 28));
  const aa = f.let(f32x4.mul(a, a));
  const t = f32x4.add(a, f32x4.div(aa, f32x4.add(f32x4.sqrt(f32x4.add(aa, 1)), 1)));
  return signed(f32x4.add(log1p(c, choose(far, a, t)), v128.and(far, K(Math.LN2))), x);
}
/** 4 units. */
export function acosh(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const far = f.let(f32x4.gt(x, 2 ** 28));
  const t = f.let(f32x4.sub(x, 1));
  const near = f32x4.add(t, f32x4.sqrt(f32x4.mul(t, f32x4.add(t, 2))));
  return v128.or(f32x4.add(log1p(c, choose(far, x, near)), v128.and(far, K(Math.LN2))), f32x4.lt(x, 1));
}
/** 4 units. */
export function atanh(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const a = f.let(f32x4.abs(x));
  return signed(f32x4.mul(log1p(c, f32x4.div(f32x4.add(a, a), f32x4.sub(1, a))), 0.5), x);
}

/** x^y as C has it. 1 unit: computed in float64. */
export function pow(c: Ctx, x0: V, y0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const y = f.let(y0);
  const a = f.let(f32x4.abs(x));
  const ay = f.let(f32x4.abs(y));
  const upper = (v: V): V => v128.shuf32(v, v, [2, 3, 2, 3]);
  const half = (p: V, q: V): V => f32x4.demote(exp64(c, f64x2.mul(f64x2.promote(q), log64(c, f64x2.promote(p)))));
  const low = f.let(half(a, y));
  const high = f.let(half(upper(a), upper(y)));
  const r = v128.shuf32(low, high, [0, 1, 4, 5]);
  const whole = f.let(f32x4.eq(f32x4.nearest(y), y));
  const oddY = v128.and(v128.and(whole, f32x4.lt(ay, 16777216)), odd(i32x4.truncSatS(y)));
  const sign = v128.and(v128.and(x, SIGN()), oddY);
  const undefinedAt = v128.andnot(
    v128.and(v128.and(f32x4.lt(x, 0), f32x4.gt(x, -Infinity)), f32x4.lt(ay, Infinity)),
    whole,
  );
  const one = v128.or(v128.or(f32x4.eq(y, 0), f32x4.eq(x, 1)), v128.and(f32x4.eq(x, -1), f32x4.eq(ay, Infinity)));
  return choose(one, K(1), v128.or(v128.or(r, sign), undefinedAt));
}

// ── two f64 lanes ───────────────────────────────────────────────────────────────────────────────────────────────────
const poly64 = (x: V, co: readonly number[]): V =>
  co.slice(0, -1).reduceRight((p, k) => f64x2.add(f64x2.mul(p, x), k), f64x2.const(co.at(-1)!));
const MAGIC64 = 6755399441055744; // 1.5 · 2^52
const EXP64 = [
  0.49999999999999833, 0.16666666666673663, 0.041666666666937538, 0.008333333329427782, 0.0013888888778718377,
  0.000198412774452253, 2.4801768188941473e-5, 2.7551090034684222e-6, 2.7425616361655213e-7, 2.6904969318456474e-8,
  5.6477933439595787e-9,
];
/** e^x of two f64 lanes, relative error 3e-16. */
export function exp64(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(f64x2.pmin(f64x2.pmax(x0, -750), 710));
  const m = f.let(f64x2.add(f64x2.mul(x, 1.4426950408889634), MAGIC64));
  const n = f.let(f64x2.sub(m, MAGIC64));
  const r = f.let(f64x2.sub(f64x2.sub(x, f64x2.mul(n, LN2_HIGH)), f64x2.mul(n, LN2_LOW)));
  const p = f64x2.add(f64x2.add(f64x2.mul(f64x2.mul(r, r), poly64(r, EXP64)), r), 1);
  const i = f.let(i64x2.sub(m, f64x2.const(MAGIC64)));
  const h = f.let(i64x2.shrs(i, 1));
  const power = (k: V): V => i64x2.shl(i64x2.add(k, v128.const64(1023n)), 52);
  return f64x2.mul(f64x2.mul(p, power(h)), power(i64x2.sub(i, h)));
}
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10; // the high part has 21 trailing zeros
const LOG64 = [
  0.66666666666667074, 0.39999999999778818, 0.28571428618063133, 0.22222217139305933, 0.18182130009976355,
  0.15373959878513427, 0.13510670671166139, 0.11108048181626332,
];
const SQRT_HALF = 0x3fe6a09e667f3bcdn;
/** Natural logarithm of two f64 lanes, relative error 3e-16. */
export function log64(c: Ctx, x0: V): V {
  const { f } = c;
  const x = f.let(x0);
  const tiny = f.let(f64x2.lt(x, 2.2250738585072014e-308));
  const i = f.let(i64x2.sub(choose(tiny, f64x2.mul(x, 2 ** 54), x), v128.const64(SQRT_HALF)));
  const whole = i64x2.shrs(i, 52);
  const e = f.let(f64x2.sub(f64x2.convS(v128.shuf32(whole, whole, [0, 2, 0, 2])), v128.and(tiny, f64x2.const(54))));
  const t = f.let(f64x2.sub(i64x2.add(v128.and(i, v128.const64(0xfffffffffffffn)), v128.const64(SQRT_HALF)), 1));
  const s = f.let(f64x2.div(t, f64x2.add(t, 2)));
  const z = f.let(f64x2.mul(s, s));
  const h = f.let(f64x2.mul(f64x2.mul(t, t), 0.5));
  const low = f64x2.add(f64x2.mul(s, f64x2.add(f64x2.mul(z, poly64(z, LOG64)), h)), f64x2.mul(e, LN2_LOW));
  const r = f64x2.add(f64x2.mul(e, LN2_HIGH), f64x2.sub(t, f64x2.sub(h, low)));
  const finite = choose(f64x2.lt(x, Infinity), r, x);
  return v128.or(choose(f64x2.eq(x, 0), f64x2.const(-Infinity), finite), f64x2.lt(x, 0));
}

/** The function `fmod` of the module: C's remainder of two f64 that were f32, exact. */
export const fmod = (c: Ctx): Fn =>
  shared(c, 'fmod', (m) =>
    m.fn('fmod', ['f64', 'f64'], ['f64'], false, (f) => {
      const x = f.arg('f64', 0);
      const a = f.let(f64.abs(x));
      const b = f.let(f64.abs(f.arg('f64', 1)));
      f.iff(i32.eqz(i32.and(f64.gt(b, 0), f64.lt(a, Infinity))), () => f.returnNow(f64.const(NaN)));
      f.iff(f64.lt(a, b), () => f.returnNow(x));
      const t = f.let(b);
      f.whileLoop(
        () => f64.le(f64.mul(t, 2 ** 28), a),
        () => f.set(t, f64.mul(t, 2 ** 28)),
      );
      f.doWhile(
        () => {
          // quotients below 2^29 and divisors of 24 bits: every product is exact
          f.set(a, f64.sub(a, f64.mul(f64.trunc(f64.div(a, t)), t)));
          f.iff(f64.lt(a, 0), () => f.set(a, f64.add(a, t)));
          f.set(t, f64.mul(t, 2 ** -28));
        },
        () => f64.ge(t, b),
      );
      f.ret(f64.copysign(a, x));
    }),
  );
