/**
 * WASM kernels by operator; a node takes the first of its list that accepts it. Those of operators that load when
 * needed are in `sets/`.
 */
import type { KernelTable, WasmKernel } from '../define.ts';
import { cropGeometry, expandViews, padGeometry, tileViews } from '../pad.ts';
import { knownAxes } from '../reduce.ts';
import { axisOf } from '../shapes.ts';
import { sliceViews, splitViews } from '../slice.ts';
import { linesOf } from '../softmax.ts';
import { blockViews, transposeViews } from '../transpose.ts';
import { castKernel, copyKernel } from './cast.ts';
import { logSumExpWasm } from './contract.ts';
import { gatherKernel } from './gather.ts';
import { matmulScalar } from './gemm-scalar.ts';
import { fusedMatmulWasm, gemmWasm, matmulWasm } from './gemm.ts';
import { lineKernel } from './lines.ts';
import { mapKernel } from './map.ts';
import { concatKernel, padKernel, stridedKernels } from './move.ts';
import { reduceKernel } from './reduce.ts';
import { softmaxKernels } from './rows.ts';
import type { SetName } from '../sets.ts';

const casts = [castKernel];
const softmaxes = (log: boolean) => [
  ...softmaxKernels(log, linesOf),
  lineKernel(() => (log ? 'log_softmax' : 'softmax'), linesOf),
];
const reductions = ['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'SumSquare', 'LogSum', 'LogSumExp'] as const;

export const common: KernelTable<WasmKernel> = {
  'sardonyx.Map': [mapKernel],
  // products
  MatMul: [...matmulWasm, matmulScalar],
  'com.microsoft.FusedMatMul': fusedMatmulWasm,
  'com.microsoft.TransposeMatMul': fusedMatmulWasm,
  Gemm: gemmWasm,
  // rows
  Softmax: softmaxes(false),
  LogSoftmax: softmaxes(true),
  ...Object.fromEntries(
    reductions.map((how) => [
      `Reduce${how}`,
      [reduceKernel(how, knownAxes), ...(how === 'LogSumExp' ? [logSumExpWasm(knownAxes)] : [])],
    ]),
  ),
  // moves
  Slice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]),
  DynamicSlice: stridedKernels('slice', sliceViews, [1, 2, 3, 4]),
  Split: stridedKernels('split', splitViews, [1]),
  Transpose: stridedKernels('transpose', transposeViews),
  DepthToSpace: stridedKernels('blocks', blockViews('DepthToSpace')),
  SpaceToDepth: stridedKernels('blocks', blockViews('SpaceToDepth')),
  Tile: stridedKernels('tile', tileViews, [1, 2]),
  Expand: stridedKernels('expand', expandViews, [1]),
  Concat: [concatKernel((call) => axisOf(call.attrs.axis, call.outputs[0]!.shape.length))],
  Pad: [padKernel('pad', padGeometry, [1, 3], 2)],
  CenterCropPad: [padKernel('crop', cropGeometry, [1])],
  Gather: [gatherKernel],
  // types and values
  Cast: casts,
  CastLike: casts,
  BitCast: [copyKernel],
};

const load: Readonly<Record<SetName, () => Promise<{ readonly kernels: KernelTable<WasmKernel> }>>> = {
  spatial: () => import('./sets/spatial.ts'),
  transformers: () => import('./sets/transformers.ts'),
  quantized: () => import('./sets/quantized.ts'),
  recurrent: () => import('./sets/recurrent.ts'),
  norms: () => import('./sets/norms.ts'),
  indexed: () => import('./sets/indexed.ts'),
  uncommon: () => import('./sets/uncommon.ts'),
  rare: () => import('./sets/rare.ts'),
};

/** The kernels of common operators and of these sets. */
export const wasmKernels = async (sets: readonly SetName[]): Promise<KernelTable<WasmKernel>> =>
  Object.assign({}, common, ...(await Promise.all(sets.map(async (name) => (await load[name]()).kernels))));
