/** WGSL kernels of the operators that `kernels/sets.ts` calls spatial. */
import { integers } from '../../../src/core/numbers.ts';
import { convShape } from '../../conv-shape.ts';
import { convTransposeShape } from '../../conv.ts';
import type { Call, GpuKernel, KernelTable } from '../../define.ts';
import { poolShape, unpoolShape } from '../../pool.ts';
import { changedAxes } from '../../resize.ts';
import { batchNormKernel } from '../batch-norm.ts';
import { convSumKernels } from '../conv-sum.ts';
import { convKernels, convTransposeKernels } from '../conv.ts';
import { globalPoolKernels, maxPoolKernels, meanPoolKernels } from '../pool.ts';
import { resizeKernel } from '../resize.ts';
import { unpoolKernel } from '../unpool.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const poolWindow = (call: Call) => poolShape(shapeOf(call, 0), call.attrs).window;
const resizes = [resizeKernel(changedAxes)];

export const kernels: KernelTable<GpuKernel> = {
  Conv: convKernels((call) => ({
    window: convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window,
    transposed: false,
  })),
  'sardonyx.ConvSum': convSumKernels,
  ConvTranspose: convTransposeKernels((call) => ({
    window: convTransposeShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window,
    transposed: true,
  })),
  MaxPool: maxPoolKernels(poolWindow),
  MaxUnpool: [
    unpoolKernel((call) =>
      unpoolShape(
        shapeOf(call, 0),
        shapeOf(call, 1),
        call.attrs,
        call.inputs[2] ? integers(call.inputs[2].constant!.peek()!) : null,
      ),
    ),
  ],
  BatchNormalization: [batchNormKernel],
  AveragePool: meanPoolKernels(poolWindow),
  LpPool: meanPoolKernels(poolWindow, (call) => call.attrs.p),
  GlobalMaxPool: globalPoolKernels('max'),
  GlobalAveragePool: globalPoolKernels('mean'),
  GlobalLpPool: globalPoolKernels('norm'),
  Resize: resizes,
  Upsample: resizes,
};
