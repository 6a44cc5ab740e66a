import { fail } from './errors.ts';

/** Element types, in ONNX's own lower-case names (TensorProto.DataType). */
export type DType =
  | 'float32'
  | 'float16'
  | 'float64'
  | 'bfloat16'
  | 'float8e4m3fn'
  | 'float8e4m3fnuz'
  | 'float8e5m2'
  | 'float8e5m2fnuz'
  | 'float8e8m0'
  | 'float4e2m1'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'int4'
  | 'uint4'
  | 'int2'
  | 'uint2'
  | 'bool'
  | 'string'
  | 'complex64'
  | 'complex128';

/** TensorProto.DataType numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto */
export const DTYPE_OF_ONNX: Readonly<Record<number, DType>> = {
  1: 'float32',
  2: 'uint8',
  3: 'int8',
  4: 'uint16',
  5: 'int16',
  6: 'int32',
  7: 'int64',
  8: 'string',
  9: 'bool',
  10: 'float16',
  11: 'float64',
  12: 'uint32',
  13: 'uint64',
  14: 'complex64',
  15: 'complex128',
  16: 'bfloat16',
  17: 'float8e4m3fn',
  18: 'float8e4m3fnuz',
  19: 'float8e5m2',
  20: 'float8e5m2fnuz',
  21: 'uint4',
  22: 'int4',
  23: 'float4e2m1',
  24: 'float8e8m0',
  25: 'uint2',
  26: 'int2',
};
export const ONNX_OF_DTYPE: Readonly<Record<DType, number>> = Object.fromEntries(
  Object.entries(DTYPE_OF_ONNX).map(([n, d]) => [d, Number(n)]),
) as Record<DType, number>;

/** Bits of one element; a string has none. */
export const BITS: Readonly<Record<DType, number>> = {
  float32: 32,
  float16: 16,
  float64: 64,
  bfloat16: 16,
  float8e4m3fn: 8,
  float8e4m3fnuz: 8,
  float8e5m2: 8,
  float8e5m2fnuz: 8,
  float8e8m0: 8,
  float4e2m1: 4,
  int8: 8,
  int16: 16,
  int32: 32,
  int64: 64,
  uint8: 8,
  uint16: 16,
  uint32: 32,
  uint64: 64,
  int4: 4,
  uint4: 4,
  int2: 2,
  uint2: 2,
  bool: 8,
  string: 0,
  complex64: 64,
  complex128: 128,
};

/**
 * How a tensor of each type is held in memory: float16, bfloat16 and float8 as bits; sub-byte types packed, low bits
 * first.
 */
export interface Storage {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  float8e4m3fn: Uint8Array;
  float8e4m3fnuz: Uint8Array;
  float8e5m2: Uint8Array;
  float8e5m2fnuz: Uint8Array;
  float8e8m0: Uint8Array;
  float4e2m1: Uint8Array;
  int4: Uint8Array;
  uint4: Uint8Array;
  int2: Uint8Array;
  uint2: Uint8Array;
  int8: Int8Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  uint8: Uint8Array;
  uint16: Uint16Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  bool: Uint8Array;
  string: string[];
  complex64: Float32Array;
  complex128: Float64Array;
}
type NumericArray = Storage[Exclude<DType, 'string'>];
type ArrayClass = {
  new (buffer: ArrayBufferLike, offset?: number, length?: number): NumericArray;
  readonly BYTES_PER_ELEMENT: number;
};

const ARRAY: Readonly<Record<Exclude<DType, 'string'>, ArrayClass>> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float8e4m3fn: Uint8Array,
  float8e4m3fnuz: Uint8Array,
  float8e5m2: Uint8Array,
  float8e5m2fnuz: Uint8Array,
  float8e8m0: Uint8Array,
  float4e2m1: Uint8Array,
  int4: Uint8Array,
  uint4: Uint8Array,
  int2: Uint8Array,
  uint2: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  complex64: Float32Array,
  complex128: Float64Array,
};

/** Bytes of `count` elements (sub-byte types rounded up to a whole byte). */
export const bytesOf = (dtype: DType, count: number): number => Math.ceil((BITS[dtype] * count) / 8);

/** A typed array over `bytes`, without copying where alignment allows it. */
export function arrayOver(dtype: Exclude<DType, 'string'>, bytes: Uint8Array): NumericArray {
  const Class = ARRAY[dtype] ?? fail('type_mismatch', `${dtype} is none of the types ${Object.keys(BITS).join(', ')}`);
  const width = Class.BYTES_PER_ELEMENT;
  // not slice(): a Node Buffer shares what it slices
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  return new Class(aligned.buffer, aligned.byteOffset, Math.floor(bytes.byteLength / width));
}

/** New zeroed storage for `count` elements. */
export function allocate<D extends DType>(dtype: D, count: number): Storage[D] {
  if (dtype === 'string') return new Array<string>(count).fill('') as Storage[D];
  return arrayOver(dtype as Exclude<DType, 'string'>, new Uint8Array(bytesOf(dtype, count))) as Storage[D];
}

export const isFloat = (d: DType): boolean => d.startsWith('float') || d === 'bfloat16';
export const isInt64 = (d: DType): boolean => d === 'int64' || d === 'uint64';
export const isSubByte = (d: DType): boolean => BITS[d] > 0 && BITS[d] < 8;
