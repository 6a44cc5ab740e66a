/** What convolutions of bytes share: bytes read as numbers, in pairs of 16 bits, and sums rounded to bytes again. */
import type { DType } from '../../src/core/dtype.ts';
import type { Call } from '../define.ts';
import { RANGE } from '../quantize-round.ts';
import { numbers } from '../../src/core/numbers.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import { type Fn, f32x4, i16x8, i32, i32x4, i8x16, type I32, type Local, type V, v128 } from './asm.ts';

export type Byte = 'uint8' | 'int8';
export type L = Local<'i32'>;
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
export function paired(f: Fn, d: Byte, a: V, b: V, zero: V): [V, V] {
  const v = f.let(v128.shuffle(a, b, BESIDE));
  const [low, high] = d === 'int8' ? [i16x8.extLowS(v), i16x8.extHighS(v)] : [i16x8.extLowU(v), i16x8.extHighU(v)];
  return [i16x8.sub(low, zero), i16x8.sub(high, zero)];
}

/** The constant zero points of an input: [0] where it is left out, null where they are not known. */
export const zeroPoints = (call: Call, at: number | null): readonly number[] | null => {
  const fact = at === null ? null : call.inputs[at];
  if (!fact) return [0];
  const t = fact.constant?.peek();
  if (!t) return null;
  let list = LISTS.get(t);
  if (list === undefined) LISTS.set(t, (list = Array.from(numbers(t))));
  return list;
};
const LISTS = new WeakMap<Tensor, readonly number[]>();
export const isByte = (d: DType | undefined): boolean => d === 'uint8' || d === 'int8';
