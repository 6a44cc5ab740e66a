/**
 * Reading and writing elements of any dtype as JavaScript numbers: what reference kernels, casts and printing share.
 */
import { type DType, isInt64 } from './dtype.ts';
import { fail } from './errors.ts';
import { encoderOf, halfValue, MINIFLOAT, minifloatValue } from './floats.ts';
import { sizeOf, type Tensor, zeros } from './tensor.ts';

/**
 * The value of every binary16, made when a tensor of some size wants it: a look at it is ten times as fast as
 * `halfValue`.
 */
let halves: Float32Array | undefined;
function halfValues(d: ArrayLike<number>): Float32Array {
  const out = new Float32Array(d.length);
  if (d.length < 4096) for (let i = 0; i < d.length; i++) out[i] = halfValue(d[i]!);
  else {
    const table = (halves ??= Float32Array.from({ length: 65536 }, (_, h) => halfValue(h)));
    for (let i = 0; i < d.length; i++) out[i] = table[d[i]!]!;
  }
  return out;
}
const SUB: Readonly<Partial<Record<DType, { bits: number; signed: boolean }>>> = {
  int4: { bits: 4, signed: true },
  uint4: { bits: 4, signed: false },
  int2: { bits: 2, signed: true },
  uint2: { bits: 2, signed: false },
  float4e2m1: { bits: 4, signed: false },
};

/**
 * The elements as numbers (64-bit integers rounded to doubles; `data` has them exactly). float32 and the like are
 * returned as they are. @throws type_mismatch for strings
 */
export function numbers(t: Tensor): ArrayLike<number> {
  const n = sizeOf(t.shape);
  const d = t.data as Uint8Array;
  const mini = MINIFLOAT[t.dtype];
  const sub = SUB[t.dtype];
  if (sub) {
    const out = new Float64Array(n);
    const per = 8 / sub.bits;
    const mask = (1 << sub.bits) - 1;
    for (let i = 0; i < n; i++) {
      const raw = (d[Math.floor(i / per)]! >>> ((i % per) * sub.bits)) & mask;
      out[i] = mini ? minifloatValue(mini, raw) : sub.signed && raw >> (sub.bits - 1) ? raw - (1 << sub.bits) : raw;
    }
    return out;
  }
  if (mini) return Float64Array.from(d, (b) => minifloatValue(mini, b));
  switch (t.dtype) {
    case 'float16':
      return halfValues(d);
    case 'bfloat16': {
      const bits = new Uint32Array(n);
      for (let i = 0; i < n; i++) bits[i] = d[i]! << 16;
      return new Float32Array(bits.buffer);
    }
    case 'float8e8m0':
      return Float64Array.from(d, (b) => (b === 255 ? NaN : 2 ** (b - 127)));
    case 'int64':
    case 'uint64': {
      const from = t.data as BigInt64Array;
      const out = new Float64Array(n);
      for (let i = 0; i < n; i++) out[i] = Number(from[i]!);
      return out;
    }
    case 'string':
      return fail('type_mismatch', 'a string tensor has no numbers');
    default:
      return d;
  }
}

/** The elements of an integer or bool tensor, exactly. */
export function bigints(t: Tensor): ArrayLike<bigint> {
  return isInt64(t.dtype)
    ? (t.data as BigInt64Array)
    : Array.from(numbers(t) as Float64Array, (x) => BigInt(Math.trunc(x)));
}

/**
 * A function that stores number `v` as element `i`: floats rounded to nearest even, integers truncated and wrapped,
 * bool as v != 0.
 */
export function writer(t: Tensor): (i: number, v: number) => void {
  const d = t.data as Uint8Array;
  const encode = encoderOf(t.dtype);
  const sub = SUB[t.dtype];
  if (sub) {
    const per = 8 / sub.bits;
    const mask = (1 << sub.bits) - 1;
    return (i, v) => {
      const at = Math.floor(i / per);
      const shift = (i % per) * sub.bits;
      const bits = encode ? encode(v) : Math.trunc(v) & mask;
      d[at] = (d[at]! & ~(mask << shift)) | (bits << shift);
    };
  }
  if (encode)
    return (i, v) => {
      d[i] = encode(v);
    };
  switch (t.dtype) {
    case 'bool':
      return (i, v) => {
        d[i] = v !== 0 ? 1 : 0;
      };
    case 'int64':
      return (i, v) => {
        (t.data as BigInt64Array)[i] = toBigInt(v);
      };
    case 'uint64':
      return (i, v) => {
        (t.data as BigUint64Array)[i] = toBigInt(v);
      };
    case 'uint32':
    case 'int32':
    case 'int16':
    case 'uint16':
    case 'int8':
    case 'uint8':
      return (i, v) => {
        d[i] = Math.abs(v) < 2 ** 53 ? v : Number(BigInt.asIntN(64, toBigInt(v)) & 0xffffffffn);
      };
    default:
      return (i, v) => {
        d[i] = v;
      };
  }
}
/** Truncates; NaN is 0, beyond int64 saturates. */
const toBigInt = (v: number): bigint =>
  v !== v ? 0n : v >= 2 ** 64 ? 2n ** 63n - 1n : v <= -(2 ** 63) ? -(2n ** 63n) : BigInt(Math.trunc(v));

/** A tensor of `dtype` with these values. */
export function fromNumbers(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  const t = zeros(dtype, shape);
  const write = writer(t);
  for (let i = 0, n = sizeOf(shape); i < n; i++) write(i, values[i]!);
  return t;
}

/** The value of a small integer tensor as plain numbers: shapes, axes, counts. */
export function integers(t: Tensor): number[] {
  const from = numbers(t);
  const list = new Array<number>(from.length);
  for (let i = 0; i < list.length; i++) list[i] = Number(from[i]);
  return list;
}
