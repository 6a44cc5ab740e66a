/** WASM kernels of the operators that `kernels/sets.ts` calls uncommon. */
import { convShape } from '../../conv-shape.ts';
import type { Call, KernelTable, WasmKernel } from '../../define.ts';
import { blocksOf } from '../../det.ts';
import { givenCall } from '../../given.ts';
import { axesOf } from '../../shapes.ts';
import { dftOf, stftOf } from '../../signal.ts';
import { linesOf } from '../../softmax.ts';
import { expertKernel } from '../experts.ts';
import { affineGridWasm, gridSampleWasm } from '../grid.ts';
import { lineKernel, linesAlong } from '../lines.ts';
import { lrnWasm } from '../lrn.ts';
import { meanVarianceWasm } from '../norm-each.ts';
import { dftWasm, stftWasm } from '../signal.ts';
import { col2ImWasm } from '../col2im.ts';
import { deformWasm } from '../deform.ts';
import { detWasm } from '../det.ts';
import { roiAlignWasm } from '../roi-align.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;

export const kernels: KernelTable<WasmKernel> = {
  'sardonyx.ExpertMatMul': [expertKernel],
  Hardmax: [lineKernel(() => 'hardmax', linesOf)],
  Det: [detWasm],
  DeformConv: [deformWasm((call) => convShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs).window)],
  RoiAlign: [roiAlignWasm],
  GridSample: [gridSampleWasm],
  AffineGrid: [affineGridWasm],
  Col2Im: [
    col2ImWasm((call) => {
      const b = blocksOf(givenCall(call));
      return {
        kernel: b.block,
        strides: b.strides,
        dilations: b.dilations,
        pads: b.begins,
        group: 1,
        output: b.blocks,
      };
    }),
  ],
  LpNormalization: [
    lineKernel(
      (call) => (call.attrs.p === 1 ? 'l1' : 'l2'),
      (call) => linesAlong(shapeOf(call, 0), call.attrs.axis),
    ),
  ],
  LRN: lrnWasm,
  MeanVarianceNormalization: [meanVarianceWasm((call) => axesOf(call.attrs.axes, shapeOf(call, 0).length))],
  DFT: [dftWasm(dftOf)],
  STFT: [stftWasm(stftOf)],
};
