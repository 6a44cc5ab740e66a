import type { Ex, Fn as Op, Kind } from '../expr.ts';
import { f32x4, f64, type I32, i32, i32x4, type V, v128 } from './asm.ts';
import * as float from './float.ts';
import { type Ctx, fmod } from './float.ts';
import type { Kept } from './expr-kept.ts';
import { intPow } from './expr-scalar.ts';

type Node = Extract<Ex, { a: readonly Ex[] }>;

/** Kinds that have four lanes. A bool lane is all ones or all zeros. */
export const VECTOR_KINDS: readonly Kind[] = ['f32', 'i32', 'u32', 'bool'];
export const isVector = (e: Ex): boolean =>
  VECTOR_KINDS.includes(e.k) && (e.f === 'in' || e.f === 'const' || e.a.every(isVector));

const FLOAT1: Readonly<Partial<Record<Op, (c: Ctx, x: V) => V>>> = {
  exp: (c, x) => float.exp(c, x),
  log: float.log,
  sin: float.sin,
  cos: float.cos,
  tan: float.tan,
  asin: float.asin,
  acos: float.acos,
  atan: float.atan,
  sinh: float.sinh,
  cosh: float.cosh,
  tanh: float.tanh,
  asinh: float.asinh,
  acosh: float.acosh,
  atanh: float.atanh,
  erf: float.erf,
  sigmoid: float.sigmoid,
  softplus: float.softplus,
  floor: (_, x) => f32x4.floor(x),
  ceil: (_, x) => f32x4.ceil(x),
  round: (_, x) => f32x4.nearest(x),
  trunc: (_, x) => f32x4.trunc(x),
  sqrt: (_, x) => f32x4.sqrt(x),
  rsqrt: (_, x) => f32x4.div(1, f32x4.sqrt(x)),
  abs: (_, x) => f32x4.abs(x),
  neg: (_, x) => f32x4.neg(x),
  sign: (c, x) => {
    const v = c.f.let(x);
    return v128.bitselect(
      v,
      v128.or(v128.and(f32x4.gt(v, 0), f32x4.const(1)), v128.and(f32x4.lt(v, 0), f32x4.const(-1))),
      f32x4.ne(v, v),
    );
  },
  isnan: (c, x) => {
    const v = c.f.let(x);
    return f32x4.ne(v, v);
  },
  isinf: (_, x) => f32x4.eq(f32x4.abs(x), Infinity),
};
const FLOAT2: Readonly<Partial<Record<Op, (c: Ctx, x: V, y: V) => V>>> = {
  add: (_, x, y) => f32x4.add(x, y),
  sub: (_, x, y) => f32x4.sub(x, y),
  mul: (_, x, y) => f32x4.mul(x, y),
  div: (_, x, y) => f32x4.div(x, y),
  min: (_, x, y) => f32x4.min(x, y),
  max: (_, x, y) => f32x4.max(x, y),
  pow: float.pow,
  eq: (_, x, y) => f32x4.eq(x, y),
  lt: (_, x, y) => f32x4.lt(x, y),
  le: (_, x, y) => f32x4.le(x, y),
  rem: (c, x, y) => remainder(c, x, y),
  mod: (c, x, y) => {
    const d = c.f.let(y);
    const r = c.f.let(remainder(c, x, d));
    const turn = v128.and(f32x4.ne(r, 0), i32x4.lts(v128.xor(r, d), v128.zero()));
    return f32x4.add(r, v128.and(turn, d));
  },
};
/** One function of scalars, lane by lane. */
function lanewise(c: Ctx, x: V, y: V, of: (x: I32, y: I32) => I32): V {
  const a = c.f.let(x);
  const b = c.f.let(y);
  const out = c.f.let(a);
  for (let l = 0; l < 4; l++)
    c.f.set(out, i32x4.replace(out, l, of(c.f.let(i32x4.lane(a, l)), c.f.let(i32x4.lane(b, l)))));
  return out;
}
function remainder(c: Ctx, x: V, y: V): V {
  const a = c.f.let(x);
  const b = c.f.let(y);
  const out = c.f.let(a);
  const lane = (v: V, l: number) => f64.promote(f32x4.lane(v, l));
  for (let l = 0; l < 4; l++)
    c.f.set(out, f32x4.replace(out, l, { t: 'f32', b: [c.f.value('f64', fmod(c), lane(a, l), lane(b, l)).b, 0xb6] }));
  return out;
}
/** x^constant where a few products are exact enough. */
function powConst(c: Ctx, x0: V, y: number): V | null {
  const x = c.f.let(x0);
  const square = (): V => f32x4.mul(x, x);
  switch (y) {
    case 0:
      return f32x4.const(1);
    case 1:
      return x;
    case 2:
      return square();
    case 3:
      return f32x4.mul(square(), x);
    case 4: {
      const s = c.f.let(square());
      return f32x4.mul(s, s);
    }
    case -1:
      return f32x4.div(1, x);
    case -2:
      return f32x4.div(1, square());
    case 0.5:
      return v128.bitselect(f32x4.const(Infinity), f32x4.sqrt(f32x4.add(x, 0)), f32x4.eq(x, -Infinity));
    default:
      return null;
  }
}

