/**
 * Elements of any numeric dtype as doubles, one at a time: what the references compute with, so kernels made of this
 * agree with them to the last bit wherever they add in the same order. Sub-byte types are addressed by element.
 */
import { BITS, type DType, isSubByte } from '../../src/core/dtype.ts';
import { MINIFLOAT } from '../../src/core/floats.ts';
import { type F32, type F64, f64, type I32, i32, type I64, i64, type Fn, type Local, type Num } from './asm.ts';
import { loadScalar, storeScalar, widthOf } from './elem.ts';
import { type Ctx, shared } from './float.ts';

type Minifloat = NonNullable<(typeof MINIFLOAT)[DType]>;

/** Can elements of this dtype be read as doubles? */
export const isNumber = (d: DType | undefined): d is DType =>
  d !== undefined && d !== 'string' && !d.startsWith('complex');
/** Can they be written where a byte holds one at most? */
export const isStored = (d: DType | undefined): d is DType => isNumber(d) && !isSubByte(d) && d !== 'float8e8m0';

function miniValue(c: Ctx, m: Minifloat, bits: I32): F64 {
  const sign = 1 << (m.exp + m.man);
  const raw = c.f.let(bits);
  const size = c.f.let(i32.and(raw, sign - 1));
  const value = f64.mul(
    f64.ofBits(
      i64.or(i64.shl(i64.extendU(size), 52 - m.man), i64.shl(i64.extendU(i32.and(raw, sign)), 63 - m.exp - m.man)),
    ),
    2 ** (1023 - m.bias),
  );
  const top = ((1 << m.exp) - 1) << m.man;
  switch (m.special) {
    case 'fnuz':
      return f64.select(i32.eq(raw, sign), NaN, value);
    case 'fn':
      return f64.select(i32.eq(size, sign - 1), NaN, value);
    case 'ieee':
      return f64.select(
        i32.ltu(size, top),
        value,
        f64.select(i32.eq(size, top), f64.copysign(Infinity, f64.convS(i32.sub(0, i32.and(raw, sign)))), NaN),
      );
    default:
      return value;
  }
}
/** The value of an element's bits, of a type of at most 8 bits that is no plain byte. */
function bitsValue(c: Ctx, d: DType, bits: I32): F64 {
  const mini = MINIFLOAT[d];
  if (mini) return miniValue(c, mini, bits);
  if (d === 'float8e8m0') {
    const raw = c.f.let(bits);
    return f64.select(i32.eq(raw, 255), NaN, f64.ofBits(i64.shl(i64.extendU(i32.add(raw, 1023 - 127)), 52)));
  }
  const unused = 32 - BITS[d];
  return d.startsWith('u') ? f64.convU(bits) : f64.convS(i32.shrs(i32.shl(bits, unused), unused));
}

/** The element at address `p`, of a dtype of whole bytes. */
export function loadNumber(c: Ctx, d: DType, p: I32, off = 0): F64 {
  switch (d) {
    case 'float64':
      return f64.load(p, off);
    case 'float32':
    case 'float16':
    case 'bfloat16':
      return f64.promote(loadScalar(c, d, p, off) as F32);
    case 'int64':
      return f64.convS64(i64.load(p, off));
    case 'uint64':
      return f64.convU64(i64.load(p, off));
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'bool':
      return f64.convU(loadScalar(c, d, p, off) as I32);
    case 'int8':
    case 'int16':
    case 'int32':
      return f64.convS(loadScalar(c, d, p, off) as I32);
    default:
      return bitsValue(c, d, i32.load8u(p, off));
  }
}
/** The bits of element `i` of a sub-byte tensor at `base`. */
export function packedBits(d: DType, base: I32, i: I32): I32 {
  const bits = BITS[d];
  const log = bits === 4 ? 1 : 2;
  const per = 1 << log;
  return i32.and(
    i32.shru(i32.load8u(i32.add(base, i32.shru(i, log))), i32.mul(i32.and(i, per - 1), bits)),
    (1 << bits) - 1,
  );
}
/** Element `i` of a tensor at `base`. */
export const loadAt = (c: Ctx, d: DType, base: I32, i: I32): F64 =>
  isSubByte(d) ? bitsValue(c, d, packedBits(d, base, i)) : loadNumber(c, d, elementAt(d, base, i));
