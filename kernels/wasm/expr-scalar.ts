import type { Ex, Fn as Op, Kind } from '../expr.ts';
import {
  type Expr,
  type F32,
  type F64,
  f32,
  f32x4,
  f64,
  f64x2,
  type Fn,
  type I32,
  i32,
  type I64,
  i64,
  type V,
} from './asm.ts';
import { SCALAR } from './elem.ts';
import type { Kept } from './expr-kept.ts';
import * as float from './float.ts';
import { type Ctx, shared } from './float.ts';

const VEC1: Readonly<Partial<Record<Op, (c: Ctx, x: V) => V>>> = {
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
};
/** Functions of float64 that have no code here: the reference runs them. */
const NOT_F64: readonly Op[] = [
  'sin',
  'cos',
  'tan',
  'asin',
  'acos',
  'atan',
  'sinh',
  'cosh',
  'tanh',
  'asinh',
  'acosh',
  'atanh',
  'erf',
  'softplus',
  'mod',
  'rem',
  'pow',
];
/** Is there code for the expression? */
export const compiles = (e: Ex): boolean =>
  e.f === 'in' || e.f === 'const' || (!(e.a[0]!.k === 'f64' && NOT_F64.includes(e.f)) && e.a.every(compiles));

/** x^n of integers by squaring, wrapping; negative exponents give 1/x truncated, 0 for x = 0. */
export const intPow = (c: Ctx, t: 'i32' | 'i64', unsigned: boolean): Fn =>
  shared(c, `pow ${t} ${unsigned}`, (m) =>
    m.fn(`pow ${t}`, [t, t], [t], false, (f) => {
      const o = (t === 'i32' ? i32 : i64) as typeof i64;
      const x = f.arg('i64', 0);
      const n = f.arg('i64', 1);
      if (!unsigned)
        f.iff(o.lts(n, 0), () => {
          // only 1 and -1 have an integer inverse
          f.iff(o.eq(x, -1), () =>
            f.returnNow(o.select(t === 'i32' ? (o.and(n, 1) as unknown as I32) : i32.wrap(o.and(n, 1)), -1, 1)),
          );
          f.returnNow(o.select(o.eq(x, 1), 1, 0));
        });
      const r = f.local(t) as unknown as ReturnType<typeof f.local<'i64'>>;
      f.set(r, o.const(1));
      f.whileLoop(
        () => o.ne(n, 0),
        () => {
          f.iff(o.ne(o.and(n, 1), 0), () => f.set(r, o.mul(r, x)));
          f.set(x, o.mul(x, x));
          f.set(n, o.shru(n, 1));
        },
      );
      f.ret(r);
    }),
  );

