/**
 * Reading and writing elements of any numeric dtype: four lanes, one lane, or a scalar. float16 and bfloat16 become
 * float32 in registers.
 */
import { BITS, type DType } from '../../src/core/dtype.ts';
import type { Kind } from '../expr.ts';
import {
  type Expr,
  f32,
  f32x4,
  f64,
  type I32,
  i16x8,
  i32,
  i32x4,
  i64,
  type Stmt,
  type V,
  v128,
  type VT,
} from './asm.ts';
import type { Ctx } from './float.ts';

/** Bytes of one element. */
export const widthOf = (d: DType): number => BITS[d] / 8;

/** Four 32-bit lanes of float16 bits to float32. */
function widen(c: Ctx, bits: V): V {
  const { f } = c;
  const h = f.let(bits);
  const em = f.let(i32x4.shl(v128.and(h, v128.const32(0x7fff)), 13));
  const special = v128.and(i32x4.gtu(em, v128.const32(0x0f7fffff)), v128.const32(0x7f800000));
  const sign = i32x4.shl(v128.and(h, v128.const32(0x8000)), 16);
  return v128.or(v128.or(f32x4.mul(em, 2 ** 112), special), sign); // the product also normalises subnormals
}
/** float32 lanes to float16 bits, to nearest even. */
function narrow(c: Ctx, v0: V): V {
  const { f } = c;
  const v = f.let(v0);
  const a = f.let(f32x4.abs(v));
  const even = v128.and(i32x4.shru(a, 13), v128.const32(1));
  const normal = i32x4.shru(i32x4.add(i32x4.add(a, even), v128.const32(0xfff - (112 << 23))), 13);
  const small = i32x4.sub(f32x4.add(a, 0.5), v128.const32(0x3f000000)); // 0.5 has the ulp of half's subnormals
  const huge = v128.bitselect(v128.const32(0x7e00), v128.const32(0x7c00), f32x4.ne(v, v));
  const finite = v128.bitselect(small, normal, f32x4.lt(a, 2 ** -14));
  return v128.or(v128.bitselect(finite, huge, f32x4.lt(a, 65520)), v128.and(i32x4.shru(v, 16), v128.const32(0x8000)));
}
function narrowBrain(c: Ctx, v0: V): V {
  const { f } = c;
  const v = f.let(v0);
  const rounded = i32x4.add(i32x4.add(v, v128.const32(0x7fff)), v128.and(i32x4.shru(v, 16), v128.const32(1)));
  return i32x4.shru(v128.bitselect(v128.or(v, v128.const32(0x400000)), rounded, f32x4.ne(v, v)), 16);
}
/** From the stored bits in 32-bit lanes (sign- or zero-extended) to values. */
const decode = (c: Ctx, d: DType, raw: V): V =>
  d === 'float16'
    ? widen(c, raw)
    : d === 'bfloat16'
      ? i32x4.shl(raw, 16)
      : d === 'bool'
        ? i32x4.ne(raw, v128.zero())
        : raw;
const encode = (c: Ctx, d: DType, v: V): V =>
  d === 'float16'
    ? narrow(c, v)
    : d === 'bfloat16'
      ? narrowBrain(c, v)
      : d === 'bool'
        ? v128.and(v, v128.const32(1))
        : v;
const isSigned = (d: DType): boolean => d === 'int8' || d === 'int16';

/** Four elements of a dtype of at most 32 bits. A bool becomes a mask. */
export function load4(c: Ctx, d: DType, p: I32, off = 0): V {
  switch (widthOf(d)) {
    case 4:
      return v128.load(p, off);
    case 2:
      return decode(c, d, isSigned(d) ? v128.load16x4s(p, off) : v128.load16x4u(p, off));
    default: {
      const four = v128.load32zero(p, off);
      return decode(c, d, isSigned(d) ? i32x4.extLowS(i16x8.extLowS(four)) : i32x4.extLowU(i16x8.extLowU(four)));
    }
  }
}
/** One element, in all lanes. */
export function loadSplat(c: Ctx, d: DType, p: I32, off = 0): V {
  switch (widthOf(d)) {
    case 4:
      return v128.load32splat(p, off);
    case 2:
      return decode(c, d, i32x4.splat(isSigned(d) ? i32.load16s(p, off) : i32.load16u(p, off)));
    default:
      return decode(c, d, i32x4.splat(isSigned(d) ? i32.load8s(p, off) : i32.load8u(p, off)));
  }
}
/** Stores four lanes: integers keep their low bits, masks become 0 and 1. */
export function store4(c: Ctx, d: DType, p: I32, v: V, off = 0): Stmt {
  switch (widthOf(d)) {
    case 4:
      return v128.store(p, v, off);
    case 2:
      return v128.store64lane(
        p,
        v128.shuffle(c.f.let(encode(c, d, v)), v128.zero(), [0, 1, 4, 5, 8, 9, 12, 13, 16, 16, 16, 16, 16, 16, 16, 16]),
        0,
        off,
      );
    default:
      return v128.store32lane(
        p,
        v128.shuffle(
          c.f.let(encode(c, d, v)),
          v128.zero(),
          [0, 4, 8, 12, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16],
        ),
        0,
        off,
      );
  }
}
/** Stores lane 0. */
export function store1(c: Ctx, d: DType, p: I32, v: V, off = 0): Stmt {
  switch (widthOf(d)) {
    case 4:
      return v128.store32lane(p, v, 0, off);
    case 2:
      return v128.store16lane(p, encode(c, d, v), 0, off);
    default:
      return v128.store8lane(p, encode(c, d, v), 0, off);
  }
}

/** The WebAssembly type in which a kind is computed one at a time; a bool is an i32 of 0 or 1. */
export const SCALAR: Readonly<Record<Kind, Exclude<VT, 'v128'>>> = {
  f32: 'f32',
  f64: 'f64',
  i32: 'i32',
  u32: 'i32',
  bool: 'i32',
  i64: 'i64',
  u64: 'i64',
};

export function loadScalar(c: Ctx, d: DType, p: I32, off = 0): Expr {
  switch (d) {
    case 'float32':
      return f32.load(p, off);
    case 'float64':
      return f64.load(p, off);
    case 'int64':
    case 'uint64':
      return i64.load(p, off);
    case 'int8':
      return i32.load8s(p, off);
    case 'uint8':
      return i32.load8u(p, off);
    case 'bool':
      return i32.ne(i32.load8u(p, off), 0);
    case 'int16':
      return i32.load16s(p, off);
    case 'uint16':
      return i32.load16u(p, off);
    case 'float16':
    case 'bfloat16':
      return f32x4.lane(loadSplat(c, d, p, off), 0);
    default:
      return i32.load(p, off);
  }
}
export function storeScalar(c: Ctx, d: DType, p: I32, v: Expr, off = 0): Stmt {
  switch (d) {
    case 'float32':
      return f32.store(p, v as Expr<'f32'>, off);
    case 'float64':
      return f64.store(p, v as Expr<'f64'>, off);
    case 'int64':
    case 'uint64':
      return i64.store(p, v as Expr<'i64'>, off);
    case 'int8':
    case 'uint8':
    case 'bool':
      return i32.store8(p, v as I32, off);
    case 'int16':
    case 'uint16':
      return i32.store16(p, v as I32, off);
    case 'float16':
    case 'bfloat16':
      return store1(c, d, p, f32x4.splat(v as Expr<'f32'>), off);
    default:
      return i32.store(p, v as I32, off);
  }
}