/** Address of element `i` of a tensor of whole bytes. */
export const elementAt = (d: DType, base: I32, i: Num): I32 =>
  i32.add(base, i32.shl(typeof i === 'number' ? i32.const(i) : i, Math.log2(widthOf(d))));

/** A double as an integer of 64 bits: truncated, NaN is 0; what lies beyond is cut as the references cut it. */
const whole = (v: F64): I64 => i64.select(f64.ge(v, 0), i64.truncSatU(v), i64.truncSatS(v));

/**
 * The function (v) that gives the bits of a small float, to nearest even; `saturate`: what is too large becomes the
 * largest.
 */
const miniBits = (c: Ctx, d: DType, m: Minifloat, saturate: boolean): Fn =>
  shared(c, `bits ${d} ${saturate}`, (mod) =>
    mod.fn(`to ${d}`, ['f64'], ['i32'], false, (f) => {
      const v = f.arg('f64', 0);
      const signBit = 1 << (m.exp + m.man);
      const inf = ((1 << m.exp) - 1) << m.man;
      const nan = m.special === 'fnuz' ? signBit : m.special === 'ieee' ? signBit - 1 : signBit - 1;
      f.iff(f64.ne(v, v), () => f.returnNow(i32.const(nan)));
      const a = f.let(f64.abs(v));
      const sign = f.let(i32.shl(i32.wrap(i64.shru(i64.bitsOf(v), 63)), m.exp + m.man));
      const field = f.let(i32.wrap(i64.shru(i64.bitsOf(a), 52)));
      const e = f.let(i32.select(i32.gts(field, 1024 - m.bias), i32.sub(field, 1023), 1 - m.bias));
      const step = f.let(f64.ofBits(i64.shl(i64.extendU(i32.add(e, 1023 - m.man)), 52)));
      const n = f.let(f64.nearest(f64.div(a, step)));
      const largest = m.max;
      const logTop = Math.floor(Math.log2(largest));
      const maxBits = ((logTop + m.bias) << m.man) | Math.round((largest / 2 ** logTop - 1) * (1 << m.man));
      const over =
        saturate || m.special === 'none'
          ? i32.or(sign, maxBits)
          : m.special === 'ieee'
            ? i32.or(sign, inf)
            : m.special === 'fnuz'
              ? i32.const(signBit)
              : i32.or(sign, nan);
      f.iff(i32.or(f64.eq(a, Infinity), f64.gt(f64.mul(n, step), largest)), () => f.returnNow(over));
      if (m.special === 'fnuz') f.iff(f64.eq(n, 0), () => f.returnNow(i32.const(0)));
      f.ret(i32.or(sign, i32.add(i32.shl(i32.add(e, m.bias - 1), m.man), i32.truncSatS64(n))));
    }),
  );
/** How a conversion treats what a type cannot hold. */
export interface Narrowing {
  readonly saturate: boolean;
  readonly round: string;
  /** Floats are clamped to the range of a 4-bit integer; NaN of float4e2m1 is kept. */
  readonly clamp: boolean;
}
export const PLAIN: Narrowing = { saturate: true, round: 'up', clamp: false };

const scaleBits = (c: Ctx, { saturate, round }: Narrowing): Fn =>
  shared(c, `scale ${saturate} ${round}`, (mod) =>
    mod.fn('to float8e8m0', ['f64'], ['i32'], false, (f) => {
      const a = f.let(f64.abs(f.arg('f64', 0)));
      f.iff(i32.eqz(f64.lt(a, Infinity)), () => f.returnNow(i32.const(255)));
      f.iff(f64.lt(a, 2 ** -127), () => f.returnNow(i32.const(0)));
      const rest = f.let(i64.and(i64.bitsOf(a), 0xfffffffffffffn));
      const up = round === 'up' ? i64.ne(rest, 0) : round === 'nearest' ? i64.geu(rest, 1n << 51n) : i32.const(0);
      const e = f.let(i32.add(i32.sub(i32.wrap(i64.shru(i64.bitsOf(a), 52)), 1023), up));
      const top = saturate ? 127 : 128;
      f.ret(i32.add(i32.select(i32.lts(e, top), e, top), 127));
    }),
  );

