/** Moving elements of any dtype without looking at them: what the movement operators' references are made of. */
import { BITS, bytesOf, type DType, isSubByte, type Storage } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import type { OutFact } from './define.ts';
import { eachOffset } from './shapes.ts';

/** Most bytes that one tensor may have. */
export const MAX_BYTES = 2 ** 31;

/** An output whose size a model can choose freely. @throws shape_mismatch, model_too_large above `MAX_BYTES` */
export function sized(dtype: DType, shape: readonly number[]): OutFact {
  for (const d of shape)
    if (!Number.isInteger(d) || d < 0)
      fail('shape_mismatch', `[${shape}] is no shape: dims are whole numbers from 0 up`);
  const count = shape.includes(0) ? 0 : sizeOf(shape);
  const bytes = dtype === 'string' ? count * 8 : bytesOf(dtype, count);
  if (!(bytes <= MAX_BYTES))
    fail('model_too_large', `${dtype}[${shape}] would have ${bytes} bytes; a tensor may have ${MAX_BYTES}`);
  return { dtype, shape };
}

/**
 * A tensor's elements as entries that can be copied bit for bit: `lanes` entries an element.
 * Sub-byte types are unpacked to a byte an element, so cells share memory with the tensor only for the others.
 */
export interface Cells {
  readonly cells: Uint8Array | Uint16Array | Uint32Array | string[];
  readonly lanes: number;
}

const lanesOf = (dtype: DType): number => Math.max(1, (BITS[dtype] / 32) | 0);

/** The cells of `t`. */
export function cellsOf(t: Tensor): Cells {
  if (t.dtype === 'string') return { cells: t.data as string[], lanes: 1 };
  const d = t.data as Uint8Array;
  const bits = BITS[t.dtype];
  if (bits < 8) {
    const count = sizeOf(t.shape);
    const cells = new Uint8Array(count);
    const per = 8 / bits;
    const mask = (1 << bits) - 1;
    for (let i = 0; i < count; i++) cells[i] = (d[(i / per) | 0]! >>> ((i % per) * bits)) & mask;
    return { cells, lanes: 1 };
  }
  const Class = bits === 8 ? Uint8Array : bits === 16 ? Uint16Array : Uint32Array;
  return {
    cells: new Class(d.buffer as ArrayBuffer, d.byteOffset, d.byteLength / Class.BYTES_PER_ELEMENT),
    lanes: lanesOf(t.dtype),
  };
}

/** Zeroed cells (empty strings) for `count` elements. */
export function newCells(dtype: DType, count: number): Cells {
  if (dtype === 'string') return { cells: new Array<string>(count).fill(''), lanes: 1 };
  const lanes = lanesOf(dtype);
  const bits = BITS[dtype];
  return {
    cells: bits <= 8 ? new Uint8Array(count) : bits === 16 ? new Uint16Array(count) : new Uint32Array(count * lanes),
    lanes,
  };
}

/** The tensor made of `cells`; they become its memory, except for sub-byte types. */
export function fromCells(dtype: DType, shape: readonly number[], { cells }: Cells): Tensor {
  if (dtype === 'string') return { dtype, shape, data: cells as string[] };
  const from = cells as Uint8Array;
  if (isSubByte(dtype)) {
    const bits = BITS[dtype];
    const per = 8 / bits;
    const data = new Uint8Array(bytesOf(dtype, from.length));
    for (let i = 0; i < from.length; i++) data[(i / per) | 0]! |= from[i]! << ((i % per) * bits);
    return { dtype, shape, data: data as Storage[DType] };
  }
  return { dtype, shape, data: VIEW[dtype](from) as Storage[DType] };
}
type Over = (a: Uint8Array) => Storage[DType];
const over =
  (Class: new (buffer: ArrayBuffer, offset: number, length: number) => Storage[DType], width: number): Over =>
  (a) =>
    new Class(a.buffer as ArrayBuffer, a.byteOffset, a.byteLength / width);
const bytes = over(Uint8Array, 1);
const halves = over(Uint16Array, 2);
const VIEW: Readonly<Record<DType, Over>> = {
  float32: over(Float32Array, 4),
  float64: over(Float64Array, 8),
  float16: halves,
  bfloat16: halves,
  float8e4m3fn: bytes,
  float8e4m3fnuz: bytes,
  float8e5m2: bytes,
  float8e5m2fnuz: bytes,
  float8e8m0: bytes,
  float4e2m1: bytes,
  int4: bytes,
  uint4: bytes,
  int2: bytes,
  uint2: bytes,
  int8: over(Int8Array, 1),
  int16: over(Int16Array, 2),
  int32: over(Int32Array, 4),
  int64: over(BigInt64Array, 8),
  uint8: bytes,
  uint16: halves,
  uint32: over(Uint32Array, 4),
  uint64: over(BigUint64Array, 8),
  bool: bytes,
  string: bytes,
  complex64: over(Float32Array, 4),
  complex128: over(Float64Array, 8),
};

