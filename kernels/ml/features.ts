import { type DType, isFloat } from '../../src/core/dtype.ts';
import { fail } from '../../src/core/errors.ts';
import { fromNumbers, numbers, writer } from '../../src/core/numbers.ts';
import { type Dictionary, isTensor, sizeOf, type Tensor, type Value, zeros } from '../../src/core/tensor.ts';
import { defineOp, float, floats, int, ints, type Op, type OutFact, string, strings } from '../define.ts';
import { cellsOf, copyRun, fromCells, newCells, sized } from '../elements.ts';
import { indicesOf } from '../gather.ts';
import { infers, type Given } from '../given.ts';
import { FEATURE, rowsOf } from './scores.ts';

/** An attribute with one value for each feature, or one for all. @throws attribute_invalid */
function perFeature(
  values: readonly number[] | undefined,
  features: number,
  name: string,
  fallback: number,
): (i: number) => number {
  if (!values || values.length === 0) return () => fallback;
  if (values.length !== 1 && values.length !== features)
    fail('attribute_invalid', `${name} has ${values.length} values for ${features} features`);
  return values.length === 1 ? () => values[0]! : (i) => values[i % features]!;
}
const lastOf = (shape: readonly number[]): number => shape.at(-1) ?? 1;

interface ImputerAttrs {
  readonly imputed_value_floats: readonly number[] | undefined;
  readonly imputed_value_int64s: readonly number[] | undefined;
  readonly replaced_value_float: number;
  readonly replaced_value_int64: number;
}
function imputing(attrs: ImputerAttrs, dtype: DType, features: number): { from: number; to: (i: number) => number } {
  const values = isFloat(dtype) ? attrs.imputed_value_floats : attrs.imputed_value_int64s;
  if (!values || values.length === 0)
    fail(
      'attribute_invalid',
      `an Imputer of ${dtype} needs ${isFloat(dtype) ? 'imputed_value_floats' : 'imputed_value_int64s'}`,
    );
  return {
    from: isFloat(dtype) ? attrs.replaced_value_float : attrs.replaced_value_int64,
    to: perFeature(values, features, 'the imputed value', 0),
  };
}

const NORMS: Readonly<Record<string, (row: Float64Array) => number>> = {
  MAX: (row) => row.reduce((a, b) => Math.max(a, b), -Infinity),
  L1: (row) => row.reduce((a, b) => a + Math.abs(b), 0),
  L2: (row) => Math.sqrt(row.reduce((a, b) => a + b * b, 0)),
};
const normOf = (name: string): ((row: Float64Array) => number) =>
  Object.hasOwn(NORMS, name)
    ? NORMS[name]!
    : fail('attribute_invalid', `norm ${JSON.stringify(name)} must be MAX, L1 or L2`);

function extractedShape(g: Given): OutFact[] {
  const from = g.shape(0);
  if (from.length === 0 || sizeOf(g.shape(1)) === 0)
    fail('shape_mismatch', `nothing can be extracted from [${from}] at [${g.shape(1)}]`);
  return [sized(g.dtype(0), [...(from.length === 1 ? [1] : from.slice(0, -1)), sizeOf(g.shape(1))])];
}

interface OneHotAttrs {
  readonly cats_int64s: readonly number[] | undefined;
  readonly cats_strings: readonly string[] | undefined;
  readonly zeros: number;
}
function categories(attrs: OneHotAttrs, dtype: DType): readonly (number | string)[] {
  const list = dtype === 'string' ? attrs.cats_strings : attrs.cats_int64s;
  return list && list.length > 0
    ? list
    : fail(
        'attribute_invalid',
        `a OneHotEncoder of ${dtype} needs ${dtype === 'string' ? 'cats_strings' : 'cats_int64s'}`,
      );
}

function vectorizedWidth(
  shapes: readonly (readonly number[])[],
  dims: readonly number[] | undefined,
): [rows: number, width: number] {
  const parts = shapes.map((shape) => rowsOf({ shape }));
  const rows = parts[0]![0];
  parts.forEach(([r, width], i) => {
    if (r !== rows || (dims && dims[i] !== width))
      fail('shape_mismatch', `input ${i} [${shapes[i]}] is not [${rows}, ${dims?.[i] ?? width}]`);
  });
  return [rows, parts.reduce((n, [, width]) => n + width, 0)];
}