type Node = Extract<Ex, { a: readonly Ex[] }>;
type Args = (i: number) => Expr;
function f32Code(c: Ctx, e: Node, arg: Args): Expr {
  const x = (): F32 => arg(0) as F32;
  const y = (): F32 => arg(1) as F32;
  const vec = VEC1[e.f];
  if (vec) return f32x4.lane(vec(c, f32x4.splat(x())), 0);
  switch (e.f) {
    case 'add':
      return f32.add(x(), y());
    case 'sub':
      return f32.sub(x(), y());
    case 'mul':
      return f32.mul(x(), y());
    case 'div':
      return f32.div(x(), y());
    case 'min':
      return f32.min(x(), y());
    case 'max':
      return f32.max(x(), y());
    case 'neg':
      return f32.neg(x());
    case 'abs':
      return f32.abs(x());
    case 'sqrt':
      return f32.sqrt(x());
    case 'rsqrt':
      return f32.div(1, f32.sqrt(x()));
    case 'floor':
      return f32.floor(x());
    case 'ceil':
      return f32.ceil(x());
    case 'round':
      return f32.nearest(x());
    case 'trunc':
      return f32.trunc(x());
    case 'sign':
      return f32.select(f32.ne(x(), x()), x(), f32.convS(i32.sub(f32.gt(x(), 0), f32.lt(x(), 0))));
    case 'pow':
      return f32x4.lane(float.pow(c, f32x4.splat(x()), f32x4.splat(y())), 0);
    case 'rem':
      return f32.demote(c.f.value('f64', float.fmod(c), f64.promote(x()), f64.promote(y())));
    case 'mod': {
      const r = c.f.let(f32.demote(c.f.value('f64', float.fmod(c), f64.promote(x()), f64.promote(y()))));
      return f32.select(i32.and(f32.ne(r, 0), i32.lts(i32.xor(i32.bitsOf(r), i32.bitsOf(y())), 0)), f32.add(r, y()), r);
    }
    case 'eq':
      return f32.eq(x(), y());
    case 'lt':
      return f32.lt(x(), y());
    case 'le':
      return f32.le(x(), y());
    case 'isnan':
      return f32.ne(x(), x());
    default:
      return f32.eq(f32.abs(x()), Infinity); // isinf
  }
}
function f64Code(c: Ctx, e: Node, arg: Args): Expr {
  const x = (): F64 => arg(0) as F64;
  const y = (): F64 => arg(1) as F64;
  switch (e.f) {
    case 'add':
      return f64.add(x(), y());
    case 'sub':
      return f64.sub(x(), y());
    case 'mul':
      return f64.mul(x(), y());
    case 'div':
      return f64.div(x(), y());
    case 'min':
      return f64.min(x(), y());
    case 'max':
      return f64.max(x(), y());
    case 'neg':
      return f64.neg(x());
    case 'abs':
      return f64.abs(x());
    case 'sqrt':
      return f64.sqrt(x());
    case 'rsqrt':
      return f64.div(1, f64.sqrt(x()));
    case 'floor':
      return f64.floor(x());
    case 'ceil':
      return f64.ceil(x());
    case 'round':
      return f64.nearest(x());
    case 'trunc':
      return f64.trunc(x());
    case 'exp':
      return f64x2.lane(float.exp64(c, f64x2.splat(x())), 0);
    case 'log':
      return f64x2.lane(float.log64(c, f64x2.splat(x())), 0);
    case 'sigmoid':
      return f64.div(1, f64.add(1, f64x2.lane(float.exp64(c, f64x2.splat(f64.neg(x()))), 0)));
    case 'sign':
      return f64.select(f64.ne(x(), x()), x(), f64.convS(i32.sub(f64.gt(x(), 0), f64.lt(x(), 0))));
    case 'eq':
      return f64.eq(x(), y());
    case 'lt':
      return f64.lt(x(), y());
    case 'le':
      return f64.le(x(), y());
    case 'isnan':
      return f64.ne(x(), x());
    default:
      return f64.eq(f64.abs(x()), Infinity); // isinf
  }
}
/** Integers and bools of 32 or 64 bits. */
function intCode(c: Ctx, e: Node, arg: Args): Expr {
  const kind = e.a[0]!.k;
  const unsigned = kind === 'u32' || kind === 'u64' || kind === 'bool';
  const wide = kind === 'i64' || kind === 'u64';
  const bits = wide ? 64 : 32;
  const o = (wide ? i64 : i32) as typeof i64;
  const x = (): I64 => arg(0) as I64;
  const y = (): I64 => arg(1) as I64;
  const pick = (test: I32, a: I64 | number, b: I64 | number): I64 => o.select(test, a, b);
  const remainder = (): I64 => {
    const zero = o.eqz(y());
    return pick(zero, 0, (unsigned ? o.remu : o.rems)(x(), pick(zero, 1, y())));
  };
  switch (e.f) {
    case 'add':
      return o.add(x(), y());
    case 'sub':
      return o.sub(x(), y());
    case 'mul':
      return o.mul(x(), y());
    case 'neg':
      return o.sub(0, x());
    case 'abs':
      return unsigned ? x() : pick(o.lts(x(), 0), o.sub(0, x()), x());
    case 'min':
      return pick((unsigned ? o.ltu : o.lts)(x(), y()), x(), y());
    case 'max':
      return pick((unsigned ? o.gtu : o.gts)(x(), y()), x(), y());
    case 'sign':
      return unsigned ? pick(o.eqz(x()), 0, 1) : pick(o.gts(x(), 0), 1, o.shrs(x(), bits - 1));
    case 'div': {
      const zero = o.eqz(y());
      if (unsigned) return pick(zero, 0, o.divu(x(), pick(zero, 1, y())));
      const minus = o.eq(y(), -1);
      return pick(zero, 0, pick(minus, o.sub(0, x()), o.divs(x(), pick(i32.or(zero, minus), 1, y()))));
    }
    case 'rem':
      return remainder();
    case 'mod': {
      const r = c.f.let(remainder() as Expr);
      const v = r as unknown as I64;
      return unsigned ? r : pick(i32.and(o.ne(v, 0), o.lts(o.xor(v, y()), 0)), o.add(v, y()), v);
    }
    case 'pow':
      return c.f.value(wide ? 'i64' : 'i32', intPow(c, wide ? 'i64' : 'i32', unsigned), x(), y());
    case 'and':
      return o.and(x(), y());
    case 'or':
      return o.or(x(), y());
    case 'xor':
      return o.xor(x(), y());
    case 'not':
      return kind === 'bool' ? i32.eqz(arg(0) as I32) : o.xor(x(), -1);
    case 'shl':
      return pick(o.ltu(y(), bits), o.shl(x(), y()), 0);
    case 'shr':
      return unsigned
        ? pick(o.ltu(y(), bits), o.shru(x(), y()), 0)
        : o.shrs(x(), pick(o.ltu(y(), bits), y(), bits - 1));
    case 'eq':
      return o.eq(x(), y());
    case 'lt':
      return (unsigned ? o.ltu : o.lts)(x(), y());
    case 'le':
      return (unsigned ? o.leu : o.les)(x(), y());
    case 'isnan':
    case 'isinf':
      return i32.const(0);
    case 'wrap': {
      const n = e.v!;
      return n >= bits
        ? x()
        : unsigned
          ? o.shru(o.shl(x(), bits - n), bits - n)
          : o.shrs(o.shl(x(), bits - n), bits - n);
    }
    default:
      return x(); // floor, ceil, round, trunc of integers
  }
}