/** Copies `count` consecutive elements. */
export function copyRun(from: Cells, i: number, to: Cells, j: number, count: number): void {
  const { lanes } = from;
  if (Array.isArray(from.cells)) {
    for (let k = 0; k < count; k++) (to.cells as string[])[j + k] = from.cells[i + k]!;
  } else if (count * lanes < 16) {
    const a = from.cells;
    const b = to.cells as Uint32Array;
    for (let k = 0, n = count * lanes; k < n; k++) b[j * lanes + k] = a[i * lanes + k]!;
  } else {
    (to.cells as Uint32Array).set(from.cells.subarray(i * lanes, (i + count) * lanes), j * lanes);
  }
}

/** Writes the one element of `value` to places `start` … `start + count`. */
export function fillRun(value: Cells, to: Cells, start: number, count: number): void {
  if (value.lanes === 1) (to.cells as Uint8Array).fill(value.cells[0] as number, start, start + count);
  else for (let k = 0; k < count; k++) copyRun(value, 0, to, start + k, 1);
}

/**
 * A new tensor of `shape` that reads `t` from element `start` on by `strides` (in elements, of any sign, 0 to repeat).
 */
export function strided(t: Tensor, shape: readonly number[], strides: readonly number[], start = 0): Tensor {
  const count = sizeOf(shape);
  const from = cellsOf(t);
  const to = newCells(t.dtype, count);
  if (count === 0) return fromCells(t.dtype, shape, to);
  const dims: number[] = [];
  const steps: number[] = [];
  for (let d = 0; d < shape.length; d++) {
    if (shape[d] === 1) continue;
    if (dims.length > 0 && steps.at(-1) === strides[d]! * shape[d]!) {
      dims[dims.length - 1]! *= shape[d]!;
      steps[steps.length - 1] = strides[d]!;
    } else {
      dims.push(shape[d]!);
      steps.push(strides[d]!);
    }
  }
  const run = steps.at(-1) === 1 ? dims.pop()! : 1;
  if (run > 1) steps.pop();
  const a = from.cells as Uint32Array;
  const b = to.cells as Uint32Array;
  if (run === 1 && from.lanes === 1)
    eachOffset(
      dims,
      steps,
      (i, offset) => {
        b[i] = a[offset]!;
      },
      start,
    );
  else eachOffset(dims, steps, (i, offset) => copyRun(from, offset, to, i * run, run), start);
  return fromCells(t.dtype, shape, to);
}

/**
 * A new tensor of `shape` whose element at (j0, j1, …) is the element of `t` at (tables[0][j0], tables[1][j1], …);
 * where a table says -1, it is the one element of `fill` (zero without it).
 */
export function indexed(
  t: Tensor,
  shape: readonly number[],
  tables: readonly ArrayLike<number>[],
  fill: Cells | null = null,
): Tensor {
  const count = sizeOf(shape);
  const to = newCells(t.dtype, count);
  if (fill) fillRun(fill, to, 0, count);
  if (count === 0) return fromCells(t.dtype, shape, to);
  const from = cellsOf(t);
  const a = stridesOf(t.shape);
  const b = stridesOf(shape);
  const last = shape.length - 1;
  const runs = last < 0 ? [] : runsOf(tables[last]!);
  const visit = (d: number, i: number, j: number): void => {
    if (d < 0 || d === last) {
      if (d < 0) copyRun(from, 0, to, 0, 1);
      else for (const [start, at, n] of runs) copyRun(from, i + start, to, j + at, n);
      return;
    }
    const table = tables[d]!;
    for (let k = 0; k < shape[d]!; k++) if (table[k]! >= 0) visit(d + 1, i + table[k]! * a[d]!, j + k * b[d]!);
  };
  visit(last < 0 ? -1 : 0, 0, 0);
  return fromCells(t.dtype, shape, to);
}
/** A table as [source, place, length] runs of consecutive entries. */
function runsOf(table: ArrayLike<number>): (readonly [number, number, number])[] {
  const runs: [number, number, number][] = [];
  for (let k = 0; k < table.length; k++) {
    const run = runs.at(-1);
    if (table[k]! < 0) continue;
    if (run && run[1] + run[2] === k && run[0] + run[2] === table[k]) run[2]++;
    else runs.push([table[k]!, k, 1]);
  }
  return runs;
}
