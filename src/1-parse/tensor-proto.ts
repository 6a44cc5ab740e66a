/** TensorProto and SparseTensorProto: found in the file when it is parsed, decoded when someone asks. */
import { allocate, BITS, bytesOf, DTYPE_OF_ONNX, type DType, type Storage } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import type { Constant } from '../core/graph.ts';
import { sizeOf, type Tensor, tensorOver } from '../core/tensor.ts';
import { externalOf, type ReadExternal } from './external.ts';
import type { SparseProto, TensorProto } from './proto.ts';
import {
  bigint, BYTES, bytesField, eachField, enumField, FIXED32, FIXED64, int, malformed, messageField, plain, type Reader, readerOf, repeated, textField, textOf, VARINT,
} from './wire.ts';

const DIMS = 1;
const FLOAT_DATA = 4;
const INT32_DATA = 5;
const STRING_DATA = 6;
const INT64_DATA = 7;
const DOUBLE_DATA = 10;
const UINT64_DATA = 11;

/** The typed field in which a tensor of each dtype may keep its elements. */
function fieldOf(dtype: DType): number {
  switch (dtype) {
    case 'float32': case 'complex64': return FLOAT_DATA;
    case 'float64': case 'complex128': return DOUBLE_DATA;
    case 'int64': return INT64_DATA;
    case 'uint32': case 'uint64': return UINT64_DATA;
    case 'string': return STRING_DATA;
    default: return INT32_DATA;
  }
}
const scalarWire = (field: number): number => (field === FLOAT_DATA ? FIXED32 : field === DOUBLE_DATA ? FIXED64 : field === STRING_DATA ? BYTES : VARINT);

/** Entries of a typed field that `count` elements take: complex numbers take two, sub-byte types share one byte. */
const entriesOf = (dtype: DType, count: number): number =>
  dtype === 'complex64' || dtype === 'complex128' ? 2 * count : BITS[dtype] > 0 && BITS[dtype] < 8 ? bytesOf(dtype, count) : count;

/** Dims as a file states them. @throws model_malformed when one is negative or their product is past what a double counts exactly */
export function checkShape(dims: readonly number[], what: string): readonly number[] {
  for (const d of dims) if (!Number.isSafeInteger(d) || d < 0) fail('model_malformed', `${what} has the dim ${d}`);
  if (!Number.isSafeInteger(dims.includes(0) ? 0 : sizeOf(dims) * 16)) fail('model_malformed', `${what} has the shape [${dims}], more elements than any memory holds`);
  return dims;
}

/** The dtype of an ONNX number. @throws model_malformed, model_unsupported */
export function dtypeOf(number: number, what: string): DType {
  if (number === 0) fail('model_malformed', `${what} has no element type`);
  return DTYPE_OF_ONNX[number] ?? fail('model_unsupported', `${what} has the element type ${number}, which this version does not know`);
}

/** Reads a TensorProto: its name, dtype and shape, and where its elements are, which are checked to be as many as the shape says. */
export function readTensor(r: Reader, end: number, depth: number): TensorProto {
  const start = r.pos;
  let name = '';
  let type = 0;
  let location = 0;
  let raw = null as Uint8Array | null;
  const dims: number[] = [];
  const entries = new Map<string, string>();
  eachField(r, end, 'a tensor', (field, wire) => {
    switch (field) {
      case DIMS: repeated(r, wire, VARINT, 'dims', (at) => {
        dims.push(int(at));
        if (dims.length > 1024) malformed(at.pos, 'a tensor has more than 1024 dims');
      }); return true;
      case 2: type = enumField(r, wire, 'data_type'); return true;
      case 3: return malformed(r.pos, 'a tensor in segments: that was never a finished part of ONNX');
      case 8: name = textField(r, wire, 'a tensor name'); return true;
      case 9: raw = bytesField(r, wire, 'raw_data'); return true;
      case 13: messageField(r, wire, 'external_data', depth, (at, to) => readEntry(at, to, entries)); return true;
      case 14: location = enumField(r, wire, 'data_location'); return true;
      default: return false;
    }
  });
  const what = name === '' ? 'a tensor' : `tensor ${JSON.stringify(name)}`;
  const dtype = dtypeOf(type, what);
  const shape = checkShape(dims, what);
  const proto: TensorProto = {
    name, dtype, shape, raw, external: location === 1 ? externalOf(entries, name) : null, message: r.buf.subarray(start, end) as Uint8Array,
  };
  checkLength(proto, what);
  return proto;
}

