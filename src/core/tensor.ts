import { allocate, arrayOver, bytesOf, type DType, isInt64, isSubByte, type Storage } from './dtype.ts';
import { fail } from './errors.ts';
import { encoderOf } from './floats.ts';

/**
 * A dense array in row-major order. `data` has one element per entry, except packed and complex types (see `Storage`).
 */
export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: Storage[D];
}
/** ONNX's other value kinds. They live on the host. */
export interface Sequence {
  readonly kind: 'sequence';
  readonly items: readonly Value[];
}
export interface Optional {
  readonly kind: 'optional';
  readonly value: Value | null;
}
export interface Dictionary {
  readonly kind: 'map';
  readonly keys: readonly (string | bigint)[];
  readonly values: Tensor;
}
export type Value = Tensor | Sequence | Optional | Dictionary;

/**
 * A tensor in a buffer of a GPU device, from `gpuTensor` or from a run with outputs 'gpu': `shape`, row-major, from
 * `offset` in bytes. A run's is the caller's until disposed, also when its session is released.
 */
export interface GpuTensor<D extends DType = DType> extends Disposable {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly device: GPUDevice;
  readonly buffer: GPUBuffer;
  readonly offset: number;
  /** A copy on the host. @throws value_disposed, device_lost, value_invalid if the run that made it met a bad value */
  read(): Promise<Tensor<D>>;
  /**
   * Gives the buffer of a run's result back, once runs that were given it have taken it; a buffer of the caller's is
   * left alone.
   */
  dispose(): void;
}

export const isGpuTensor = (v: object): v is GpuTensor => 'buffer' in v && 'device' in v;

export const isTensor = (v: Value): v is Tensor => 'dtype' in v;

/** Number of elements: the product of the dims, 1 for a scalar. */
export const sizeOf = (shape: readonly number[]): number => {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
};

/** Row-major strides, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  for (let i = shape.length - 1, n = 1; i >= 0; i--) {
    strides[i] = n;
    n *= shape[i]!;
  }
  return strides;
}

export const byteLength = (t: { readonly dtype: DType; readonly shape: readonly number[] }): number =>
  bytesOf(t.dtype, sizeOf(t.shape));

/** A new zeroed tensor. */
export const zeros = <D extends DType>(dtype: D, shape: readonly number[]): Tensor<D> => ({
  dtype,
  shape,
  data: allocate(dtype, sizeOf(shape)),
});

/** Length of the storage of a tensor: one entry an element, but for packed and complex types. */
export const entriesOf = (dtype: DType, shape: readonly number[]): number => {
  const count = sizeOf(shape);
  return dtype === 'string' ? count : bytesOf(dtype, count) / (allocate(dtype, 0) as Float32Array).BYTES_PER_ELEMENT;
};

/**
 * Makes a tensor of `data`: the typed array in which the type is stored (kept, not copied), or numbers in an array,
 * which are rounded to the type; those of a Float32Array too, where the type is a float of fewer bits. Types of less
 * than a byte are given packed, as bytes. @throws shape_mismatch, type_mismatch
 */
export function tensor<D extends DType>(
  dtype: D,
  shape: readonly number[],
  data: Storage[D] | Numbers | readonly bigint[] | readonly boolean[],
): Tensor<D> {
  if (!Array.isArray(shape) || !data) fail('type_mismatch', 'a tensor is made by tensor(dtype, shape, data)');
  const expected = entriesOf(dtype, shape);
  if (data.length !== expected)
    fail('shape_mismatch', `a ${dtype} tensor of shape [${shape}] has ${expected} entries, not ${data.length}`);
  const kind = data.constructor.name;
  const out = allocate(dtype, sizeOf(shape));
  const stored = out.constructor.name;
  if (kind === stored && dtype !== 'string') return { dtype, shape, data: data as Storage[D] };
  if (SAME[kind] === stored && (dtype === 'float16' || stored === 'Uint8Array')) {
    const { buffer, byteOffset, length } = data as Uint8Array;
    return {
      dtype,
      shape,
      data: new (out.constructor as Uint8ArrayConstructor)(buffer, byteOffset, length) as Storage[D],
    };
  }
  const encode = isSubByte(dtype) ? undefined : encoderOf(dtype);
  if (!Array.isArray(data) && !(encode && kind.startsWith('Float')))
    fail('type_mismatch', `a ${dtype} tensor is made of a ${stored} or of an array, not of a ${kind}`);
  for (let i = 0; i < data.length; i++) {
    const v = data[i];
    (out as unknown[])[i] =
      dtype === 'string'
        ? v
        : isInt64(dtype)
          ? BigInt(typeof v === 'number' ? Math.trunc(v) : (v as bigint))
          : encode
            ? encode(Number(v))
            : Number(v);
  }
  return { dtype, shape, data: out };
}
/** Numbers that are not stored as they are; Float16Array is not in every engine. */
type Numbers =
  | readonly number[]
  | Float32Array
  | Float64Array
  | Uint8ClampedArray
  | (ArrayLike<number> & { readonly [Symbol.toStringTag]: 'Float16Array' });
/** Arrays that hold what another does. */
const SAME: Readonly<Record<string, string>> = {
  Float16Array: 'Uint16Array',
  Uint8ClampedArray: 'Uint8Array',
  Buffer: 'Uint8Array',
};

/** The bytes behind a tensor, not copied. Strings have none. */
export function bytesOfTensor(t: Tensor): Uint8Array<ArrayBuffer> {
  if (t.dtype === 'string') fail('type_mismatch', 'a string tensor has no byte form');
  const a = t.data as Float32Array<ArrayBuffer>;
  return new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
}

/** A tensor over `bytes`; shares them where alignment allows. @throws model_malformed when the length does not fit */
export function tensorOver(dtype: DType, shape: readonly number[], bytes: Uint8Array): Tensor {
  const need = bytesOf(dtype, sizeOf(shape));
  if (dtype === 'string') fail('type_mismatch', 'a string tensor has no byte form');
  if (bytes.byteLength < need)
    fail('model_malformed', `${dtype}[${shape}] needs ${need} bytes but has ${bytes.byteLength}`);
  return { dtype, shape, data: arrayOver(dtype, bytes.subarray(0, need)) as Storage[DType] };
}
