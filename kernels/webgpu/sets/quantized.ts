/** WGSL kernels of the operators that `kernels/sets.ts` calls quantized. */
import { convShape } from '../../conv-shape.ts';
import type { Call, GpuKernel, KernelTable } from '../../define.ts';
import { gemmShape, matmulShape } from '../../matmul-shape.ts';
import { granularity } from '../../quantize.ts';
import { gatherBlocksKernel } from '../gather-blocks.ts';
import { nbitsKernels } from '../matmul-nbits.ts';
import {
  convIntegerKernels,
  integerProductKernels,
  linearConvKernels,
  linearProductKernels,
  quantizedGemmKernels,
} from '../integer-products.ts';
import { dequantizeKernels, dynamicQuantizeKernels, quantizeKernels, smallQuantizeKernels } from '../quantize.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const granularityOf = (call: Call) => granularity(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs);
const quantizes = [...quantizeKernels(granularityOf), ...smallQuantizeKernels(granularityOf)];
const dequantizes = dequantizeKernels(granularityOf);

const convOf = (filters: number) => (call: Call) => ({
  window: convShape(shapeOf(call, 0), shapeOf(call, filters), null, call.attrs).window,
  transposed: false,
});
const linearConvs = linearConvKernels(convOf(3));

export const kernels: KernelTable<GpuKernel> = {
  MatMulInteger: integerProductKernels((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 1))),
  QLinearMatMul: linearProductKernels((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 3))),
  'com.microsoft.QGemm': quantizedGemmKernels((call) =>
    gemmShape(shapeOf(call, 0), shapeOf(call, 3), null, call.attrs),
  ),
  ConvInteger: convIntegerKernels(convOf(1)),
  QLinearConv: linearConvs,
  'com.microsoft.QLinearConv': linearConvs,
  'com.microsoft.MatMulNBits': nbitsKernels,
  QuantizeLinear: quantizes,
  'com.microsoft.QuantizeLinear': quantizes,
  DequantizeLinear: dequantizes,
  'com.microsoft.DequantizeLinear': dequantizes,
  DynamicQuantizeLinear: dynamicQuantizeKernels,
  'com.microsoft.GatherBlockQuantized': [gatherBlocksKernel],
};
