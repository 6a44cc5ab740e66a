/** com.microsoft's operators that take and give quantised values: each widens its inputs, computes, and rounds. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { numbers } from '../src/core/numbers.ts';
import { sizeOf, stridesOf, type Tensor } from '../src/core/tensor.ts';
import {
  defineOp,
  float,
  type InferCall,
  int,
  ints,
  type Op,
  type OutFact,
  type RefCall,
  required,
  string,
} from './define.ts';
import { constant, type Ex, kindOf, x } from './expr.ts';
import { toChannelsFirst, toChannelsLast } from './conv-direct.ts';
import { averaged, poolShape } from './pool.ts';
import { RANGE, saturated, single } from './quantize-round.ts';
import { axesOf, axisOf, broadcast, broadcastStrides, eachOffset } from './shapes.ts';
import { rowsOf } from './softmax.ts';

const BYTE: readonly DType[] = ['uint8', 'int8'];
type Shape = readonly number[];

/** The real numbers that a tensor with one scale and one zero point stands for. */
function widened(t: Tensor, scale: Tensor, zero: Tensor | null): Float64Array {
  const s = numbers(scale)[0]!;
  const z = zero === null ? 0 : numbers(zero)[0]!;
  return new Float64Array(numbers(t)).map((v) => (v - z) * s);
}
/** The reverse. */
function narrowed(dtype: DType, shape: Shape, v: Float64Array, scale: Tensor, zero: Tensor | null): Tensor {
  const s = numbers(scale)[0]!;
  return saturated(
    dtype,
    shape,
    v.map((x) => x / s),
    zero === null ? 0 : numbers(zero)[0]!,
  );
}
/** The same as expressions. */
const wide = (v: Ex, scale: Ex, zero: Ex | undefined): Ex =>
  x.mul(zero === undefined ? x.cast(v, 'f32') : x.sub(x.cast(v, 'f32'), x.cast(zero, 'f32')), scale);
function narrow(v: Ex, scale: Ex, zero: Ex | undefined, dtype: DType): Ex {
  const [low, high] = RANGE[dtype]!.map((n) => constant(n, 'f32')) as [Ex, Ex];
  const whole = x.round(x.div(v, scale));
  const moved = zero === undefined ? whole : x.add(whole, x.cast(zero, 'f32'));
  const up = x.select(x.lt(moved, low), low, moved);
  return x.cast(x.select(x.lt(high, up), high, up), kindOf(dtype)!);
}
type MapOf = NonNullable<Op['map']>;
const unaryMap =
  (f: (v: Ex, attrs: { readonly alpha: number }) => Ex): MapOf =>
  ([v, s, z, ys, yz], attrs, dtype) =>
    narrow(f(wide(v!, s!, z), attrs as never), ys!, yz, dtype);

const checkSingle = (call: InferCall, from: number): void => {
  call.inputs.forEach((f, i) => {
    if (i >= from && f) single(f.shape, `input ${i}`);
  });
};

const binary = (op: 'QLinearAdd' | 'QLinearMul', f: (a: number, b: number) => number, g: (a: Ex, b: Ex) => Ex): Op =>
  defineOp({
    map: ([a, as, az, b, bs, bz, cs, cz], _, dtype) => narrow(g(wide(a!, as!, az), wide(b!, bs!, bz)), cs!, cz, dtype),
    op: `com.microsoft.${op}`,
    since: [1],
    inputs: [
      'A: T',
      'A_scale: float32',
      'A_zero_point: T?',
      'B: T',
      'B_scale: float32',
      'B_zero_point: T?',
      'C_scale: float32',
      'C_zero_point: T?',
    ],
    outputs: ['C: T'],
    types: { T: BYTE },
    attrs: {},
    infer: (call) => {
      for (const i of [1, 2, 4, 5, 6, 7]) if (call.inputs[i]) single(call.inputs[i].shape, `input ${i}`);
      return [{ dtype: call.fact(0).dtype, shape: broadcast(call.fact(0).shape, call.fact(3).shape) }];
    },
    reference: (call) => {
      const at = call.tensor(0);
      const bt = call.tensor(3);
      const shape = broadcast(at.shape, bt.shape);
      const a = widened(at, call.tensor(1), call.optional(2));
      const b = widened(bt, call.tensor(4), call.optional(5));
      const y = new Float64Array(sizeOf(shape));
      eachOffset(shape, broadcastStrides(at.shape, shape), (i, from) => {
        y[i] = a[from]!;
      });
      eachOffset(shape, broadcastStrides(bt.shape, shape), (i, from) => {
        y[i] = f(y[i]!, b[from]!);
      });
      return [narrowed(at.dtype, shape, y, call.tensor(6), call.optional(7))];
    },
  });

