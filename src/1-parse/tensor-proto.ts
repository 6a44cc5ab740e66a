/** TensorProto and SparseTensorProto: found in the file when it is parsed, decoded when someone asks. */
import { allocate, BITS, bytesOf, DTYPE_OF_ONNX, type DType, type Storage } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { Constant } from '../core/graph.ts';
import { sizeOf, type Tensor, tensorOver } from '../core/tensor.ts';
import { externalOf, type ReadBytes } from './external.ts';
import type { SparseProto, TensorProto } from './proto.ts';
import {
  bigint,
  BYTES,
  bytesTo,
  double,
  endOf,
  FIXED32,
  FIXED64,
  float,
  type Hole,
  int,
  malformed,
  plain,
  type Read,
  type Reader,
  readerOf,
  skip,
  tagOf,
  textOf,
  VARINT,
} from './wire.ts';

const FLOAT_DATA = 4;
const INT32_DATA = 5;
const STRING_DATA = 6;
const INT64_DATA = 7;
const DOUBLE_DATA = 10;
const UINT64_DATA = 11;

/** The typed field in which a tensor of each dtype may keep its elements. */
function fieldOf(dtype: DType): number {
  switch (dtype) {
    case 'float32':
    case 'complex64':
      return FLOAT_DATA;
    case 'float64':
    case 'complex128':
      return DOUBLE_DATA;
    case 'int64':
      return INT64_DATA;
    case 'uint32':
    case 'uint64':
      return UINT64_DATA;
    case 'string':
      return STRING_DATA;
    default:
      return INT32_DATA;
  }
}
const scalarWire = (field: number): number =>
  field === FLOAT_DATA ? FIXED32 : field === DOUBLE_DATA ? FIXED64 : field === STRING_DATA ? BYTES : VARINT;

/** Entries of a typed field that `count` elements take: complex numbers take two, sub-byte types share one byte. */
const entriesOfType = (dtype: DType, count: number): number =>
  dtype === 'complex64' || dtype === 'complex128'
    ? 2 * count
    : BITS[dtype] > 0 && BITS[dtype] < 8
      ? bytesOf(dtype, count)
      : count;

/**
 * Dims as a file states them. @throws model_malformed when one is negative or their product is past what a double
 * counts exactly
 */
export function checkShape(dims: readonly number[], what: string): readonly number[] {
  for (const d of dims) if (!Number.isSafeInteger(d) || d < 0) fail('model_malformed', `${what} has the dim ${d}`);
  if (!Number.isSafeInteger(dims.includes(0) ? 0 : sizeOf(dims) * 16))
    fail('model_malformed', `${what} has the shape [${dims}], more elements than any memory holds`);
  return dims;
}

/** The dtype of an ONNX number. @throws model_malformed, model_unsupported */
export function dtypeOf(number: number, what: string): DType {
  if (number === 0) fail('model_malformed', `${what} has no element type`);
  return (
    DTYPE_OF_ONNX[number] ??
    fail('model_unsupported', `${what} has the element type ${number}, which this version does not know`)
  );
}

/** What `readMessage` hands over, its fields of type T. */
export interface Raw<T> extends Read {
  readonly fields: T & Readonly<Record<string, unknown>>;
}
/** StringStringEntryProto. */
export interface Entry {
  readonly key: string;
  readonly value: string;
}
export const entriesOf = (entries: readonly Entry[]): ReadonlyMap<string, string> =>
  new Map(entries.map(({ key, value }) => [key, value]));

interface TensorFields {
  readonly name: string;
  readonly type: number;
  readonly dims: readonly number[];
  readonly segment: Uint8Array | null;
  readonly location: number;
  readonly external: readonly Entry[];
  readonly raw: Uint8Array | Hole | null;
  readonly floats: Uint8Array | Hole | null;
  readonly doubles: Uint8Array | Hole | null;
}

/**
 * A TensorProto: its name, dtype and shape, and where its elements are, which are checked to be as many as the shape
 * says.
 */
