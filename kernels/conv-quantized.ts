import type { DType } from '../src/core/dtype.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, int, type Op } from './define.ts';
import { addBias, convolve, toChannelsFirst, toChannelsLast } from './conv-direct.ts';
import { convShape } from './conv-shape.ts';
import { convAttrs } from './conv-window.ts';
import { saturated, single, singleOrPer } from './quantize-round.ts';

const BYTE: readonly DType[] = ['int8', 'uint8'];

/** The values minus their zero point, which is one number or one per row of the first dim. */
function centred(t: Tensor, zero: Tensor | null): Float64Array {
  const v = new Float64Array(numbers(t));
  if (zero === null) return v;
  const z = numbers(zero);
  const row = z.length === 1 ? v.length : v.length / z.length;
  for (let i = 0; i < v.length; i++) v[i]! -= z[Math.floor(i / row)]!;
  return v;
}

/** Padding has the value of the zero point. https://onnx.ai/onnx/operators/onnx__ConvInteger.html */
const convInteger = defineOp({
  op: 'ConvInteger',
  since: [10],
  inputs: ['x: T1', 'w: T2', 'x_zero_point: T1?', 'w_zero_point: T2?'],
  outputs: ['y: int32'],
  types: { T1: BYTE, T2: BYTE },
  attrs: convAttrs,
  infer: (call) => {
    const w = call.fact(1);
    if (call.inputs[2]) single(call.inputs[2].shape, 'x_zero_point');
    if (call.inputs[3]) singleOrPer(call.inputs[3].shape, w.shape[0]!, 'w_zero_point');
    return [{ dtype: 'int32', shape: convShape(call.fact(0).shape, w.shape, null, call.attrs).shape }];
  },
  reference: (call) => {
    const x = call.tensor(0);
    const w = call.tensor(1);
    const { window, shape } = convShape(x.shape, w.shape, null, call.attrs);
    return [
      fromNumbers(
        'int32',
        shape,
        convolve(centred(x, call.optional(2)), x.shape, centred(w, call.optional(3)), w.shape[0]!, window),
      ),
    ];
  },
});

/** A shape whose channels come last, as if they came first. */
export const lastToFirst = (s: readonly number[]): number[] => [s[0]!, s[s.length - 1]!, ...s.slice(1, -1)];

/** https://onnx.ai/onnx/operators/onnx__QLinearConv.html; com.microsoft's form may have its channels last. */
const family = (op: 'QLinearConv' | 'com.microsoft.QLinearConv'): Op =>
  defineOp({
    op,
    since: op === 'QLinearConv' ? [10] : [1],
    inputs: [
      'x: T1',
      'x_scale: float32',
      'x_zero_point: T1',
      'w: T2',
      'w_scale: float32',
      'w_zero_point: T2',
      'y_scale: float32',
      'y_zero_point: T3',
      'B: int32?',
    ],
    outputs: ['y: T3'],
    types: { T1: BYTE, T2: BYTE, T3: BYTE },
    attrs: { ...convAttrs, channels_last: int(0) },
    infer: (call) => {
      const w = call.fact(3);
      const m = w.shape[0]!;
      for (const [i, what] of [
        [1, 'x_scale'],
        [2, 'x_zero_point'],
        [6, 'y_scale'],
        [7, 'y_zero_point'],
      ] as const)
        single(call.fact(i).shape, what);
      singleOrPer(call.fact(4).shape, m, 'w_scale');
      singleOrPer(call.fact(5).shape, m, 'w_zero_point');
      const x = call.fact(0).shape;
      const last = call.attrs.channels_last !== 0;
      const { shape } = convShape(last ? lastToFirst(x) : x, w.shape, call.inputs[8]?.shape ?? null, call.attrs);
      return [{ dtype: call.fact(7).dtype, shape: last ? [shape[0]!, ...shape.slice(2), shape[1]!] : shape }];
    },
    reference: (call) => {
      const x = call.tensor(0);
      const w = call.tensor(3);
      const bias = call.optional(8);
      const last = call.attrs.channels_last !== 0;
      const first = last ? lastToFirst(x.shape) : x.shape;
      const { window, shape } = convShape(first, w.shape, bias?.shape ?? null, call.attrs);
      const [n, m] = [shape[0]!, shape[1]!];
      const out = sizeOf(window.output);
      const values = centred(x, call.tensor(2));
      const y = convolve(
        last ? toChannelsFirst(values, n, first[1]!, sizeOf(first.slice(2))) : values,
        first,
        centred(w, call.tensor(5)),
        m,
        window,
      );
      if (bias !== null) addBias(y, numbers(bias), out);
      const xs = numbers(call.tensor(1))[0]!;
      const ws = numbers(call.tensor(4));
      const ys = numbers(call.tensor(6))[0]!;
      for (let i = 0; i < y.length; i++)
        y[i]! *= Math.fround(Math.fround(xs * ws[ws.length === 1 ? 0 : Math.floor(i / out) % m]!) / ys);
      const zero = call.tensor(7);
      return [
        saturated(
          zero.dtype,
          last ? [n, ...window.output, m] : shape,
          last ? toChannelsLast(y, n, m, out) : y,
          numbers(zero)[0]!,
        ),
      ];
    },
  });
export const quantizedConvolution: readonly Op[] = [
  convInteger,
  family('QLinearConv'),
  family('com.microsoft.QLinearConv'),
];