/** Inputs X, X_scale, X_zero_point, Y_scale, Y_zero_point. */
const FIVE = ['X: T', 'X_scale: float32', 'X_zero_point: T?', 'Y_scale: float32', 'Y_zero_point: T?'];
const inferSame = (call: InferCall): OutFact[] => {
  checkSingle(call, 1);
  return [{ dtype: call.fact(0).dtype, shape: call.fact(0).shape }];
};
const unary = (call: RefCall, f: (x: number) => number): Tensor[] => {
  const t = call.tensor(0);
  return [
    narrowed(t.dtype, t.shape, widened(t, call.tensor(1), call.optional(2)).map(f), call.tensor(3), call.optional(4)),
  ];
};

const sigmoid = defineOp({
  op: 'com.microsoft.QLinearSigmoid',
  since: [1],
  inputs: FIVE,
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: {},
  infer: inferSame,
  map: unaryMap((v) => x.sigmoid(v)),
  reference: (call) => unary(call, (v) => 1 / (1 + Math.exp(-v))),
});
const leakyRelu = defineOp({
  op: 'com.microsoft.QLinearLeakyRelu',
  since: [1],
  inputs: FIVE,
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: { alpha: float(0.01) },
  infer: inferSame,
  map: unaryMap((v, { alpha }) => x.select(x.lt(v, x.like(0, v)), x.mul(v, x.like(alpha, v)), v)),
  reference: (call) => unary(call, (v) => (v < 0 ? call.attrs.alpha * v : v)),
});

const softmax = defineOp({
  op: 'com.microsoft.QLinearSoftmax',
  since: [1],
  inputs: FIVE,
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: { axis: int(-1), opset: required(int()) },
  infer: (call) => {
    rowsOf(call.fact(0).shape, { axis: call.attrs.axis, flatten: call.attrs.opset < 13 ? 1 : 0 });
    return inferSame(call);
  },
  reference: (call) => {
    const t = call.tensor(0);
    const x = widened(t, call.tensor(1), call.optional(2));
    const y = new Float64Array(x.length);
    const { outer, n, inner } = rowsOf(t.shape, { axis: call.attrs.axis, flatten: call.attrs.opset < 13 ? 1 : 0 });
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        const start = o * n * inner + i;
        let top = -Infinity;
        let sum = 0;
        for (let k = 0; k < n; k++) top = Math.max(top, x[start + k * inner]!);
        for (let k = 0; k < n; k++) sum += Math.exp(x[start + k * inner]! - top);
        for (let k = 0; k < n; k++) y[start + k * inner] = Math.exp(x[start + k * inner]! - top) / sum;
      }
    return [narrowed(t.dtype, t.shape, y, call.tensor(3), call.optional(4))];
  },
});

