import type { Ex, Fn, Kind } from './expr.ts';

/** An element's value: bool as 0 or 1, 64-bit integers as bigint, all else as a number. */
export type Scalar = number | bigint;

/** Error function, to float64 accuracy: its power series, or the continued fraction of its complement for large x. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a !== a) return x;
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * x * x) / (2 * n + 1);
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let tail = 0;
  for (let k = 60; k > 0; k--) tail = k / 2 / (a + tail);
  return Math.sign(x) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (a + tail)));
}
/** To the nearest integer, half to even; keeps -0. */
export function roundEven(x: number): number {
  const f = Math.floor(x);
  const rest = x - f;
  if (!(Math.abs(x) < 2 ** 52) || rest === 0) return x;
  const r = rest < 0.5 ? f : rest > 0.5 ? f + 1 : f % 2 === 0 ? f : f + 1;
  return r === 0 && x < 0 ? -0 : r;
}
/** C's pow: 1 for x = 1 or y = 0, whatever the other. */
const pow = (x: number, y: number): number => (x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : x ** y);
const floorMod = (x: number, y: number): number => {
  const r = x % y;
  return r !== 0 && r < 0 !== y < 0 ? r + y : r;
};

const FLOAT: Readonly<Partial<Record<Fn, (x: number, y: number) => number>>> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  neg: (x) => -x,
  abs: Math.abs,
  min: Math.min,
  max: Math.max,
  sign: Math.sign,
  mod: floorMod,
  rem: (x, y) => x % y,
  pow,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  exp: Math.exp,
  log: Math.log,
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundEven,
  trunc: Math.trunc,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
  erf,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  isnan: (x) => Number(x !== x),
  isinf: (x) => Number(Math.abs(x) === Infinity),
};
const bigPow = (x: bigint, y: bigint): bigint => {
  if (y < 0n) return x === 1n ? 1n : x === -1n ? (y % 2n ? -1n : 1n) : 0n;
  let r = 1n;
  for (let n = y, b = BigInt.asIntN(64, x); n > 0n; n >>= 1n, b = BigInt.asIntN(64, b * b))
    if (n & 1n) r = BigInt.asIntN(64, r * b);
  return r;
};
/** Integers, exactly; the caller wraps the result. Division by 0 gives 0. */
const BIG: Readonly<Partial<Record<Fn, (x: bigint, y: bigint, bits: bigint) => bigint>>> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => (y ? x / y : 0n),
  neg: (x) => -x,
  abs: (x) => (x < 0n ? -x : x),
  min: (x, y) => (x < y ? x : y),
  max: (x, y) => (x > y ? x : y),
  sign: (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n),
  rem: (x, y) => (y ? x % y : 0n),
  mod: (x, y) => {
    const r = y ? x % y : 0n;
    return r && r < 0n !== y < 0n ? r + y : r;
  },
  pow: bigPow,
  and: (x, y) => x & y,
  or: (x, y) => x | y,
  xor: (x, y) => x ^ y,
  not: (x) => ~x,
  shl: (x, y, bits) => (y >= 0n && y < bits ? x << y : 0n),
  shr: (x, y, bits) => x >> (y >= 0n && y < bits ? y : bits),
  isnan: () => 0n,
  isinf: () => 0n,
};

/**
 * A number as a value of kind `k`: floats to an integer kind truncate and saturate (NaN is 0), integers keep their low
 * bits.
 */
function to(k: Kind, v: Scalar): Scalar {
  switch (k) {
    case 'f32':
      return Math.fround(Number(v));
    case 'f64':
      return Number(v);
    case 'bool':
      return v ? 1 : 0;
    case 'i32':
      return typeof v === 'bigint' ? Number(BigInt.asIntN(32, v)) : v | 0;
    case 'u32':
      return typeof v === 'bigint' ? Number(BigInt.asUintN(32, v)) : v >>> 0;
    case 'i64':
      return BigInt.asIntN(64, BigInt(v));
    default:
      return BigInt.asUintN(64, BigInt(v));
  }
}
function saturate(k: Kind, v: number): Scalar {
  const bits = k === 'i32' || k === 'u32' ? 32 : 64;
  const signed = k[0] === 'i';
  const least = signed ? -(2n ** BigInt(bits - 1)) : 0n;
  const greatest = signed ? -least - 1n : 2n ** BigInt(bits) - 1n;
  const t = v !== v ? 0n : v >= Number(greatest) ? greatest : v <= Number(least) ? least : BigInt(Math.trunc(v));
  return to(k, t);
}
const isFloatKind = (k: Kind): boolean => k === 'f32' || k === 'f64';
const bitsOf = (k: Kind): bigint => (k === 'i64' || k === 'u64' ? 64n : 32n);

/** The expression as a function of its inputs' values: each operation is rounded to its kind. */
export function compile(e: Ex): (inputs: readonly Scalar[]) => Scalar {
  if (e.f === 'in') {
    const i = e.i;
    return (v) => v[i]!;
  }
  if (e.f === 'const') {
    const v = isFloatKind(e.k) ? to(e.k, Number(e.v)) : to(e.k, BigInt(e.v));
    return () => v;
  }
  const args = e.a.map(compile);
  const [a, b, c] = args as [
    (v: readonly Scalar[]) => Scalar,
    (v: readonly Scalar[]) => Scalar,
    (v: readonly Scalar[]) => Scalar,
  ];
  const k = e.k;
  const from = e.a[0]!.k;
  switch (e.f) {
    case 'select':
      return (v) => (a(v) ? b(v) : c(v));
    case 'cast':
      return isFloatKind(from) && !isFloatKind(k) && k !== 'bool'
        ? (v) => saturate(k, a(v) as number)
        : k === 'bool'
          ? (v) => (Number(a(v)) !== 0 ? 1 : 0)
          : (v) => to(k, a(v));
    case 'eq':
      return (v) => Number(a(v) === b(v));
    case 'lt':
      return (v) => Number(a(v) < b(v));
    case 'le':
      return (v) => Number(a(v) <= b(v));
    case 'wrap': {
      const n = e.v!;
      return k === 'u32' || k === 'u64'
        ? (v) => to(k, BigInt.asUintN(n, BigInt(a(v))))
        : (v) => to(k, BigInt.asIntN(n, BigInt(a(v))));
    }
    default:
  }
  if (isFloatKind(from)) {
    const f = FLOAT[e.f]!;
    return b ? (v) => to(k, f(a(v) as number, b(v) as number)) : (v) => to(k, f(a(v) as number, 0));
  }
  if (from === 'bool' && e.f === 'not') return (v) => (a(v) ? 0 : 1);
  const f = BIG[e.f];
  if (!f) return a; // floor, ceil, round, trunc of integers
  const bits = bitsOf(from);
  return (v) => to(k, f(BigInt(a(v)), b ? BigInt(b(v)) : 0n, bits));
}