interface VectorizerAttrs {
  readonly int64_vocabulary: readonly number[] | undefined;
  readonly string_vocabulary: readonly string[] | undefined;
}
function dictVector(attrs: VectorizerAttrs, x: Value | null | undefined): Tensor {
  if (!x || isTensor(x) || x.kind !== 'map') return fail('type_mismatch', 'DictVectorizer takes a map');
  const strings = attrs.string_vocabulary ?? [];
  const words: readonly (string | bigint)[] = strings.length > 0 ? strings : (attrs.int64_vocabulary ?? []).map(BigInt);
  const places = new Map(words.map((w, i) => [w, i]));
  const from = cellsOf(x.values);
  const to = newCells(x.values.dtype, words.length);
  x.keys.forEach((key, i) =>
    copyRun(
      from,
      i,
      to,
      places.get(key) ?? fail('value_invalid', `key ${JSON.stringify(String(key))} is not in the vocabulary`),
      1,
    ),
  );
  return fromCells(x.values.dtype, [1, words.length], to);
}

/**
 * The operators of ai.onnx.ml that rearrange or rescale features: https://onnx.ai/onnx/operators/index.html#ai-onnx-ml
 */
export const features: readonly Op[] = [
  defineOp({
    op: 'ai.onnx.ml.ArrayFeatureExtractor',
    since: [1],
    inputs: ['X: T', 'Y: int64'],
    outputs: ['Z: T'],
    types: { T: [...FEATURE, 'string'] },
    attrs: {},
    infer: infers(extractedShape),
    reference: (call) => {
      const t = call.tensor(0);
      const width = lastOf(t.shape);
      const at = indicesOf(call.tensor(1), width);
      const rows = width === 0 ? 0 : sizeOf(t.shape) / width;
      const from = cellsOf(t);
      const to = newCells(t.dtype, rows * at.length);
      for (let r = 0; r < rows; r++)
        for (let k = 0; k < at.length; k++) copyRun(from, r * width + at[k]!, to, r * at.length + k, 1);
      return [fromCells(t.dtype, [...(t.shape.length === 1 ? [1] : t.shape.slice(0, -1)), at.length], to)];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.Binarizer',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: T'],
    types: { T: FEATURE },
    attrs: { threshold: float(0) },
    infer: (call) => [{ dtype: call.fact(0).dtype, shape: call.fact(0).shape }],
    reference: (call) => {
      const t = call.tensor(0);
      return [
        fromNumbers(
          t.dtype,
          t.shape,
          Float64Array.from(numbers(t), (v) => Number(v > call.attrs.threshold)),
        ),
      ];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.Scaler',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: FEATURE },
    attrs: { offset: floats(), scale: floats() },
    infer: (call) => {
      const { shape } = call.fact(0);
      perFeature(call.attrs.offset, lastOf(shape), 'offset', 0);
      perFeature(call.attrs.scale, lastOf(shape), 'scale', 1);
      return [{ dtype: 'float32', shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const offset = perFeature(call.attrs.offset, lastOf(t.shape), 'offset', 0);
      const scale = perFeature(call.attrs.scale, lastOf(t.shape), 'scale', 1);
      return [
        fromNumbers(
          'float32',
          t.shape,
          Float64Array.from(numbers(t), (v, i) => (v - offset(i)) * scale(i)),
        ),
      ];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.Normalizer',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: FEATURE },
    attrs: { norm: string('MAX') },
    infer: (call) => {
      normOf(call.attrs.norm);
      rowsOf(call.fact(0));
      return [{ dtype: 'float32', shape: call.fact(0).shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const norm = normOf(call.attrs.norm);
      const [rows, width] = rowsOf(t);
      const out = Float64Array.from(numbers(t));
      for (let r = 0; r < (width === 0 ? 0 : rows); r++) {
        const row = out.subarray(r * width, (r + 1) * width);
        const by = norm(row);
        if (by !== 0)
          row.forEach((v, i) => {
            row[i] = v / by;
          });
      }
      return [fromNumbers('float32', t.shape, out)];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.Imputer',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: T'],
    types: { T: FEATURE },
    attrs: {
      imputed_value_floats: floats(),
      imputed_value_int64s: ints(),
      replaced_value_float: float(0),
      replaced_value_int64: int(0),
    },
    infer: (call) => {
      const { dtype, shape } = call.fact(0);
      imputing(call.attrs, dtype, lastOf(shape));
      return [{ dtype, shape }];
    },
    reference: (call) => {
      const t = call.tensor(0);
      const { from, to } = imputing(call.attrs, t.dtype, lastOf(t.shape));
      const values = numbers(t);
      const out = { ...t, data: t.data.slice() } as Tensor;
      const write = writer(out);
      for (let i = 0; i < values.length; i++)
        if (values[i] === from || (from !== from && values[i] !== values[i])) write(i, to(i));
      return [out];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.OneHotEncoder',
    since: [1],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: [...FEATURE, 'string'] },
    attrs: { cats_int64s: ints(), cats_strings: strings(), zeros: int(1) },
    infer: (call) => [sized('float32', [...call.fact(0).shape, categories(call.attrs, call.fact(0).dtype).length])],
    reference: (call) => {
      const t = call.tensor(0);
      const list = categories(call.attrs, t.dtype);
      const places = new Map(list.map((c, i) => [c, i]));
      const items: readonly (string | number)[] =
        t.dtype === 'string' ? (t.data as string[]) : Array.from(numbers(t), Math.trunc);
      const out = zeros('float32', [...t.shape, list.length]);
      items.forEach((v, i) => {
        const at = places.get(v);
        if (at !== undefined) out.data[i * list.length + at] = 1;
        else if (!call.attrs.zeros) fail('value_invalid', `${JSON.stringify(v)} is no category`);
      });
      return [out];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.FeatureVectorizer',
    since: [1],
    inputs: ['X: any*'],
    outputs: ['Y: float32'],
    types: {},
    attrs: { inputdimensions: ints() },
    infer: (call) => {
      call.inputs.forEach((_, i) => {
        if (!FEATURE.includes(call.fact(i).dtype)) fail('type_mismatch', `input ${i} is ${call.fact(i).dtype}`);
      });
      return [
        sized(
          'float32',
          vectorizedWidth(
            call.inputs.map((_, i) => call.fact(i).shape),
            call.attrs.inputdimensions,
          ),
        ),
      ];
    },
    reference: (call) => {
      const parts = call.inputs.map((_, i) => call.tensor(i));
      const [rows, width] = vectorizedWidth(
        parts.map((t) => t.shape),
        call.attrs.inputdimensions,
      );
      const out = zeros('float32', [rows, width]);
      let start = 0;
      for (const t of parts) {
        const values = numbers(t);
        const columns = lastOf(t.shape);
        for (let i = 0; i < values.length; i++)
          out.data[Math.floor(i / columns) * width + start + (i % columns)] = values[i]!;
        start += columns;
      }
      return [out];
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.DictVectorizer',
    since: [1],
    inputs: ['X: any'],
    outputs: ['Y: any'],
    types: {},
    dynamic: true,
    attrs: { int64_vocabulary: ints(), string_vocabulary: strings() },
    reference: (call) => [dictVector(call.attrs, call.inputs[0])],
  }),
  defineOp({
    op: 'ai.onnx.ml.ZipMap',
    since: [1],
    inputs: ['X: float32'],
    outputs: ['Z: any'],
    types: {},
    dynamic: true,
    attrs: { classlabels_int64s: ints(), classlabels_strings: strings() },
    reference: (call) => {
      const t = call.tensor(0);
      const [rows, width] = rowsOf(t);
      const strings = call.attrs.classlabels_strings ?? [];
      const keys: readonly (string | bigint)[] =
        strings.length > 0 ? strings : (call.attrs.classlabels_int64s ?? []).map(BigInt);
      if (keys.length !== width) fail('shape_mismatch', `${keys.length} keys for ${width} columns`);
      const data = t.data as Float32Array;
      const row = (r: number): Dictionary => ({
        kind: 'map',
        keys,
        values: { dtype: 'float32', shape: [width], data: data.slice(r * width, (r + 1) * width) },
      });
      return [{ kind: 'sequence', items: Array.from({ length: rows }, (_, r) => row(r)) }];
    },
  }),
];