const numberOf = (e: Ex): number | null => (e.f === 'const' ? Number(e.v) : null);
const constant = (e: Extract<Ex, { f: 'const' }>): V =>
  e.k === 'f32'
    ? f32x4.const(Number(e.v))
    : e.k === 'bool'
      ? v128.const32(Number(e.v) ? -1 : 0)
      : v128.const32(Number(e.v) | 0);

function apply(c: Ctx, e: Node, arg: (i: number) => V): V {
  const from = e.a[0]!.k;
  if (e.f === 'select') return v128.bitselect(arg(1), arg(2), arg(0));
  if (e.f === 'cast') return cast(arg(0), from, e.k);
  if (from === 'f32') {
    const one = FLOAT1[e.f];
    if (one) return one(c, arg(0));
    const k = e.a[1] ? numberOf(e.a[1]) : null;
    if (k !== null && k === k) {
      if (e.f === 'max') return f32x4.pmax(arg(0), k);
      if (e.f === 'min') return f32x4.pmin(arg(0), k);
      if (e.f === 'pow') {
        const p = powConst(c, arg(0), k);
        if (p) return p;
      }
    }
    return FLOAT2[e.f]!(c, arg(0), arg(1));
  }
  const u = from === 'u32' || from === 'bool'; // a true lane is all ones: the greater one only unsigned
  switch (e.f) {
    case 'add':
      return i32x4.add(arg(0), arg(1));
    case 'sub':
      return i32x4.sub(arg(0), arg(1));
    case 'mul':
      return i32x4.mul(arg(0), arg(1));
    case 'neg':
      return i32x4.neg(arg(0));
    case 'abs':
      return u ? arg(0) : i32x4.abs(arg(0));
    case 'min':
      return (u ? i32x4.minu : i32x4.mins)(arg(0), arg(1));
    case 'max':
      return (u ? i32x4.maxu : i32x4.maxs)(arg(0), arg(1));
    case 'sign': {
      const v = c.f.let(arg(0));
      return u
        ? v128.and(i32x4.ne(v, v128.zero()), v128.const32(1))
        : v128.or(i32x4.shrs(v, 31), v128.and(i32x4.gts(v, v128.zero()), v128.const32(1)));
    }
    case 'and':
      return v128.and(arg(0), arg(1));
    case 'or':
      return v128.or(arg(0), arg(1));
    case 'xor':
      return v128.xor(arg(0), arg(1));
    case 'not':
      return v128.not(arg(0));
    case 'eq':
      return i32x4.eq(arg(0), arg(1));
    case 'lt':
      return (u ? i32x4.ltu : i32x4.lts)(arg(0), arg(1));
    case 'le':
      return (u ? i32x4.leu : i32x4.les)(arg(0), arg(1));
    case 'isnan':
    case 'isinf':
      return v128.zero();
    case 'wrap': {
      const bits = e.v!;
      return bits >= 32
        ? arg(0)
        : u
          ? v128.and(arg(0), v128.const32(2 ** bits - 1))
          : i32x4.shrs(i32x4.shl(arg(0), 32 - bits), 32 - bits);
    }
    case 'div':
    case 'rem':
    case 'mod':
    case 'pow':
    case 'shl':
    case 'shr':
      return lanewise(c, arg(0), arg(1), INT[e.f](c, u));
    default:
      return arg(0); // floor, ceil, round, trunc of integers
  }
}
function cast(v: V, from: Kind, to: Kind): V {
  if (to === 'bool') return from === 'f32' ? f32x4.ne(v, 0) : i32x4.ne(v, v128.zero());
  if (from === 'bool') return v128.and(v, to === 'f32' ? f32x4.const(1) : v128.const32(1));
  if (from === 'f32') return to === 'u32' ? i32x4.truncSatU(v) : i32x4.truncSatS(v);
  return to !== 'f32' ? v : from === 'u32' ? f32x4.convU(v) : f32x4.convS(v);
}
const INT = {
  div: (c: Ctx, u: boolean) => (x: I32, y: I32) => divide(c, u, x, y),
  rem: (c: Ctx, u: boolean) => (x: I32, y: I32) => remain(c, u, x, y),
  mod: (c: Ctx, u: boolean) => (x: I32, y: I32) => {
    const r = c.f.let(remain(c, u, x, y));
    return u ? r : i32.select(i32.and(i32.ne(r, 0), i32.lts(i32.xor(r, y), 0)), i32.add(r, y), r);
  },
  pow: (c: Ctx, u: boolean) => (x: I32, y: I32) => c.f.value('i32', intPow(c, 'i32', u), x, y),
  shl: () => (x: I32, y: I32) => i32.select(i32.ltu(y, 32), i32.shl(x, y), 0),
  shr: (_: Ctx, u: boolean) => (x: I32, y: I32) =>
    u ? i32.select(i32.ltu(y, 32), i32.shru(x, y), 0) : i32.shrs(x, i32.select(i32.ltu(y, 32), y, 31)),
};
/** x / y, with 0 for y = 0 and wrapping for INT_MIN / -1. */
export function divide(c: Ctx, u: boolean, x: I32, y: I32): I32 {
  const safe = c.f.let(i32.select(i32.eqz(y), 1, y));
  if (u) return i32.select(i32.eqz(y), 0, i32.divu(x, safe));
  const minusOne = i32.eq(safe, -1);
  const q = i32.divs(x, i32.select(minusOne, 1, safe));
  return i32.select(i32.eqz(y), 0, i32.select(minusOne, i32.sub(0, x), q));
}
/** x rem y with the sign of x; 0 for y = 0. */
export const remain = (c: Ctx, u: boolean, x: I32, y: I32): I32 => {
  const safe = c.f.let(i32.select(i32.eqz(y), 1, y));
  return i32.select(i32.eqz(y), 0, (u ? i32.remu : i32.rems)(x, safe));
};

/**
 * Writes the code of an expression for four lanes. `read` gives the lanes of an input; `done` holds values computed
 * already and gets those computed here.
 */
export function vectorCode(c: Ctx, e: Ex, read: (i: number) => V, done: Kept<V>): V {
  if (e.f === 'const') return constant(e);
  const id = done.idOf(e);
  let v = done.values.get(id);
  if (!v) {
    v = c.f.let(e.f === 'in' ? read(e.i) : apply(c, e, (i) => vectorCode(c, e.a[i]!, read, done)));
    done.values.set(id, v);
  }
  return v;
}