const concat = defineOp({
  op: 'com.microsoft.QLinearConcat',
  since: [1],
  inputs: ['Y_scale: float32', 'Y_zero_point: T', 'inputs: any*'],
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: { axis: required(int()) },
  infer: (call) => {
    checkConcat(call.inputs.length);
    const parts = partsOf(call.inputs.length).map((i) => call.fact(i).shape);
    const first = parts[0]!;
    single(call.fact(0).shape, 'Y_scale');
    single(call.fact(1).shape, 'Y_zero_point');
    for (const i of partsOf(call.inputs.length)) {
      if (call.fact(i).dtype !== call.fact(1).dtype || call.fact(i + 2).dtype !== call.fact(1).dtype)
        fail('type_mismatch', `input ${i} and its zero point must be ${call.fact(1).dtype}`);
      if (call.fact(i + 1).dtype !== 'float32') fail('type_mismatch', `input ${i + 1} must be float32`);
      single(call.fact(i + 1).shape, `input ${i + 1}`);
      single(call.fact(i + 2).shape, `input ${i + 2}`);
    }
    const axis = axisOf(call.attrs.axis, first.length);
    for (const p of parts)
      if (p.length !== first.length || p.some((d, i) => i !== axis && d !== first[i]))
        fail('shape_mismatch', `[${p}] cannot be joined to [${first}] along axis ${axis}`);
    return [
      {
        dtype: call.fact(1).dtype,
        shape: first.map((d, i) => (i === axis ? parts.reduce((n, p) => n + p[axis]!, 0) : d)),
      },
    ];
  },
  reference: (call) => {
    const parts = partsOf(call.inputs.length).map((i) => ({
      t: call.tensor(i),
      v: widened(call.tensor(i), call.tensor(i + 1), call.tensor(i + 2)),
    }));
    const first = parts[0]!.t.shape;
    const axis = axisOf(call.attrs.axis, first.length);
    const total = parts.reduce((n, p) => n + p.t.shape[axis]!, 0);
    const inner = sizeOf(first.slice(axis + 1));
    const outer = sizeOf(first.slice(0, axis));
    const shape = first.map((d, i) => (i === axis ? total : d));
    const y = new Float64Array(sizeOf(shape));
    for (let o = 0, at = 0; o < outer; o++)
      for (const { t, v } of parts) {
        const run = t.shape[axis]! * inner;
        y.set(v.subarray(o * run, (o + 1) * run), at);
        at += run;
      }
    return [narrowed(call.tensor(1).dtype, shape, y, call.tensor(0), call.tensor(1))];
  },
});
/** Positions of the tensors to join; a scale and a zero point follow each. */
const partsOf = (inputs: number): number[] => Array.from({ length: (inputs - 2) / 3 }, (_, i) => 2 + 3 * i);
function checkConcat(inputs: number): void {
  if (inputs < 5 || (inputs - 2) % 3 !== 0)
    fail('input_missing', `${inputs} inputs: each tensor to join needs a scale and a zero point`);
}

/** The same tensor with its channels second. */
const firstOf = (s: Shape): number[] => [s[0]!, s[s.length - 1]!, ...s.slice(1, -1)];
const lastOf = (s: Shape): number[] => [s[0]!, ...s.slice(2), s[1]!];
const poolAttrs = {
  auto_pad: string('NOTSET'),
  ceil_mode: int(0),
  channels_last: int(0),
  count_include_pad: int(0),
  dilations: ints(),
  kernel_shape: required(ints()),
  pads: ints(),
  strides: ints(),
};

/** Pools the widened planes of X by `attrs`. */
function pooled(
  call: RefCall,
  last: boolean,
  attrs: (x: Shape) => Parameters<typeof poolShape>[1] & { readonly count_include_pad: number },
): Tensor[] {
  const t = call.tensor(0);
  const x = last ? firstOf(t.shape) : t.shape;
  const a = attrs(x);
  const { window, shape } = poolShape(x, a);
  const v = widened(t, call.tensor(1), call.optional(2));
  const planes = last ? toChannelsFirst(v, x[0]!, x[1]!, sizeOf(x.slice(2))) : v;
  const y = averaged(planes, x, window, a.count_include_pad !== 0);
  return [
    narrowed(
      t.dtype,
      last ? lastOf(shape) : shape,
      last ? toChannelsLast(y, x[0]!, x[1]!, sizeOf(window.output)) : y,
      call.tensor(3),
      call.optional(4),
    ),
  ];
}
const inferPooled = (
  call: InferCall,
  last: boolean,
  attrs: (x: Shape) => Parameters<typeof poolShape>[1],
): OutFact[] => {
  checkSingle(call, 1);
  const t = call.fact(0);
  if (t.shape.length < 3)
    fail('shape_mismatch', `the input has shape [${t.shape}]; it must have at least one spatial dim`);
  const x = last ? firstOf(t.shape) : t.shape;
  const { shape } = poolShape(x, attrs(x));
  return [{ dtype: t.dtype, shape: last ? lastOf(shape) : shape }];
};
const whole = (x: Shape): { kernel_shape: Shape; count_include_pad: number } => ({
  kernel_shape: x.slice(2),
  count_include_pad: 0,
});

const averagePool = defineOp({
  op: 'com.microsoft.QLinearAveragePool',
  since: [1],
  inputs: FIVE,
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: poolAttrs,
  infer: (call) => inferPooled(call, call.attrs.channels_last !== 0, () => call.attrs),
  reference: (call) => pooled(call, call.attrs.channels_last !== 0, () => call.attrs),
});
const globalAveragePool = defineOp({
  op: 'com.microsoft.QLinearGlobalAveragePool',
  since: [1],
  inputs: FIVE,
  outputs: ['Y: T'],
  types: { T: BYTE },
  attrs: { channels_last: int(0) },
  infer: (call) => inferPooled(call, call.attrs.channels_last !== 0, whole),
  reference: (call) => pooled(call, call.attrs.channels_last !== 0, whole),
});