function checkLength(t: TensorProto, what: string): void {
  const count = sizeOf(t.shape);
  const need = bytesOf(t.dtype, count);
  const said = `${what}, ${t.dtype}[${t.shape}],`;
  if (t.external) {
    if (t.dtype === 'string') fail('model_malformed', `${said} cannot be external: strings have no byte form`);
    if (t.external.length !== null && t.external.length !== need) fail('model_malformed', `${said} needs ${need} bytes but its external data has ${t.external.length}`);
  } else if (t.raw) {
    if (t.dtype === 'string') fail('model_malformed', `${said} cannot be raw: strings have no byte form`);
    if (t.raw.byteLength !== need) fail('model_malformed', `${said} needs ${need} bytes but its raw_data has ${t.raw.byteLength}`);
  } else {
    const field = fieldOf(t.dtype);
    const has = count === 0 ? 0 : countEntries(t.message, field);
    if (has !== entriesOf(t.dtype, count)) fail('model_malformed', `${said} needs ${entriesOf(t.dtype, count)} entries but has ${has}`);
  }
}

/** Adds a StringStringEntryProto to `to`. */
export function readEntry(r: Reader, end: number, to: Map<string, string>): void {
  let key = '';
  let value = '';
  eachField(r, end, 'a key and its value', (field, wire) => {
    if (field === 1) key = textField(r, wire, 'a key');
    else if (field === 2) value = textField(r, wire, 'a value');
    else return false;
    return true;
  });
  to.set(key, value);
}

/** Counts the entries of a typed field without decoding them: of varints, the bytes that end one. */
function countEntries(message: Uint8Array, wanted: number): number {
  const r = readerOf(message);
  const scalar = scalarWire(wanted);
  let count = 0;
  eachField(r, message.length, 'a tensor', (field, wire) => {
    if (field !== wanted) return false;
    if (wire !== BYTES || scalar === BYTES) {
      count++;
      return false;
    }
    const packed = bytesField(r, wire, 'elements');
    if (scalar === VARINT) for (const b of packed) count += b < 128 ? 1 : 0;
    else count += packed.length / (scalar === FIXED32 ? 4 : 8);
    return true;
  });
  return count;
}

/** Decodes a typed field into storage of the right size, which `countEntries` has vouched for. */
function decodeTyped(t: TensorProto): Tensor {
  const data = allocate(t.dtype, sizeOf(t.shape)) as Uint8Array & string[];
  const out = data as unknown as { [i: number]: unknown; readonly length: number };
  const wanted = fieldOf(t.dtype);
  const wide = t.dtype === 'int64' || t.dtype === 'uint64';
  const read = wanted === FLOAT_DATA ? (r: Reader) => r.float() : wanted === DOUBLE_DATA ? (r: Reader) => r.double() : wide ? bigint : int;
  const r = readerOf(t.message);
  let i = 0;
  if (out.length > 0) eachField(r, t.message.length, 'a tensor', (field, wire) => {
    if (field !== wanted) return false;
    if (wanted === STRING_DATA) out[i++] = textOf(bytesField(r, wire, 'a string'));
    else repeated(r, wire, scalarWire(wanted), 'elements', (at) => { out[i++] = read(at); });
    return true;
  });
  return { dtype: t.dtype, shape: t.shape, data: data as Storage[DType] };
}

/** The tensor, its bytes shared with the file where they are raw and aligned. External ones are not here. @throws model_unsupported */
export function decodeTensor(t: TensorProto): Tensor {
  if (t.external) fail('model_unsupported', `tensor ${JSON.stringify(t.name)} keeps its elements in ${JSON.stringify(t.external.file)}, where only weights may`);
  return t.raw ? tensorOver(t.dtype, t.shape, t.raw) : decodeTyped(t);
}

/** External tensors up to this many bytes are kept once read: shapes and scalars, which many look at. */
const KEEP = 65536;

