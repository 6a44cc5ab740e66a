/** Values in files of their own, as ONNX's test data keeps them. https://github.com/onnx/onnx/blob/main/onnx/onnx-data.proto */
import { fail } from '../core/errors.ts';
import { fromNumbers, numbers } from '../core/numbers.ts';
import { type Dictionary, isTensor, sizeOf, type Tensor, type Value } from '../core/tensor.ts';
import type { ValueType } from './proto.ts';
import { decodeTensor, denseOf, readSparse, readTensor } from './tensor-proto.ts';
import { bigint, eachField, messageField, type Reader, readerOf, repeated, textField, VARINT } from './wire.ts';

const tensorOf = (r: Reader, end: number, depth: number): Tensor => decodeTensor(readTensor(r, end, depth));
const sparseOf = (r: Reader, end: number, depth: number): Tensor => denseOf(readSparse(r, end, depth));

/** A TensorProto; its elements share `bytes` where they can. @throws model_malformed, model_unsupported */
export const parseTensor = (bytes: Uint8Array): Tensor => tensorOf(readerOf(bytes), bytes.length, 0);

/**
 * The value in a test data file. The file does not say which kind it holds; the type that the model declares does (a tensor when it declares none).
 * @throws model_malformed, model_unsupported
 */
export function parseValue(bytes: Uint8Array, type: ValueType | null = null): Value {
  const r = readerOf(bytes);
  switch (type?.kind) {
    case 'sequence': return readSequence(r, bytes.length, 0);
    case 'optional': return readOptional(r, bytes.length, 0);
    case 'map': return readMap(r, bytes.length, 0);
    default: return tensorOf(r, bytes.length, 0);
  }
}

/** The repeated fields of a SequenceProto, or the single ones of an OptionalProto: the same kinds at the same numbers, from `first` on. */
function readMember(r: Reader, wire: number, field: number, depth: number): Value | null {
  switch (field) {
    case 3: return messageField(r, wire, 'a tensor', depth, tensorOf);
    case 4: return messageField(r, wire, 'a sparse tensor', depth, sparseOf);
    case 5: return messageField(r, wire, 'a sequence', depth, readSequence);
    case 6: return messageField(r, wire, 'a map', depth, readMap);
    case 7: return messageField(r, wire, 'an optional', depth, readOptional);
    default: return null;
  }
}

function readSequence(r: Reader, end: number, depth: number): Value {
  const items: Value[] = [];
  eachField(r, end, 'a sequence', (field, wire) => {
    const item = readMember(r, wire, field, depth);
    if (item) items.push(item);
    return item !== null;
  });
  return { kind: 'sequence', items };
}

function readOptional(r: Reader, end: number, depth: number): Value {
  let value = null as Value | null;
  eachField(r, end, 'an optional', (field, wire) => {
    const member = readMember(r, wire, field, depth);
    value ??= member;
    return member !== null;
  });
  return { kind: 'optional', value };
}

function readMap(r: Reader, end: number, depth: number): Dictionary {
  const keys: (string | bigint)[] = [];
  let values: readonly Value[] = [];
  eachField(r, end, 'a map', (field, wire) => {
    if (field === 3) repeated(r, wire, VARINT, 'keys', (at) => { keys.push(bigint(at)); });
    else if (field === 4) keys.push(textField(r, wire, 'a key'));
    else if (field === 5) values = (messageField(r, wire, 'values', depth, readSequence) as { readonly items: readonly Value[] }).items;
    else return false;
    return true;
  });
  return { kind: 'map', keys, values: stack(values, keys.length) };
}

/** A map's values as one tensor: they come as one tensor of as many elements as there are keys, or as a scalar each. */
function stack(values: readonly Value[], count: number): Tensor {
  const tensors = values.map((v) => (isTensor(v) ? v : fail('model_unsupported', 'a map whose values are no tensors')));
  const first = tensors[0] ?? fail('model_malformed', 'a map without values');
  if (tensors.length === 1 && sizeOf(first.shape) === count) return { ...first, shape: [count] };
  if (tensors.length !== count) fail('model_malformed', `a map has ${count} keys and ${tensors.length} values`);
  if (tensors.some((t) => t.dtype !== first.dtype || sizeOf(t.shape) !== 1)) fail('model_unsupported', 'a map whose values are not scalars of one dtype');
  if (first.dtype === 'string') return { dtype: 'string', shape: [count], data: tensors.map((t) => (t.data as string[])[0]!) };
  if (first.dtype === 'int64') return { dtype: 'int64', shape: [count], data: BigInt64Array.from(tensors, (t) => (t.data as BigInt64Array)[0]!) };
  return fromNumbers(first.dtype, [count], tensors.map((t) => numbers(t)[0]!));
}
