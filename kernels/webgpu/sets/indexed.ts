/** WGSL kernels of the operators that `kernels/sets.ts` calls indexed. */
import { knownAxis, ownAxis } from '../../along.ts';
import type { GpuKernel, KernelTable } from '../../define.ts';
import { axesOf, axisOf } from '../../shapes.ts';
import { positionKernel, scanKernel } from '../along.ts';
import {
  gatherElementsKernel,
  gatherNDKernel,
  scatterElementsKernel,
  scatterNDKernel,
  tensorScatterKernel,
} from '../gather-scatter.ts';
import { eyeKernel, oneHotKernel, reverseKernel, triluKernel } from '../matrix.ts';
import { topKernel } from '../top.ts';

const scatters = [scatterElementsKernel];
const trilus = [triluKernel];

export const kernels: KernelTable<GpuKernel> = {
  GatherElements: [gatherElementsKernel],
  GatherND: [gatherNDKernel],
  ScatterElements: scatters,
  Scatter: scatters,
  ScatterND: [scatterNDKernel],
  TensorScatter: [tensorScatterKernel],
  TopK: [topKernel],
  ArgMax: [positionKernel(true, ownAxis)],
  ArgMin: [positionKernel(false, ownAxis)],
  CumSum: [scanKernel(false, knownAxis)],
  CumProd: [scanKernel(true, knownAxis)],
  EyeLike: [eyeKernel],
  OneHot: [oneHotKernel((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Trilu: trilus,
  'com.microsoft.Trilu': trilus,
  ReverseSequence: [reverseKernel((call) => axesOf([call.attrs.batch_axis], call.inputs[0]!.shape.length)[0]!)],
};