/** One scalar from kind to kind: floats truncate and saturate (NaN is 0), integers keep their low bits. */
export function castScalar(v: Expr, from: Kind, to: Kind): Expr {
  const a = SCALAR[from];
  const signed = from === 'i32' || from === 'i64';
  if (to === 'bool')
    return a === 'f32'
      ? f32.ne(v as F32, 0)
      : a === 'f64'
        ? f64.ne(v as F64, 0)
        : a === 'i64'
          ? i64.ne(v as I64, 0)
          : i32.ne(v as I32, 0);
  const unsigned = to === 'u32' || to === 'u64';
  switch (SCALAR[to]) {
    case 'f32':
      return a === 'f32'
        ? v
        : a === 'f64'
          ? f32.demote(v as F64)
          : a === 'i64'
            ? (signed ? f32.convS64 : f32.convU64)(v as I64)
            : (signed ? f32.convS : f32.convU)(v as I32);
    case 'f64':
      return a === 'f64'
        ? v
        : a === 'f32'
          ? f64.promote(v as F32)
          : a === 'i64'
            ? (signed ? f64.convS64 : f64.convU64)(v as I64)
            : (signed ? f64.convS : f64.convU)(v as I32);
    case 'i64':
      return a === 'i64'
        ? v
        : a === 'i32'
          ? (signed ? i64.extendS : i64.extendU)(v as I32)
          : a === 'f32'
            ? (unsigned ? i64.truncSatU32 : i64.truncSatS32)(v as F32)
            : (unsigned ? i64.truncSatU : i64.truncSatS)(v as F64);
    default:
      return a === 'i32'
        ? v
        : a === 'i64'
          ? i32.wrap(v as I64)
          : a === 'f32'
            ? (unsigned ? i32.truncSatU : i32.truncSatS)(v as F32)
            : (unsigned ? i32.truncSatU64 : i32.truncSatS64)(v as F64);
  }
}

function constant(e: Extract<Ex, { f: 'const' }>): Expr {
  switch (SCALAR[e.k]) {
    case 'f32':
      return f32.const(Number(e.v));
    case 'f64':
      return f64.const(Number(e.v));
    case 'i64':
      return i64.const(BigInt(e.v));
    default:
      return i32.const(e.k === 'bool' ? (Number(e.v) ? 1 : 0) : Number(e.v));
  }
}

/** Writes the code of an expression for one element; the parameters are those of `vectorCode`. */
export function scalarCode(c: Ctx, e: Ex, read: (i: number) => Expr, done: Kept<Expr>): Expr {
  if (e.f === 'const') return constant(e);
  const id = done.idOf(e);
  let v = done.values.get(id);
  if (!v) {
    v = e.f === 'in' ? read(e.i) : apply(c, e, (i) => scalarCode(c, e.a[i]!, read, done));
    done.values.set(id, (v = c.f.let(v)));
  }
  return v;
}
function apply(c: Ctx, e: Node, arg: Args): Expr {
  if (e.f === 'cast') return castScalar(arg(0), e.a[0]!.k, e.k);
  if (e.f === 'select') {
    const [test, a, b] = [arg(0) as I32, arg(1), arg(2)];
    return { t: a.t, b: [a.b, b.b, test.b, 0x1b] };
  }
  const t = SCALAR[e.a[0]!.k];
  return t === 'f32' ? f32Code(c, e, arg) : t === 'f64' ? f64Code(c, e, arg) : intCode(c, e, arg);
}
