/** WASM kernels of the operators that `kernels/sets.ts` calls quantized. */
import { DTYPE_OF_ONNX } from '../../../src/core/dtype.ts';
import { lastToFirst } from '../../conv-quantized.ts';
import { convShape } from '../../conv-shape.ts';
import type { Window } from '../../conv-window.ts';
import type { Call, KernelTable, WasmKernel } from '../../define.ts';
import { byteConvWasm, byteProductWasm, type Roles } from '../contract.ts';
import { withHalf } from '../half.ts';
import { pairConvWasm } from '../quant-conv.ts';
import { depthwiseBytesWasm } from '../quant-depthwise.ts';
import { dequantizeEach, quantizeEach } from '../quant-each.ts';
import { matMulIntegerWasm, qlinearMatMulWasm } from '../quant-gemm.ts';
import { matMulNBits } from '../quant-nbits.ts';
import { dequantizeLinear, dynamicQuantizeLinear, quantizeLinear } from '../quant.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const quantizes = [
  quantizeLinear,
  quantizeEach((call) => (call.attrs.precision === 0 ? call.inputs[1]!.dtype : DTYPE_OF_ONNX[call.attrs.precision]!)),
];
const dequantizes = [dequantizeLinear, dequantizeEach];
const LINEAR_CONV: Roles = { x: 0, w: 3, xZero: 2, wZero: 5, bias: 8, scales: [1, 4, 6], yZero: 7 };
const INTEGER_CONV: Roles = { x: 0, w: 1, xZero: 2, wZero: 3, bias: null, scales: null, yZero: null };
const linearWindow = (call: Call): Window => convShape(shapeOf(call, 0), shapeOf(call, 3), null, call.attrs).window;
const integerWindow = (call: Call): Window => convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window;
const byteConvs = [
  depthwiseBytesWasm(LINEAR_CONV, linearWindow),
  pairConvWasm('conv.quantized_pairs', LINEAR_CONV, linearWindow),
  byteConvWasm(
    'conv.quantized',
    LINEAR_CONV,
    (call) =>
      convShape(
        call.attrs.channels_last ? lastToFirst(shapeOf(call, 0)) : shapeOf(call, 0),
        shapeOf(call, 3),
        null,
        call.attrs,
      ).window,
    (call) => call.attrs.channels_last !== 0,
  ),
];

export const kernels: KernelTable<WasmKernel> = {
  MatMulInteger: [matMulIntegerWasm],
  QLinearMatMul: [qlinearMatMulWasm, byteProductWasm],
  'com.microsoft.MatMulNBits': withHalf([matMulNBits as WasmKernel]),
  ConvInteger: [
    pairConvWasm('conv.integer_pairs', INTEGER_CONV, integerWindow),
    byteConvWasm('conv.integer', INTEGER_CONV, integerWindow, () => false),
  ],
  QLinearConv: byteConvs,
  'com.microsoft.QLinearConv': byteConvs,
  QuantizeLinear: quantizes,
  'com.microsoft.QuantizeLinear': quantizes,
  DequantizeLinear: dequantizes,
  'com.microsoft.DequantizeLinear': dequantizes,
  DynamicQuantizeLinear: [dynamicQuantizeLinear],
};
