import { type DType, DTYPE_OF_ONNX } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { bfloatBits, bfloatValue, halfBits, halfValue, MINIFLOAT, minifloatBits } from '../src/core/floats.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../src/core/tensor.ts';
import { defineOp, int, type Op } from './define.ts';
import { quantizedElementwise } from './quantize-elementwise.ts';
import { quantizedMatmul } from './quantize-matmul.ts';
import { quantizedBits } from './quantize-nbits.ts';
import { dynamicRange, RANGE, roundEven } from './quantize-round.ts';
import { axisOf } from './shapes.ts';

const QUANTIZED: readonly DType[] = [
  'uint8',
  'int8',
  'uint16',
  'int16',
  'uint4',
  'int4',
  'uint2',
  'int2',
  'float8e4m3fn',
  'float8e4m3fnuz',
  'float8e5m2',
  'float8e5m2fnuz',
  'float4e2m1',
];
const REAL: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const SCALE: readonly DType[] = [...REAL, 'float8e8m0', 'int32'];

/**
 * Which scale belongs to which element. The tensor is [outer, n, inner] around the quantised axis; element (o, i, k)
 * has the scale 0 for `per` tensor, i for axis, and (o * blocks + floor(i / size)) * inner + k for block.
 */
export interface Granularity {
  readonly per: 'tensor' | 'axis' | 'block';
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
  readonly size: number;
  readonly blocks: number;
}

/** @throws attribute_invalid, shape_mismatch */
export function granularity(
  x: readonly number[],
  scale: readonly number[],
  zero: readonly number[] | null,
  attrs: { readonly axis: number; readonly block_size: number },
): Granularity {
  if (zero !== null && sizeOf(zero) !== sizeOf(scale))
    fail('shape_mismatch', `the zero point has shape [${zero}] and the scale [${scale}]`);
  if (attrs.block_size < 0) fail('attribute_invalid', `block_size ${attrs.block_size} must not be negative`);
  const all = sizeOf(x);
  const blocked = attrs.block_size > 0;
  if (!blocked && sizeOf(scale) === 1) return { per: 'tensor', outer: 1, n: all, inner: 1, size: all, blocks: 1 };
  const axis = axisOf(attrs.axis, x.length);
  const n = x[axis]!;
  const outer = sizeOf(x.slice(0, axis));
  const inner = sizeOf(x.slice(axis + 1));
  if (!blocked) {
    if (scale.length !== 1 || scale[0] !== n)
      fail('shape_mismatch', `a scale of shape [${scale}] does not fit axis ${axis} of [${x}]`);
    return { per: 'axis', outer, n, inner, size: 1, blocks: n };
  }
  const blocks = Math.ceil(n / attrs.block_size);
  const need = x.map((d, i) => (i === axis ? blocks : d));
  if (String(scale) !== String(need))
    fail(
      'shape_mismatch',
      `a scale of shape [${scale}] does not fit blocks of ${attrs.block_size} along axis ${axis} of [${x}]; it must be [${need}]`,
    );
  return { per: 'block', outer, n, inner, size: attrs.block_size, blocks };
}

/**
 * Calls `run(start, count, scale)` for each run of adjacent elements that walk through `step` scales: 0 where all share
 * one.
 */
function eachRun(g: Granularity, run: (start: number, count: number, scale: number, step: number) => void): void {
  if (g.per === 'tensor') return run(0, g.n, 0, 0);
  for (let o = 0; o < g.outer; o++)
    for (let i = 0; i < g.n; i++) {
      const start = (o * g.n + i) * g.inner;
      if (g.per === 'axis') run(start, g.inner, i, 0);
      else run(start, g.inner, (o * g.blocks + Math.floor(i / g.size)) * g.inner, 1);
    }
}

/** Rounds to what the type can hold; identity for the types that hold doubles or are not floats. */
const ROUND: Readonly<Partial<Record<DType, (v: number) => number>>> = {
  float32: Math.fround,
  float16: (v) => halfValue(halfBits(v)),
  bfloat16: (v) => bfloatValue(bfloatBits(v)),
};

function dtypeOf(code: number, allowed: readonly DType[], what: string): DType {
  const dtype = DTYPE_OF_ONNX[code];
  if (dtype === undefined || !allowed.includes(dtype))
    fail('attribute_invalid', `${what} ${code}${dtype ? ` (${dtype})` : ''} must be one of ${allowed.join(', ')}`);
  return dtype;
}

const quantizeAttrs = { axis: int(1), block_size: int(0), output_dtype: int(0), precision: int(0), saturate: int(1) };
/** The type that QuantizeLinear makes: its zero point's, else `output_dtype`, else uint8. @throws attribute_invalid */
export function quantizedType(zero: DType | null, output_dtype: number): DType {
  const asked = output_dtype === 0 ? null : dtypeOf(output_dtype, QUANTIZED, 'output_dtype');
  if (asked !== null && zero !== null && asked !== zero)
    fail('attribute_invalid', `output_dtype ${asked} is not the zero point's type ${zero}`);
  return zero ?? asked ?? 'uint8';
}