/** A weight over the file's bytes: decoded once, when first asked for. External ones are read each time unless small. */
export function constantOfProto(t: TensorProto, read: ReadExternal | undefined): Constant {
  let kept = null as Tensor | null;
  const { external, dtype, shape } = t;
  if (!external) {
    const get = (): Tensor => (kept ??= decodeTensor(t));
    return { dtype, shape, peek: get, load: get };
  }
  const need = bytesOf(dtype, sizeOf(shape));
  const part = (offset: number, length: number): Uint8Array | Promise<Uint8Array> => {
    if (!read) fail('external_data_missing', `tensor ${JSON.stringify(t.name)} is in ${JSON.stringify(external.file)}, and nothing was given to read that file with`);
    const checked = (bytes: Uint8Array): Uint8Array => {
      if (bytes.byteLength !== length) fail('external_data_missing', `${JSON.stringify(external.file)} gave ${bytes.byteLength} of the ${length} bytes at ${external.offset + offset}, which belong to tensor ${JSON.stringify(t.name)}`);
      return plain(bytes);
    };
    const bytes = read(external.file, external.offset + offset, length);
    return bytes instanceof Uint8Array ? checked(bytes) : bytes.then(checked);
  };
  const over = (bytes: Uint8Array): Tensor => {
    const made = tensorOver(dtype, shape, bytes);
    if (need <= KEEP) kept = made;
    return made;
  };
  return {
    dtype, shape,
    peek: () => kept,
    load: () => {
      if (kept) return kept;
      const bytes = part(0, need);
      return bytes instanceof Uint8Array ? over(bytes) : bytes.then(over);
    },
    stored: { order: external.offset, read: part },
  };
}

export function readSparse(r: Reader, end: number, depth: number): SparseProto {
  let values = null as TensorProto | null;
  let indices = null as TensorProto | null;
  const dims: number[] = [];
  eachField(r, end, 'a sparse tensor', (field, wire) => {
    if (field === 1) values = messageField(r, wire, 'values', depth, readTensor);
    else if (field === 2) indices = messageField(r, wire, 'indices', depth, readTensor);
    else if (field === 3) repeated(r, wire, VARINT, 'dims', (at) => { dims.push(int(at)); if (dims.length > 1024) malformed(at.pos, 'a tensor has more than 1024 dims'); });
    else return false;
    return true;
  });
  if (!values || !indices) return malformed(end, 'a sparse tensor lacks its values or its indices');
  return { values, indices, shape: checkShape(dims, 'a sparse tensor') };
}

/** A few bytes can claim any dense size, so what a sparse tensor may become has a bound. */
const MAX_DENSE = 2 ** 28;

/** A sparse tensor, made dense. Indices are [n] linear or [n, rank]. @throws model_malformed, model_too_large, model_unsupported */
export function denseOf(s: SparseProto): Tensor {
  const { dtype, name } = s.values;
  const what = `sparse tensor ${JSON.stringify(name)}`;
  const size = sizeOf(s.shape);
  if (dtype === 'string' || BITS[dtype] < 8 || dtype.startsWith('complex')) fail('model_unsupported', `${what} of ${dtype}`);
  if (bytesOf(dtype, size) > MAX_DENSE) fail('model_too_large', `${what} would take ${bytesOf(dtype, size)} bytes; at most ${MAX_DENSE} are made`);
  const count = sizeOf(s.values.shape);
  const rank = s.shape.length;
  const linear = s.indices.shape.length === 1;
  if (s.indices.dtype !== 'int64' || s.indices.shape[0] !== count || (!linear && (s.indices.shape.length !== 2 || s.indices.shape[1] !== rank))) {
    fail('model_malformed', `${what}: indices ${s.indices.dtype}[${s.indices.shape}] do not fit ${count} values of rank ${rank}`);
  }
  const values = decodeTensor(s.values).data as Float32Array;
  const indices = decodeTensor(s.indices).data as BigInt64Array;
  const data = allocate(dtype, size) as Float32Array;
  for (let i = 0; i < count; i++) {
    let at = linear ? Number(indices[i]) : 0;
    if (!linear) for (let d = 0; d < rank; d++) {
      const index = Number(indices[i * rank + d]);
      if (index < 0 || index >= s.shape[d]!) fail('model_malformed', `${what}: index ${index} is outside dim ${d} of [${s.shape}]`);
      at = at * s.shape[d]! + index;
    }
    if (at < 0 || at >= size) fail('model_malformed', `${what}: index ${at} is outside [${s.shape}]`);
    data[at] = values[i]!;
  }
  return { dtype, shape: s.shape, data };
}
