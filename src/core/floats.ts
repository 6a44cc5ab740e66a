/** Floats of fewer than 32 bits as bits. */
import type { DType } from './dtype.ts';

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Round-to-nearest-even float32 -> binary16 bits. */
export function halfBits(x: number): number {
  f32[0] = x;
  const b = u32[0]!;
  const sign = (b >>> 16) & 0x8000;
  const exp = (b >>> 23) & 0xff;
  let man = b & 0x7fffff;
  if (exp === 0xff) return sign | 0x7c00 | (man ? 0x200 : 0);
  const e = exp - 112;
  if (e >= 31) return sign | 0x7c00;
  if (e <= 0) {
    if (e < -10) return sign;
    man |= 0x800000;
    const shift = 14 - e;
    const half = man >>> shift;
    const rest = man & ((1 << shift) - 1);
    const mid = 1 << (shift - 1);
    return sign | (half + (rest > mid || (rest === mid && half & 1) ? 1 : 0));
  }
  const rest = man & 0x1fff;
  const half = (e << 10) | (man >>> 13);
  return sign | (half + (rest > 0x1000 || (rest === 0x1000 && half & 1) ? 1 : 0));
}
/** binary16 bits -> number. */
export function halfValue(h: number): number {
  const e = (h >>> 10) & 31;
  const m = h & 1023;
  const v = e === 0 ? m * 2 ** -24 : e === 31 ? (m ? NaN : Infinity) : (1 + m / 1024) * 2 ** (e - 15);
  return h & 0x8000 ? -v : v;
}
/** Round-to-nearest-even float32 -> bfloat16 bits. */
export function bfloatBits(x: number): number {
  f32[0] = x;
  const b = u32[0]!;
  if (x !== x) return (b >>> 16) | 0x40;
  return ((b + 0x7fff + ((b >>> 16) & 1)) >>> 16) & 0xffff;
}
export function bfloatValue(h: number): number {
  u32[0] = h << 16;
  return f32[0]!;
}

/**
 * A small float: sign, exponent and mantissa bits; `nan` its kind of special values (IEEE, one NaN without infinity, or
 * "FNUZ": -0 is NaN).
 */
interface Minifloat {
  readonly exp: number;
  readonly man: number;
  readonly bias: number;
  readonly special: 'ieee' | 'fn' | 'fnuz' | 'none';
  readonly max: number;
}
export const MINIFLOAT: Readonly<Partial<Record<DType, Minifloat>>> = {
  float8e4m3fn: { exp: 4, man: 3, bias: 7, special: 'fn', max: 448 },
  float8e4m3fnuz: { exp: 4, man: 3, bias: 8, special: 'fnuz', max: 240 },
  float8e5m2: { exp: 5, man: 2, bias: 15, special: 'ieee', max: 57344 },
  float8e5m2fnuz: { exp: 5, man: 2, bias: 16, special: 'fnuz', max: 57344 },
  float4e2m1: { exp: 2, man: 1, bias: 1, special: 'none', max: 6 },
};

export function minifloatValue(f: Minifloat, bits: number): number {
  const signBit = 1 << (f.exp + f.man);
  const e = (bits >>> f.man) & ((1 << f.exp) - 1);
  const m = bits & ((1 << f.man) - 1);
  if (f.special === 'fnuz' && bits === signBit) return NaN;
  const top = (1 << f.exp) - 1;
  if (f.special === 'ieee' && e === top) return m ? NaN : bits & signBit ? -Infinity : Infinity;
  if (f.special === 'fn' && e === top && m === (1 << f.man) - 1) return NaN;
  const v = e === 0 ? m * 2 ** (1 - f.bias - f.man) : (1 + m / (1 << f.man)) * 2 ** (e - f.bias);
  return bits & signBit ? -v : v;
}
/** Round to nearest even. Out of range: the largest value if `saturate`, else infinity or NaN as the type has it. */
export function minifloatBits(f: Minifloat, x: number, saturate = true): number {
  const signBit = 1 << (f.exp + f.man);
  const sign = x < 0 || Object.is(x, -0) ? signBit : 0;
  const nan =
    f.special === 'fnuz'
      ? signBit
      : f.special === 'ieee'
        ? (((1 << f.exp) - 1) << f.man) | ((1 << f.man) - 1)
        : signBit - 1;
  if (x !== x) return f.special === 'none' ? signBit - 1 : nan | (f.special === 'fnuz' ? 0 : sign);
  const a = Math.abs(x);
  const min = 2 ** (1 - f.bias - f.man);
  const e = Math.max(Math.floor(Math.log2(a || min)), 1 - f.bias);
  const step = 2 ** (e - f.man);
  const q = a / step;
  let n = Math.floor(q);
  const rest = q - n;
  if (rest > 0.5 || (rest === 0.5 && n & 1)) n++;
  const v = n * step;
  if (a === Infinity || v > f.max) {
    if (saturate || f.special === 'none') return sign | maxBits(f);
    return f.special === 'ieee' ? sign | (((1 << f.exp) - 1) << f.man) : f.special === 'fnuz' ? signBit : sign | nan;
  }
  if (v === 0) return f.special === 'fnuz' ? 0 : sign;
  const exp = Math.floor(Math.log2(v));
  if (exp < 1 - f.bias) return sign | Math.round(v / min);
  return sign | ((exp + f.bias) << f.man) | Math.round((v / 2 ** exp - 1) * (1 << f.man));
}
function maxBits(f: Minifloat): number {
  for (let b = (1 << (f.exp + f.man)) - 1; ; b--) if (minifloatValue(f, b) === f.max) return b;
}

/** How a float that fits no typed array is written: its bits, rounded to nearest even. */
export function encoderOf(dtype: DType): ((v: number) => number) | undefined {
  const mini = MINIFLOAT[dtype];
  return mini
    ? (v) => minifloatBits(mini, v)
    : dtype === 'float16'
      ? halfBits
      : dtype === 'bfloat16'
        ? bfloatBits
        : dtype === 'float8e8m0'
          ? (v) => (v !== v || v <= 0 ? 255 : Math.max(0, Math.min(254, Math.round(Math.log2(v)) + 127)))
          : undefined;
}
