/** WGSL kernels of the operators that `kernels/sets.ts` calls quantized. */
import type { Call, GpuKernel, KernelTable } from '../../define.ts';
import { matmulShape } from '../../matmul-shape.ts';
import { granularity } from '../../quantize.ts';
import { nbitsKernels } from '../matmul-nbits.ts';
import { dequantizeKernels, dynamicQuantizeKernels, integerProductKernels, quantizeKernels } from '../quantize.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const granularityOf = (call: Call) => granularity(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs);
const quantizes = quantizeKernels(granularityOf);
const dequantizes = dequantizeKernels(granularityOf);

export const kernels: KernelTable<GpuKernel> = {
  MatMulInteger: integerProductKernels((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 1))),
  'com.microsoft.MatMulNBits': nbitsKernels,
  QuantizeLinear: quantizes, 'com.microsoft.QuantizeLinear': quantizes,
  DequantizeLinear: dequantizes, 'com.microsoft.DequantizeLinear': dequantizes,
  DynamicQuantizeLinear: dynamicQuantizeKernels,
};
