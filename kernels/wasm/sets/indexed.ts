/** WASM kernels of the operators that `kernels/sets.ts` calls indexed. */
import { knownAxis, ownAxis } from '../../along.ts';
import type { KernelTable, WasmKernel } from '../../define.ts';
import { axisOf } from '../../shapes.ts';
import { positionKernel, scanKernel } from '../along.ts';
import { gatherElementsKernel, gatherNDKernel, scatterElementsKernel, scatterNDKernel } from '../gather-scatter.ts';
import { topWasm } from '../lines.ts';
import { eyeWasm, oneHotWasm, triluWasm } from '../make.ts';
import { reverseSequenceWasm, tensorScatterWasm } from '../recurrent.ts';

const scatters = [scatterElementsKernel];
const trilus = [triluWasm];

export const kernels: KernelTable<WasmKernel> = {
  GatherElements: [gatherElementsKernel],
  GatherND: [gatherNDKernel],
  ScatterElements: scatters,
  Scatter: scatters,
  ScatterND: [scatterNDKernel],
  TensorScatter: [tensorScatterWasm],
  TopK: [topWasm],
  ArgMax: [positionKernel(true, ownAxis)],
  ArgMin: [positionKernel(false, ownAxis)],
  CumSum: [scanKernel(false, knownAxis)],
  CumProd: [scanKernel(true, knownAxis)],
  EyeLike: [eyeWasm],
  OneHot: [oneHotWasm((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Trilu: trilus,
  'com.microsoft.Trilu': trilus,
  ReverseSequence: [reverseSequenceWasm],
};
