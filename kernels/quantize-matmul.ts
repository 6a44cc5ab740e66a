/** Matrix products of quantised values. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, float, type InferCall, int, type Op } from './define.ts';
import { productOf } from './matmul.ts';
import { gemmShape, matmulShape } from './matmul-shape.ts';
import { dynamicRange, saturated, single } from './quantize-round.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

type Shape = readonly number[];
const BYTE: readonly DType[] = ['int8', 'uint8'];
const FLOAT8: readonly DType[] = ['float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz'];

/**
 * A scale or zero point as it broadcasts over its operand: a vector is per row of `a` and per column of `b`, anything
 * else as it stands. @throws shape_mismatch
 */
function spread(shape: Shape, operand: Shape, side: 'a' | 'b', what: string): Shape {
  if (sizeOf(shape) === 1) return [];
  const s = shape.length === 1 && side === 'a' && operand.length > 1 ? [...shape, 1] : shape;
  if (String(broadcast(s, operand)) !== String(operand))
    fail('shape_mismatch', `${what} of shape [${shape}] does not fit an operand of shape [${operand}]`);
  return s;
}
/** f(value, entry of `by`) of every element. */
function combine(
  v: Float64Array,
  shape: Shape,
  by: Tensor | null,
  side: 'a' | 'b',
  f: (v: number, by: number) => number,
): Float64Array {
  if (by === null) return v;
  const b = numbers(by);
  const s = spread(by.shape, shape, side, 'an operand');
  if (s.length === 0) {
    const one = b[0]!;
    for (let i = 0; i < v.length; i++) v[i] = f(v[i]!, one);
  } else
    eachOffset(shape, broadcastStrides(s, shape), (i, at) => {
      v[i] = f(v[i]!, b[at]!);
    });
  return v;
}
const minus = (v: number, z: number): number => v - z;
const times = (v: number, s: number): number => v * s;
const centred = (t: Tensor, zero: Tensor | null, side: 'a' | 'b'): Float64Array =>
  combine(new Float64Array(numbers(t)), t.shape, zero, side, minus);

/** Checks the parameters of both operands; entries are [input, side, name], absent inputs being fine. */
function check(
  call: InferCall,
  a: Shape,
  b: Shape,
  parameters: readonly (readonly [number, 'a' | 'b', string])[],
): void {
  for (const [i, side, what] of parameters)
    if (call.inputs[i]) spread(call.inputs[i].shape, side === 'a' ? a : b, side, what);
}

const matMulInteger = defineOp({
  op: 'MatMulInteger',
  since: [10],
  inputs: ['A: T1', 'B: T2', 'a_zero_point: T1?', 'b_zero_point: T2?'],
  outputs: ['Y: int32'],
  types: { T1: BYTE, T2: BYTE },
  attrs: {},
  infer: (call) => {
    const a = call.fact(0).shape;
    const b = call.fact(1).shape;
    check(call, a, b, [
      [2, 'a', 'a_zero_point'],
      [3, 'b', 'b_zero_point'],
    ]);
    return [{ dtype: 'int32', shape: matmulShape(a, b).shape }];
  },
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const s = matmulShape(a.shape, b.shape);
    return [
      fromNumbers('int32', s.shape, productOf(s, centred(a, call.optional(2), 'a'), centred(b, call.optional(3), 'b'))),
    ];
  },
});