export function tensorOf({ fields: f, at, bytes }: Raw<TensorFields>): TensorProto {
  if (f.segment) malformed(at, 'a tensor in segments: that was never a finished part of ONNX');
  if (f.dims.length > 1024) malformed(at, 'a tensor has more than 1024 dims');
  const what = f.name === '' ? 'a tensor' : `tensor ${JSON.stringify(f.name)}`;
  const dtype = dtypeOf(f.type | 0, what);
  const shape = checkShape(f.dims, what);
  const count = sizeOf(shape);
  const need = bytesOf(dtype, count);
  const said = `${what}, ${dtype}[${shape}],`;
  const external = f.location === 1 ? externalOf(entriesOf(f.external), f.name) : null;
  // Packed floats are what raw data is.
  const field = fieldOf(dtype);
  const raw = f.raw ?? (field === FLOAT_DATA ? f.floats : field === DOUBLE_DATA ? f.doubles : null);
  const message = bytes();
  if (external) {
    if (dtype === 'string') fail('model_malformed', `${said} cannot be external: strings have no byte form`);
    if (external.length !== null && external.length !== need)
      fail('model_malformed', `${said} needs ${need} bytes but its external data has ${external.length}`);
  } else if (f.raw) {
    if (dtype === 'string') fail('model_malformed', `${said} cannot be raw: strings have no byte form`);
    if (f.raw.length !== need)
      fail('model_malformed', `${said} needs ${need} bytes but its raw_data has ${f.raw.length}`);
  } else {
    const has =
      count === 0
        ? 0
        : raw
          ? (raw.length * entriesOfType(dtype, count)) / need
          : countEntries(message ?? malformed(at, `${said} keeps its elements beside what is not known`), field);
    if (has !== entriesOfType(dtype, count))
      fail('model_malformed', `${said} needs ${entriesOfType(dtype, count)} entries but has ${has}`);
  }
  return { name: f.name, dtype, shape, raw: external || count === 0 ? null : raw, external, message };
}

/**
 * Walks a TensorProto's field of this number: `each` reads one element, `piece` gets the reader at a packed run of them
 * and its end.
 */
function eachPiece(message: Uint8Array, field: number, piece: (r: Reader, end: number) => void): void {
  const r = readerOf(message);
  const packable = scalarWire(field) !== BYTES;
  while (r.pos < message.length) {
    const tag = tagOf(r);
    if (tag >>> 3 !== field) {
      skip(r, tag & 7);
      continue;
    }
    if ((tag & 7) === BYTES && packable) {
      const end = (r.end = endOf(r));
      piece(r, end);
      r.pos = end;
      r.end = message.length;
    } else if ((tag & 7) === scalarWire(field)) piece(r, -1);
    else malformed(r.pos, `elements of a tensor have wire type ${tag & 7}`);
  }
}

/** Counts the entries of a typed field without decoding them: of varints, the bytes that end one. */
function countEntries(message: Uint8Array, field: number): number {
  const scalar = scalarWire(field);
  let count = 0;
  eachPiece(message, field, (r, end) => {
    if (end < 0) {
      skip(r, scalar);
      count++;
    } else if (scalar === VARINT) for (let i = r.pos; i < end; i++) count += message[i]! < 128 ? 1 : 0;
    else count += (end - r.pos) / (scalar === FIXED32 ? 4 : 8);
  });
  return count;
}

/** Decodes a typed field into storage of the right size, which `countEntries` has vouched for. */
function decodeTyped(t: TensorProto): Tensor {
  const data = allocate(t.dtype, sizeOf(t.shape)) as Uint8Array & string[];
  const out = data as unknown as { [i: number]: unknown; readonly length: number };
  const field = fieldOf(t.dtype);
  const wide = t.dtype === 'int64' || t.dtype === 'uint64';
  const read =
    field === FLOAT_DATA
      ? float
      : field === DOUBLE_DATA
        ? double
        : field === STRING_DATA
          ? (r: Reader) => textOf(bytesTo(r, endOf(r)))
          : wide
            ? bigint
            : int;
  let i = 0;
  if (out.length > 0)
    eachPiece(t.message!, field, (r, end) => {
      if (end < 0) out[i++] = read(r);
      else while (r.pos < end) out[i++] = read(r);
    });
  return { dtype: t.dtype, shape: t.shape, data: data as Storage[DType] };
}

/**
 * The tensor, its bytes shared with the file where they are raw and aligned. External ones are not here. @throws
 * model_unsupported
 */
export function decodeTensor(t: TensorProto): Tensor {
  if (t.external)
    fail(
      'model_unsupported',
      `tensor ${JSON.stringify(t.name)} keeps its elements in ${JSON.stringify(t.external.file)}, where only weights may`,
    );
  if (t.raw && !(t.raw instanceof Uint8Array))
    fail('internal', `tensor ${JSON.stringify(t.name)} was left in the file`);
  return t.raw ? tensorOver(t.dtype, t.shape, t.raw) : decodeTyped(t);
}

/**
 * How weights that lie elsewhere are read; `orderOf` counts files in the order of their first mention, far enough
 * apart.
 */
export interface Source {
  readonly read: ReadBytes | undefined;
  readonly orderOf: (file: string | null) => number;
}

/** Such tensors up to this many bytes are kept once read: shapes and scalars, which many look at. */
const KEEP = 65536;

/**
 * A weight over the file's bytes: decoded once, when first asked for. One that lies elsewhere is read each time unless
 * small.
 */
