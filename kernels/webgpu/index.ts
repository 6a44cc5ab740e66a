/**
 * WGSL kernels by operator; a node takes the first of its list that accepts it. Those of operators that load when
 * needed are in `sets/`.
 */
import { ZERO } from '../create.ts';
import type { Call, GpuKernel, KernelTable } from '../define.ts';
import { fusedMatmulShape, gemmShape, matmulShape } from '../matmul-shape.ts';
import { cropGeometry, expandViews, padGeometry, tileViews } from '../pad.ts';
import { knownAxes } from '../reduce.ts';
import { axisOf } from '../shapes.ts';
import { sliceViews, splitViews } from '../slice.ts';
import { linesOf } from '../softmax.ts';
import { blockViews, transposeViews } from '../transpose.ts';
import { castKernel, copyKernel } from './cast.ts';
import { dropoutKernel } from './dropout.ts';
import { gatherKernel } from './gather.ts';
import { fillKernel, rangeKernel } from './make.ts';
import { mapKernel } from './map.ts';
import { gatedKernels } from './matmul-gated.ts';
import { gemmProduct, matmulProduct } from './matmul.ts';
import { concatKernel, padKernel, stridedKernels } from './move.ts';
import { productKernels } from './product-kernels.ts';
import { reduceKernel, type Reduction } from './reduce.ts';
import { softmaxKernels } from './rows.ts';
import type { SetName } from '../sets.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const casts = [castKernel];
/** What products operators form, for all their variants. */
export const formed = {
  MatMul: matmulProduct((call) => matmulShape(shapeOf(call, 0), shapeOf(call, 1))),
  fused: matmulProduct(
    (call) => fusedMatmulShape(shapeOf(call, 0), shapeOf(call, 1), call.attrs),
    (call) => call.attrs.alpha,
  ),
  Gemm: gemmProduct((call) => gemmShape(shapeOf(call, 0), shapeOf(call, 1), null, call.attrs)),
};
const fusedProducts = productKernels('matmul', formed.fused);
const reductions: readonly Reduction[] = [
  'Sum',
  'Mean',
  'Max',
  'Min',
  'Prod',
  'L1',
  'L2',
  'SumSquare',
  'LogSum',
  'LogSumExp',
];

export const common: KernelTable<GpuKernel> = {
  'sardonyx.Map': [mapKernel],
  // products
  MatMul: productKernels('matmul', formed.MatMul),
  'sardonyx.GatedMatMul': gatedKernels,
  'com.microsoft.FusedMatMul': fusedProducts,
  'com.microsoft.TransposeMatMul': fusedProducts,
  Gemm: productKernels('gemm', formed.Gemm),
  // rows
  Softmax: softmaxKernels(false, linesOf),
  LogSoftmax: softmaxKernels(true, linesOf),
  ...Object.fromEntries(reductions.map((how) => [`Reduce${how}`, [reduceKernel(how, knownAxes)]])),
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
  ConstantOfShape: [fillKernel((call) => call.attrs.value ?? ZERO)],
  Range: [rangeKernel],
  Dropout: [dropoutKernel],
};

const load: Readonly<Record<SetName, () => Promise<{ readonly kernels: KernelTable<GpuKernel> }>>> = {
  spatial: () => import('./sets/spatial.ts'),
  transformers: () => import('./sets/transformers.ts'),
  quantized: () => import('./sets/quantized.ts'),
  recurrent: () => import('./sets/recurrent.ts'),
  norms: () => import('./sets/norms.ts'),
  indexed: () => import('./sets/indexed.ts'),
  uncommon: () => import('./sets/uncommon.ts'),
  rare: () => import('./sets/rare.ts'),
};

/** Is it a kernel of `variants.ts`? */
export const isVariant = (kernel: string): boolean => /\.(lanes|winograd|matrix|dot4)$/.test(kernel);

/**
 * The kernels of common operators and of these sets; `variants`: and those that only a tuning table chooses;
 * `software`: and those for software adapters.
 */
export async function gpuKernels(
  sets: readonly SetName[],
  { variants = false, software = false } = {},
): Promise<KernelTable<GpuKernel>> {
  const [more, own, ...tables] = await Promise.all([
    variants ? import('./variants.ts') : null,
    software && sets.includes('spatial') ? import('./software.ts') : null,
    ...sets.map(async (name) => (await load[name]()).kernels),
  ]);
  const table: KernelTable<GpuKernel> = Object.assign({}, common, ...tables);
  const all = more ? more.withVariants(table) : table;
  return own ? own.withSoftware(all) : all;
}