const where = defineOp({
  op: 'com.microsoft.QLinearWhere',
  since: [1],
  inputs: [
    'condition: bool',
    'X: T',
    'x_scale: float32',
    'x_zero_point: T',
    'Y: T',
    'y_scale: float32',
    'y_zero_point: T',
    'z_scale: float32',
    'z_zero_point: T',
  ],
  outputs: ['Z: T'],
  types: { T: BYTE },
  attrs: {},
  map: ([c, v, vs, vz, w, ws, wz, zs, zz], _, dtype) =>
    narrow(x.select(c!, wide(v!, vs!, vz), wide(w!, ws!, wz)), zs!, zz, dtype),
  infer: (call) => {
    for (const i of [2, 3, 5, 6, 7, 8]) single(call.fact(i).shape, `input ${i}`);
    return [
      { dtype: call.fact(1).dtype, shape: broadcast(call.fact(0).shape, call.fact(1).shape, call.fact(4).shape) },
    ];
  },
  reference: (call) => {
    const ct = call.tensor(0);
    const xt = call.tensor(1);
    const yt = call.tensor(4);
    const shape = broadcast(ct.shape, xt.shape, yt.shape);
    const condition = numbers(ct);
    const x = widened(xt, call.tensor(2), call.tensor(3));
    const y = widened(yt, call.tensor(5), call.tensor(6));
    const z = new Float64Array(sizeOf(shape));
    const other = new Float64Array(z.length);
    eachOffset(shape, broadcastStrides(xt.shape, shape), (i, from) => {
      z[i] = x[from]!;
    });
    eachOffset(shape, broadcastStrides(yt.shape, shape), (i, from) => {
      other[i] = y[from]!;
    });
    eachOffset(shape, broadcastStrides(ct.shape, shape), (i, from) => {
      if (condition[from] === 0) z[i] = other[i]!;
    });
    return [narrowed(xt.dtype, shape, z, call.tensor(7), call.tensor(8))];
  },
});

/** Without axes all dims are reduced. */
const reduceMean = defineOp({
  op: 'com.microsoft.QLinearReduceMean',
  since: [1],
  inputs: ['data: T', 'data_scale: float32', 'data_zero_point: T?', 'reduced_scale: float32', 'reduced_zero_point: T?'],
  outputs: ['reduced: T'],
  types: { T: BYTE },
  attrs: { axes: ints(), keepdims: int(1) },
  infer: (call) => {
    checkSingle(call, 1);
    return [{ dtype: call.fact(0).dtype, shape: reducedShape(call.fact(0).shape, call.attrs).shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const x = widened(t, call.tensor(1), call.optional(2));
    const { kept, shape } = reducedShape(t.shape, call.attrs);
    const y = new Float64Array(sizeOf(kept));
    const strides = stridesOf(kept).map((s, i) => (kept[i] === 1 ? 0 : s));
    eachOffset(t.shape, strides, (i, to) => {
      y[to]! += x[i]!;
    });
    const count = x.length / y.length;
    return [
      narrowed(
        t.dtype,
        shape,
        y.map((v) => v / count),
        call.tensor(3),
        call.optional(4),
      ),
    ];
  },
});
/** The shape with reduced dims of 1, and as `keepdims` wants it. */
function reducedShape(
  x: Shape,
  a: { readonly axes: Shape | undefined; readonly keepdims: number },
): { kept: Shape; shape: Shape } {
  const axes = a.axes?.length ? axesOf(a.axes, x.length) : x.map((_, i) => i);
  return {
    kept: x.map((d, i) => (axes.includes(i) ? 1 : d)),
    shape: a.keepdims ? x.map((d, i) => (axes.includes(i) ? 1 : d)) : x.filter((_, i) => !axes.includes(i)),
  };
}

/** ContribOperators.md of onnxruntime. */
export const quantizedElementwise: readonly Op[] = [
  binary('QLinearAdd', (a, b) => a + b, x.add),
  binary('QLinearMul', (a, b) => a * b, x.mul),
  sigmoid,
  leakyRelu,
  softmax,
  concat,
  where,
  reduceMean,
  averagePool,
  globalAveragePool,
];