const quantize = (op: string, since: readonly number[]): Op =>
  defineOp({
    op,
    since,
    inputs: ['x: T1', 'y_scale: T2', 'y_zero_point: T3?'],
    outputs: ['y: T3'],
    types: { T1: [...REAL, 'float64', 'int32'], T2: SCALE, T3: QUANTIZED },
    attrs: quantizeAttrs,
    infer: (call) => {
      const x = call.fact(0);
      const zero = call.inputs[2] ?? null;
      if (call.attrs.precision !== 0) dtypeOf(call.attrs.precision, [...REAL, 'float64'], 'precision');
      granularity(x.shape, call.fact(1).shape, zero?.shape ?? null, call.attrs);
      return [{ dtype: quantizedType(zero?.dtype ?? null, call.attrs.output_dtype), shape: x.shape }];
    },
    reference: (call) => {
      const xt = call.tensor(0);
      const st = call.tensor(1);
      const zt = call.optional(2);
      const dtype = quantizedType(zt?.dtype ?? null, call.attrs.output_dtype);
      const divided = call.attrs.precision === 0 ? st.dtype : DTYPE_OF_ONNX[call.attrs.precision]!;
      const round = ROUND[divided] ?? (divided === 'int32' ? Math.trunc : (v: number) => v);
      const x = numbers(xt);
      const scale = numbers(st);
      const zero = zt === null ? null : numbers(zt);
      const y = new Float64Array(x.length);
      const range = RANGE[dtype];
      eachRun(granularity(xt.shape, st.shape, zt?.shape ?? null, call.attrs), (start, count, at, step) => {
        for (let i = 0; i < count; i++) {
          const s = at + i * step;
          const z = zero === null ? 0 : zero[s]!;
          const v = round(x[start + i]! / scale[s]!);
          y[start + i] = range === undefined ? v + z : Math.min(range[1], Math.max(range[0], roundEven(v) + z));
        }
      });
      const mini = MINIFLOAT[dtype];
      if (call.attrs.saturate !== 0 || mini === undefined || dtype === 'float4e2m1')
        return [fromNumbers(dtype, xt.shape, y)];
      const out: Tensor = zeros(dtype, xt.shape);
      for (let i = 0; i < y.length; i++) (out.data as Uint8Array)[i] = minifloatBits(mini, y[i]!, false);
      return [out];
    },
  });

const dequantize = (op: string, since: readonly number[]): Op => {
  const outputType = (scale: DType, output_dtype: number): DType => {
    if (output_dtype !== 0) return dtypeOf(output_dtype, REAL, 'output_dtype');
    if (!REAL.includes(scale)) fail('attribute_invalid', `a scale of type ${scale} needs an output_dtype`);
    return scale;
  };
  return defineOp({
    op,
    since,
    inputs: ['x: T1', 'x_scale: T2', 'x_zero_point: T1?'],
    outputs: ['y: T3'],
    types: { T1: [...QUANTIZED, 'int32'], T2: [...REAL, 'float8e8m0'], T3: REAL },
    attrs: { axis: int(1), block_size: int(0), output_dtype: int(0) },
    infer: (call) => {
      const x = call.fact(0);
      granularity(x.shape, call.fact(1).shape, call.inputs[2]?.shape ?? null, call.attrs);
      return [{ dtype: outputType(call.fact(1).dtype, call.attrs.output_dtype), shape: x.shape }];
    },
    reference: (call) => {
      const xt = call.tensor(0);
      const st = call.tensor(1);
      const zt = call.optional(2);
      const x = numbers(xt);
      const scale = numbers(st);
      const zero = zt === null ? null : numbers(zt);
      const y = new Float64Array(x.length);
      eachRun(granularity(xt.shape, st.shape, zt?.shape ?? null, call.attrs), (start, count, at, step) => {
        for (let i = 0; i < count; i++) {
          const s = at + i * step;
          y[start + i] = (x[start + i]! - (zero === null ? 0 : zero[s]!)) * scale[s]!;
        }
      });
      return [fromNumbers(outputType(st.dtype, call.attrs.output_dtype), xt.shape, y)];
    },
  });
};

const dynamicQuantize = defineOp({
  op: 'DynamicQuantizeLinear',
  since: [11],
  inputs: ['x: float32'],
  outputs: ['y: uint8', 'y_scale: float32', 'y_zero_point: uint8'],
  types: {},
  attrs: {},
  infer: (call) => [
    { dtype: 'uint8', shape: call.fact(0).shape },
    { dtype: 'float32', shape: [] },
    { dtype: 'uint8', shape: [] },
  ],
  reference: (call) => {
    const t = call.tensor(0);
    const x = numbers(t);
    const { scale, zero } = dynamicRange(x);
    const y = new Float64Array(x.length);
    for (let i = 0; i < y.length; i++) y[i] = Math.min(255, Math.max(0, roundEven(Math.fround(x[i]! / scale)) + zero));
    return [fromNumbers('uint8', t.shape, y), fromNumbers('float32', [], [scale]), fromNumbers('uint8', [], [zero])];
  },
});

/**
 * https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html and its siblings; com.microsoft's: ContribOperators.md of
 * onnxruntime.
 */
export const quantization: readonly Op[] = [
  quantize('QuantizeLinear', [10, 13, 19, 21, 23, 24, 25]),
  quantize('com.microsoft.QuantizeLinear', [1]),
  dequantize('DequantizeLinear', [10, 13, 19, 21, 23, 24, 25]),
  dequantize('com.microsoft.DequantizeLinear', [1]),
  dynamicQuantize,
  ...quantizedMatmul,
  ...quantizedBits,
  ...quantizedElementwise,
];