const qlinearMatMul = defineOp({
  op: 'QLinearMatMul',
  since: [10, 21],
  inputs: [
    'a: T1',
    'a_scale: TS',
    'a_zero_point: T1',
    'b: T2',
    'b_scale: TS',
    'b_zero_point: T2',
    'y_scale: TS',
    'y_zero_point: T3',
  ],
  outputs: ['y: T3'],
  types: {
    T1: [...BYTE, ...FLOAT8],
    T2: [...BYTE, ...FLOAT8],
    T3: [...BYTE, ...FLOAT8],
    TS: ['float32', 'float16', 'bfloat16'],
  },
  attrs: {},
  infer: (call) => {
    const a = call.fact(0).shape;
    const b = call.fact(3).shape;
    const { shape } = matmulShape(a, b);
    check(call, a, b, [
      [1, 'a', 'a_scale'],
      [2, 'a', 'a_zero_point'],
      [4, 'b', 'b_scale'],
      [5, 'b', 'b_zero_point'],
    ]);
    spread(call.fact(6).shape, shape, 'a', 'y_scale');
    spread(call.fact(7).shape, shape, 'a', 'y_zero_point');
    return [{ dtype: call.fact(7).dtype, shape }];
  },
  reference: (call) => {
    const [a, as, az, b, bs, bz, ys, yz] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.tensor(i)) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const s = matmulShape(a.shape, b.shape);
    const x = centred(a, az, 'a');
    const y = centred(b, bz, 'b');
    const uniform = [as, bs, ys].every((t) => sizeOf(t.shape) === 1);
    if (!uniform) {
      combine(x, a.shape, as, 'a', times);
      combine(y, b.shape, bs, 'b', times);
    }
    const out = productOf(s, x, y);
    if (uniform) {
      const scale = (numbers(as)[0]! * numbers(bs)[0]!) / numbers(ys)[0]!;
      for (let i = 0; i < out.length; i++) out[i]! *= scale;
    } else combine(out, s.shape, ys, 'a', (v, by) => v / by);
    if (sizeOf(yz.shape) === 1 && !FLOAT8.includes(yz.dtype))
      return [saturated(yz.dtype, s.shape, out, numbers(yz)[0]!)];
    return [quantised(out, s.shape, yz)];
  },
});

/** Rounded (integers only), moved by a zero point of any shape, saturated. */
function quantised(v: Float64Array, shape: Shape, zero: Tensor): Tensor {
  if (FLOAT8.includes(zero.dtype))
    return fromNumbers(
      zero.dtype,
      shape,
      combine(v, shape, zero, 'a', (x, z) => x + z),
    );
  const moved = new Float64Array(numbers(saturated('int32', shape, v, 0)));
  return saturated(
    zero.dtype,
    shape,
    combine(moved, shape, zero, 'a', (x, z) => x + z),
    0,
  );
}

/** Y += bias, one per column. */
function addColumns(y: Float64Array, bias: Tensor | null): Float64Array {
  if (bias === null) return y;
  const b = numbers(bias);
  for (let i = 0; i < y.length; i++) y[i]! += b[i % b.length]!;
  return y;
}
function checkBias(call: InferCall, i: number, b: Shape): void {
  const bias = call.inputs[i];
  const n = b[b.length - 1]!;
  if (bias && String(bias.shape) !== String([n]))
    fail('shape_mismatch', `the bias has shape [${bias.shape}], not [${n}]`);
}

const dynamicQuantizeMatMul = defineOp({
  op: 'com.microsoft.DynamicQuantizeMatMul',
  since: [1],
  inputs: ['A: T1', 'B: T2', 'b_scale: T1', 'b_zero_point: T2?', 'bias: T1?'],
  outputs: ['Y: T1'],
  types: { T1: ['float32'], T2: BYTE },
  attrs: {},
  infer: (call) => {
    const a = call.fact(0);
    const b = call.fact(1).shape;
    check(call, a.shape, b, [
      [2, 'b', 'b_scale'],
      [3, 'b', 'b_zero_point'],
    ]);
    checkBias(call, 4, b);
    return [{ dtype: a.dtype, shape: matmulShape(a.shape, b).shape }];
  },
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const s = matmulShape(a.shape, b.shape);
    const from = numbers(a);
    const { scale, zero } = dynamicRange(from);
    const bytes = numbers(
      saturated(
        'uint8',
        a.shape,
        Float64Array.from(from as Float32Array, (v) => Math.fround(v / scale)),
        zero,
      ),
    );
    const x = new Float64Array(bytes);
    for (let i = 0; i < x.length; i++) x[i] = (x[i]! - zero) * scale;
    return [
      fromNumbers(
        'float32',
        s.shape,
        addColumns(
          productOf(s, x, combine(centred(b, call.optional(3), 'b'), b.shape, call.tensor(2), 'b', times)),
          call.optional(4),
        ),
      ),
    ];
  },
});

