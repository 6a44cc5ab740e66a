/** WGSL kernels of the operators that `kernels/sets.ts` calls uncommon. */
import { deformShape } from '../../conv-deform.ts';
import type { Call, GpuKernel, KernelTable } from '../../define.ts';
import { blocksOf } from '../../det.ts';
import { dftOf, stftOf } from '../../signal.ts';
import { linesOf } from '../../softmax.ts';
import { linesAlong } from '../element.ts';
import { expertKernels } from '../experts.ts';
import { affineKernel, col2ImKernel, deformKernel, detKernel, gridSampleKernel, lrnKernel } from '../image.ts';
import { lineKernel } from '../lines.ts';
import { roiAlignKernel } from '../roi.ts';
import { dftKernel, stftKernel } from '../signal.ts';
import { givenCall } from '../unit.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const shapeIf = (call: Call, i: number): readonly number[] | null => call.inputs[i]?.shape ?? null;

export const kernels: KernelTable<GpuKernel> = {
  'sardonyx.ExpertMatMul': expertKernels,
  Hardmax: [lineKernel(() => 'hardmax', linesOf)],
  Det: [detKernel],
  DeformConv: [
    deformKernel(
      (call) =>
        deformShape(
          shapeOf(call, 0),
          shapeOf(call, 1),
          shapeOf(call, 2),
          shapeIf(call, 3),
          shapeIf(call, 4),
          call.attrs,
        ).window,
    ),
  ],
  RoiAlign: [roiAlignKernel],
  AffineGrid: [affineKernel],
  GridSample: [gridSampleKernel],
  Col2Im: [
    col2ImKernel((call) => {
      const { blocks, begins, dilations, strides } = blocksOf(givenCall(call));
      return { output: blocks, pads: begins, dilations, strides };
    }),
  ],
  LpNormalization: [lineKernel((call) => (call.attrs.p === 1 ? 'l1' : 'l2'), linesAlong)],
  LRN: [lrnKernel],
  DFT: [dftKernel(dftOf)],
  STFT: [stftKernel(stftOf)],
};
