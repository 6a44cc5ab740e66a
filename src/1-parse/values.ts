/**
 * Values in files of their own, as ONNX's test data keeps them.
 * https://github.com/onnx/onnx/blob/main/onnx/onnx-data.proto
 */
import { fail } from '../core/errors.ts';
import { fromNumbers, numbers } from '../core/numbers.ts';
import { type Dictionary, isTensor, type Sequence, sizeOf, type Tensor, type Value } from '../core/tensor.ts';
import type { ValueType } from './proto.ts';
import { ONNX, TENSOR } from './schema.ts';
import { decodeTensor, denseOf, type Raw, sparseOf, tensorOf } from './tensor-proto.ts';
import { FINISH } from './messages.ts';
import { type Finish, readerOf, readMessage, schemaOf } from './wire.ts';

/** https://github.com/onnx/onnx/blob/main/onnx/onnx-data.proto */
const VALUES = {
  ...ONNX,
  ...schemaOf({
    tensorValue: TENSOR,
    sparseValue: 'values 1 tensor, indices 2 tensor, dims 3 int*',
    sequenceValue:
      'items 3 tensorValue*, items 4 sparseValue*, items 5 sequenceValue*, items 6 mapValue*, items 7 optionalValue*',
    optionalValue:
      'value 3 tensorValue, value 4 sparseValue, value 5 sequenceValue, value 6 mapValue, value 7 optionalValue',
    mapValue: 'integers 3 long*, texts 4 text*, values 5 sequenceValue',
  }),
};

const finish: Finish = {
  ...FINISH,
  tensorValue: (m: Parameters<typeof tensorOf>[0]): Tensor => decodeTensor(tensorOf(m)),
  sparseValue: (m: Parameters<typeof sparseOf>[0]): Tensor => denseOf(sparseOf(m)),
  sequenceValue: ({ fields: { items } }: Raw<{ items: readonly Value[] }>): Value => ({ kind: 'sequence', items }),
  optionalValue: ({ fields: { value } }: Raw<{ value: Value | null }>): Value => ({ kind: 'optional', value }),
  mapValue: ({
    fields: { integers, texts, values },
  }: Raw<{ integers: readonly bigint[]; texts: readonly string[]; values: Sequence | null }>): Dictionary => {
    const keys = [...integers, ...texts];
    return { kind: 'map', keys, values: stack(values?.items ?? [], keys.length) };
  },
};

/** A TensorProto; its elements share `bytes` where they can. @throws model_malformed, model_unsupported */
export const parseTensor = (bytes: Uint8Array): Tensor => parseValue(bytes) as Tensor;

/**
 * The value in a test data file. The file does not say which kind it holds; the type that the model declares does (a
 * tensor when it declares none).
 * @throws model_malformed, model_unsupported
 */
export const parseValue = (bytes: Uint8Array, type: ValueType | null = null): Value =>
  readMessage(readerOf(bytes), VALUES, finish, `${type?.kind ?? 'tensor'}Value`) as Value;

/** A map's values as one tensor: they come as one tensor of as many elements as there are keys, or as a scalar each. */
function stack(values: readonly Value[], count: number): Tensor {
  const tensors = values.map((v) => (isTensor(v) ? v : fail('model_unsupported', 'a map whose values are no tensors')));
  const first = tensors[0] ?? fail('model_malformed', 'a map without values');
  if (tensors.length === 1 && sizeOf(first.shape) === count) return { ...first, shape: [count] };
  if (tensors.length !== count) fail('model_malformed', `a map has ${count} keys and ${tensors.length} values`);
  if (tensors.some((t) => t.dtype !== first.dtype || sizeOf(t.shape) !== 1))
    fail('model_unsupported', 'a map whose values are not scalars of one dtype');
  if (first.dtype === 'string')
    return { dtype: 'string', shape: [count], data: tensors.map((t) => (t.data as string[])[0]!) };
  if (first.dtype === 'int64')
    return { dtype: 'int64', shape: [count], data: BigInt64Array.from(tensors, (t) => (t.data as BigInt64Array)[0]!) };
  return fromNumbers(
    first.dtype,
    [count],
    tensors.map((t) => numbers(t)[0]!),
  );
}