const matMulIntegerToFloat = defineOp({
  op: 'com.microsoft.MatMulIntegerToFloat',
  since: [1],
  inputs: ['A: T1', 'B: T2', 'a_scale: T3', 'b_scale: T3', 'a_zero_point: T1?', 'b_zero_point: T2?', 'bias: T3?'],
  outputs: ['Y: T3'],
  types: { T1: BYTE, T2: BYTE, T3: ['float32', 'float16'] },
  attrs: {},
  infer: (call) => {
    const a = call.fact(0).shape;
    const b = call.fact(1).shape;
    check(call, a, b, [
      [2, 'a', 'a_scale'],
      [3, 'b', 'b_scale'],
      [4, 'a', 'a_zero_point'],
      [5, 'b', 'b_zero_point'],
    ]);
    checkBias(call, 6, b);
    return [{ dtype: call.fact(2).dtype, shape: matmulShape(a, b).shape }];
  },
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(1);
    const s = matmulShape(a.shape, b.shape);
    const x = combine(centred(a, call.optional(4), 'a'), a.shape, call.tensor(2), 'a', times);
    const y = combine(centred(b, call.optional(5), 'b'), b.shape, call.tensor(3), 'b', times);
    return [fromNumbers(call.tensor(2).dtype, s.shape, addColumns(productOf(s, x, y), call.optional(6)))];
  },
});

/**
 * alpha * A' B' + C, C being quantised with alpha * a_scale * b_scale; real numbers come out where there is no
 * y_zero_point.
 */
const qgemm = defineOp({
  op: 'com.microsoft.QGemm',
  since: [1],
  inputs: [
    'A: TA',
    'a_scale: T',
    'a_zero_point: TA',
    'B: TB',
    'b_scale: T',
    'b_zero_point: TB',
    'C: int32?',
    'y_scale: T?',
    'y_zero_point: TYZ?',
  ],
  outputs: ['Y: TY'],
  types: { T: ['float32'], TA: BYTE, TB: BYTE, TYZ: BYTE, TY: ['float32', ...BYTE] },
  attrs: { alpha: float(1), transA: int(0), transB: int(0) },
  infer: (call) => {
    const { shape } = gemmShape(call.fact(0).shape, call.fact(3).shape, call.inputs[6]?.shape ?? null, call.attrs);
    const n = shape[1]!;
    single(call.fact(1).shape, 'a_scale');
    single(call.fact(2).shape, 'a_zero_point');
    for (const [i, what] of [
      [4, 'b_scale'],
      [5, 'b_zero_point'],
    ] as const)
      if (sizeOf(call.fact(i).shape) !== 1 && String(call.fact(i).shape) !== String([n]))
        fail('shape_mismatch', `${what} has shape [${call.fact(i).shape}]; it must be a single number or [${n}]`);
    for (const [i, what] of [
      [7, 'y_scale'],
      [8, 'y_zero_point'],
    ] as const)
      if (call.inputs[i]) single(call.inputs[i].shape, what);
    if (call.inputs[8] && !call.inputs[7]) fail('input_missing', 'y_zero_point is given without y_scale');
    return [{ dtype: call.inputs[8]?.dtype ?? 'float32', shape }];
  },
  reference: (call) => {
    const a = call.tensor(0);
    const b = call.tensor(3);
    const bs = numbers(call.tensor(4));
    const bz = numbers(call.tensor(5));
    const c = call.optional(6);
    const ys = call.optional(7);
    const yz = call.optional(8);
    const s = gemmShape(a.shape, b.shape, c?.shape ?? null, call.attrs);
    const y = new Float64Array(numbers(b));
    const [rows, columns] = b.shape as [number, number];
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++) y[i * columns + j]! -= bz[bz.length === 1 ? 0 : call.attrs.transB ? i : j]!;
    const out = productOf(s, centred(a, call.tensor(2), 'a'), y);
    if (c !== null) {
      const from = numbers(c);
      eachOffset(s.shape, broadcastStrides(c.shape, s.shape), (i, at) => {
        out[i]! += from[at]!;
      });
    }
    const scale = call.attrs.alpha * numbers(call.tensor(1))[0]!;
    for (let i = 0; i < out.length; i++) out[i]! *= scale * bs[bs.length === 1 ? 0 : i % s.n]!;
    if (yz === null) return [fromNumbers('float32', s.shape, out)];
    const step = numbers(ys!)[0]!;
    for (let i = 0; i < out.length; i++) out[i]! /= step;
    return [saturated(yz.dtype, s.shape, out, numbers(yz)[0]!)];
  },
});

/** https://onnx.ai/onnx/operators/onnx__MatMulInteger.html, https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html */
export const quantizedMatmul: readonly Op[] = [
  matMulInteger,
  qlinearMatMul,
  dynamicQuantizeMatMul,
  matMulIntegerToFloat,
  qgemm,
];