/** The bits of an element of at most 8 bits that is no plain byte; `from`: where the value comes from. */
export function bitsOfNumber(c: Ctx, d: DType, v: F64, how: Narrowing, fromFloat: boolean): I32 {
  const mini = MINIFLOAT[d];
  if (d === 'float8e8m0') return c.f.value('i32', scaleBits(c, how), v);
  if (mini) {
    if (d !== 'float4e2m1' || how.clamp) return c.f.value('i32', miniBits(c, d, mini, how.saturate), v);
    const x = c.f.let(v); // neither NaN nor the sign of 0
    return c.f.value('i32', miniBits(c, d, mini, true), f64.select(i32.or(f64.lt(x, 0), f64.gt(x, 0)), x, 0));
  }
  const bits = BITS[d];
  const mask = (1 << bits) - 1;
  if (how.clamp && fromFloat && bits === 4) {
    const [low, high] = d === 'int4' ? [-8, 7] : [0, 15];
    return i32.and(i32.truncSatS64(f64.max(f64.min(v, high), low)), mask);
  }
  const x = c.f.let(v);
  return i32.and(i32.wrap(i64.truncSatS(f64.select(f64.lt(f64.abs(x), 2 ** 63), x, 0))), mask);
}

/** Stores a double at address `p`: floats to nearest even, integers truncated and wrapped, bool as v ≠ 0. */
export function storeNumber(c: Ctx, d: DType, p: I32, v0: F64, how: Narrowing = PLAIN): void {
  const { f } = c;
  switch (d) {
    case 'float64':
      f.emit(f64.store(p, v0));
      return;
    case 'float32':
    case 'float16':
    case 'bfloat16':
      f.emit(storeScalar(c, d, p, { t: 'f32', b: [v0.b, 0xb6] }));
      return;
    case 'bool':
      f.emit(i32.store8(p, f64.ne(v0, 0)));
      return;
    default:
  }
  const v = f.let(v0);
  if (d === 'int64' || d === 'uint64') {
    f.emit(i64.store(p, i64.select(f64.ge(v, 2 ** 64), (1n << 63n) - 1n, whole(v))));
    return;
  }
  if (/^u?int(8|16|32)$/.test(d)) {
    f.emit(storeScalar(c, d, p, i32.wrap(whole(v))));
    return;
  }
  f.emit(i32.store8(p, bitsOfNumber(c, d, v, how, true)));
}
/**
 * Loops over `bytes` bytes of a sub-byte tensor at `dst`: `bits(i)` gives the bits of element `i` of the `n` there are.
 */
export function storePacked(c: Ctx, d: DType, dst: Local<'i32'>, n: I32, bits: (i: Local<'i32'>) => I32): void {
  const { f } = c;
  const width = BITS[d];
  const per = 8 / width;
  const count = f.let(n);
  const i = f.let(i32.const(0));
  const byte = f.local('i32');
  const k = f.local('i32');
  f.whileLoop(
    () => i32.ltu(i, count),
    () => {
      f.set(byte, i32.const(0));
      f.set(k, i32.const(0));
      f.whileLoop(
        () => i32.and(i32.ltu(k, per), i32.ltu(i, count)),
        () => {
          f.set(byte, i32.or(byte, i32.shl(bits(i), i32.mul(k, width))));
          f.inc(k, 1);
          f.inc(i, 1);
        },
      );
      f.emit(i32.store8(dst, byte));
      f.inc(dst, 1);
    },
  );
}