export function constantOfProto(t: TensorProto, { read, orderOf }: Source): Constant {
  let kept = null as Tensor | null;
  const { external, raw, dtype, shape } = t;
  if (!external && (raw === null || raw instanceof Uint8Array)) {
    const get = (): Tensor => (kept ??= decodeTensor(t));
    const size = bytesOf(dtype, sizeOf(shape));
    const held = (): Uint8Array | null => (kept || !raw || raw.byteLength < size ? null : plain(raw.subarray(0, size)));
    return { dtype, shape, peek: get, load: get, raw: held };
  }
  const { file, at } = external ? { file: external.file, at: external.offset } : { file: null, at: (raw as Hole).at };
  const need = bytesOf(dtype, sizeOf(shape));
  const part = (offset: number, length: number): Uint8Array | Promise<Uint8Array> => {
    if (!read)
      fail(
        'external_data_missing',
        `tensor ${JSON.stringify(t.name)} is in ${JSON.stringify(file)}, and nothing was given to read that file with`,
      );
    const checked = (bytes: Uint8Array): Uint8Array => {
      if (bytes.byteLength !== length)
        fail(
          'external_data_missing',
          `${JSON.stringify(file ?? 'the model')} gave ${bytes.byteLength} of the ${length} bytes at ${at + offset}, which belong to tensor ${JSON.stringify(t.name)}`,
        );
      return plain(bytes);
    };
    const bytes = read(file, at + offset, length);
    return bytes instanceof Uint8Array ? checked(bytes) : bytes.then(checked);
  };
  const over = (bytes: Uint8Array): Tensor => {
    const made = tensorOver(dtype, shape, bytes);
    if (need <= KEEP) kept = made;
    return made;
  };
  return {
    dtype,
    shape,
    peek: () => kept,
    load: () => {
      if (kept) return kept;
      const bytes = part(0, need);
      return bytes instanceof Uint8Array ? over(bytes) : bytes.then(over);
    },
    stored: { order: orderOf(file) + at, read: part },
  };
}

/** A SparseTensorProto. */
export function sparseOf({
  fields: { values, indices, dims },
  at,
}: Raw<{ values: TensorProto | null; indices: TensorProto | null; dims: readonly number[] }>): SparseProto {
  if (!values || !indices || dims.length > 1024)
    return malformed(at, 'a sparse tensor lacks its values or its indices, or has more than 1024 dims');
  return { values, indices, shape: checkShape(dims, 'a sparse tensor') };
}

/** A few bytes can claim any dense size, so what a sparse tensor may become has a bound. */
const MAX_DENSE = 2 ** 28;

/**
 * A sparse tensor, made dense. Indices are [n] linear or [n, rank]. @throws model_malformed, model_too_large,
 * model_unsupported
 */
export function denseOf(s: SparseProto): Tensor {
  const { dtype, name } = s.values;
  const what = `sparse tensor ${JSON.stringify(name)}`;
  const size = sizeOf(s.shape);
  if (dtype === 'string' || BITS[dtype] < 8 || dtype.startsWith('complex'))
    fail('model_unsupported', `${what} of ${dtype}`);
  if (bytesOf(dtype, size) > MAX_DENSE)
    fail('model_too_large', `${what} would take ${bytesOf(dtype, size)} bytes; at most ${MAX_DENSE} are made`);
  const count = sizeOf(s.values.shape);
  const rank = s.shape.length;
  const linear = s.indices.shape.length === 1;
  if (
    s.indices.dtype !== 'int64' ||
    s.indices.shape[0] !== count ||
    (!linear && (s.indices.shape.length !== 2 || s.indices.shape[1] !== rank))
  ) {
    fail(
      'model_malformed',
      `${what}: indices ${s.indices.dtype}[${s.indices.shape}] do not fit ${count} values of rank ${rank}`,
    );
  }
  const values = decodeTensor(s.values).data as Float32Array;
  const indices = decodeTensor(s.indices).data as BigInt64Array;
  const data = allocate(dtype, size) as Float32Array;
  for (let i = 0; i < count; i++) {
    let at = linear ? Number(indices[i]) : 0;
    if (!linear)
      for (let d = 0; d < rank; d++) {
        const index = Number(indices[i * rank + d]);
        if (index < 0 || index >= s.shape[d]!)
          fail('model_malformed', `${what}: index ${index} is outside dim ${d} of [${s.shape}]`);
        at = at * s.shape[d]! + index;
      }
    if (at < 0 || at >= size) fail('model_malformed', `${what}: index ${at} is outside [${s.shape}]`);
    data[at] = values[i]!;
  }
  return { dtype, shape: s.shape, data };
}
