import { type DType, isFloat } from '../../src/core/dtype.ts';
import { fail } from '../../src/core/errors.ts';
import { bigints, fromNumbers, numbers } from '../../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { defineOp, float, floats, int, ints, type Op, string, strings, tensorAttr } from '../define.ts';
import { cellsOf, copyRun, fromCells, newCells } from '../elements.ts';
import { int64s } from '../given.ts';

type Key = string | bigint | number;
/** Elements as keys of a Map: integers exactly; every NaN is equal, and so are both zeros. */
const keysOf = (t: Tensor): readonly Key[] =>
  t.dtype === 'string' ? (t.data as string[]) : isFloat(t.dtype) ? Array.from(numbers(t)) : Array.from(bigints(t));

interface Mapping {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly fallback: Tensor;
}

const texts = (values: readonly string[]): Tensor => ({ dtype: 'string', shape: [values.length], data: [...values] });
const singles = (values: readonly number[]): Tensor => ({
  dtype: 'float32',
  shape: [values.length],
  data: Float32Array.from(values),
});

interface EncoderAttrs {
  readonly classes_strings: readonly string[] | undefined;
  readonly keys_floats: readonly number[] | undefined;
  readonly keys_int64s: readonly number[] | undefined;
  readonly keys_strings: readonly string[] | undefined;
  readonly keys_tensor: Tensor | undefined;
  readonly values_floats: readonly number[] | undefined;
  readonly values_int64s: readonly number[] | undefined;
  readonly values_strings: readonly string[] | undefined;
  readonly values_tensor: Tensor | undefined;
  readonly default_float: number;
  readonly default_int64: number;
  readonly default_string: string;
  readonly default_tensor: Tensor | undefined;
}

/** The one list of keys, or of values, that the attributes give. */
function given(attrs: EncoderAttrs, what: 'keys' | 'values'): Tensor {
  const {
    [`${what}_strings` as const]: words,
    [`${what}_int64s` as const]: numbers,
    [`${what}_floats` as const]: floats,
  } = attrs;
  const found = [
    attrs[`${what}_tensor`],
    words && texts(words),
    numbers && int64s(numbers),
    floats && singles(floats),
  ].filter((t) => t !== undefined);
  return found.length === 1
    ? found[0]!
    : fail('attribute_invalid', `one of the ${what}_* attributes must be given, not ${found.length}`);
}

/** What a value becomes that is no key. */
function fallbackOf(attrs: EncoderAttrs, dtype: DType): Tensor {
  const chosen =
    attrs.default_tensor ??
    (dtype === 'string'
      ? texts([attrs.default_string])
      : fromNumbers(dtype, [1], [isFloat(dtype) ? attrs.default_float : attrs.default_int64]));
  if (chosen.dtype !== dtype || sizeOf(chosen.shape) !== 1)
    fail('attribute_invalid', `the default is ${chosen.dtype}[${chosen.shape}]; the values are ${dtype}`);
  return chosen;
}

/**
 * The mapping for an input of `dtype`. Opset 1 lists strings and their numbers are their places; which way it goes, the
 * input says.
 */
function mappingOf(attrs: EncoderAttrs, dtype: DType): Mapping {
  if (attrs.classes_strings) {
    const names = texts(attrs.classes_strings);
    const places = int64s(attrs.classes_strings.map((_, i) => i));
    return dtype === 'string'
      ? { keys: names, values: places, fallback: fallbackOf(attrs, 'int64') }
      : { keys: places, values: names, fallback: fallbackOf(attrs, 'string') };
  }
  const keys = given(attrs, 'keys');
  const values = given(attrs, 'values');
  if (sizeOf(keys.shape) !== sizeOf(values.shape))
    fail('attribute_invalid', `${sizeOf(keys.shape)} keys for ${sizeOf(values.shape)} values`);
  if (keys.dtype !== dtype) fail('type_mismatch', `the input is ${dtype}; the keys are ${keys.dtype}`);
  return { keys, values, fallback: fallbackOf(attrs, values.dtype) };
}

function encode(t: Tensor, { keys, values, fallback }: Mapping): Tensor {
  const places = new Map(keysOf(keys).map((k, i) => [k, i]));
  const [from, other] = [cellsOf(values), cellsOf(fallback)];
  const to = newCells(values.dtype, sizeOf(t.shape));
  keysOf(t).forEach((k, i) => {
    const at = places.get(k);
    copyRun(at === undefined ? other : from, at ?? 0, to, i, 1);
  });
  return fromCells(values.dtype, t.shape, to);
}

interface MapperAttrs {
  readonly cats_int64s: readonly number[] | undefined;
  readonly cats_strings: readonly string[] | undefined;
  readonly default_int64: number;
  readonly default_string: string;
}
function categoriesOf(
  { cats_int64s, cats_strings, default_int64, default_string }: MapperAttrs,
  dtype: DType,
): Mapping {
  if (!cats_int64s || !cats_strings || cats_int64s.length !== cats_strings.length)
    return fail('attribute_invalid', 'cats_int64s and cats_strings must be of one length');
  if (dtype === 'string')
    return { keys: texts(cats_strings), values: int64s(cats_int64s), fallback: int64s([default_int64]) };
  return { keys: int64s(cats_int64s), values: texts(cats_strings), fallback: texts([default_string]) };
}

const LABEL: readonly DType[] = ['string', 'int64', 'float32', 'int32', 'int16', 'float64'];

/**
 * https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html,
 * https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html
 */
export const labels: readonly Op[] = [
  defineOp({
    op: 'ai.onnx.ml.LabelEncoder',
    since: [1, 2, 4],
    inputs: ['X: T1'],
    outputs: ['Y: T2'],
    types: { T1: LABEL, T2: LABEL },
    attrs: {
      classes_strings: strings(),
      keys_floats: floats(),
      keys_int64s: ints(),
      keys_strings: strings(),
      keys_tensor: tensorAttr(),
      values_floats: floats(),
      values_int64s: ints(),
      values_strings: strings(),
      values_tensor: tensorAttr(),
      default_float: float(-0),
      default_int64: int(-1),
      default_string: string('_Unused'),
      default_tensor: tensorAttr(),
    },
    infer: (call) => [{ dtype: mappingOf(call.attrs, call.fact(0).dtype).values.dtype, shape: call.fact(0).shape }],
    reference: (call) => [encode(call.tensor(0), mappingOf(call.attrs, call.tensor(0).dtype))],
  }),
  defineOp({
    op: 'ai.onnx.ml.CategoryMapper',
    since: [1],
    inputs: ['X: T1'],
    outputs: ['Y: T2'],
    types: { T1: ['string', 'int64'], T2: ['string', 'int64'] },
    attrs: { cats_int64s: ints(), cats_strings: strings(), default_int64: int(-1), default_string: string('_Unused') },
    infer: (call) => [{ dtype: categoriesOf(call.attrs, call.fact(0).dtype).values.dtype, shape: call.fact(0).shape }],
    reference: (call) => [encode(call.tensor(0), categoriesOf(call.attrs, call.tensor(0).dtype))],
  }),
];
