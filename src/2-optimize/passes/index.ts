import type { Op } from '../../../kernels/define.ts';
import type { ValueId } from '../../core/graph.ts';
import type { DeviceKind } from '../../core/plan.ts';
import { type Bound, EXACTNESS, type Exactness, type Pass, rewriteBound, type Tracer } from '../rewrite.ts';
import { expandFusedConv, expandFusedGemm, expandImageScaler, expandIntegerProduct } from './expand-fused.ts';
import { dropExpand } from './drop-expand.ts';
import { foldBatchNorm } from './fold-batchnorm.ts';
import { foldConstants } from './fold-constants.ts';
import { foldPad } from './fold-pad.ts';
import { foldScale } from './fold-scale.ts';
import { fuseAttention } from './fuse-attention.ts';
import { fuseConvSum } from './fuse-conv-sum.ts';
import { fuseNorm } from './fuse-norm.ts';
import { fuseRotary } from './fuse-rotary.ts';
import { fuseSoftmax } from './fuse-softmax.ts';
import { fuseQuantized, moveQuantized } from './fuse-quantized.ts';
import { gatherSlices } from './gather-slices.ts';
import { mergeCasts } from './merge-casts.ts';
import { mergeDuplicates } from './merge-duplicates.ts';
import { mergeProjections } from './merge-projections.ts';
import { hoistTransposes, mergeTransposes, sinkTransposes } from './move-transposes.ts';
import { hoistViews, mergeViews, sinkViews, transposeAsReshape } from './move-views.ts';
import { packHeads } from './pack-heads.ts';
import { fuseSquares, gatherAsReshape, outerProduct } from './plain-forms.ts';
import { removeIdentity } from './remove-identity.ts';
import { removeNoops } from './remove-noops.ts';

/** Before dims are known, in order of application to each node; the list is gone through until nothing changes. */
export const passes: readonly Pass[] = [expandFusedConv, expandFusedGemm, removeIdentity, foldConstants, mergeDuplicates, mergeTransposes, foldBatchNorm, foldScale];

/** When all shapes are known, one list after another. */
export const boundPasses: readonly (readonly Pass[])[] = [
  [expandImageScaler, expandIntegerProduct, removeIdentity, removeNoops, mergeCasts, mergeDuplicates, mergeTransposes, mergeViews, dropExpand, foldPad, gatherAsReshape, outerProduct],
  [fuseConvSum, fuseNorm, fuseSoftmax, fuseRotary, fuseSquares, removeNoops, mergeTransposes, sinkTransposes, hoistTransposes],
  [fuseAttention, gatherSlices, removeNoops, mergeDuplicates, mergeTransposes],
  [packHeads],
  [mergeProjections],
  [transposeAsReshape, mergeViews, hoistViews, sinkViews],
];

/** Before dims are known, on a device that multiplies bytes faster than floats. */
export const bytePasses: readonly Pass[] = [moveQuantized, fuseQuantized];

/** The kinds of rewrites that an option allows. */
export const allowed = (optimize: boolean | readonly Exactness[] | undefined): ReadonlySet<Exactness> =>
  new Set(optimize === false ? [] : optimize === undefined || optimize === true ? EXACTNESS.filter((e) => e !== 'approximate') : optimize);
export const allowedPasses = (list: readonly Pass[], allow: ReadonlySet<Exactness>): readonly Pass[] => list.filter((p) => allow.has(p.exactness));

/** The graph with the passes for known shapes applied. */
export function simplify(graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>, allow: ReadonlySet<Exactness>, device: DeviceKind, trace?: Tracer): Bound {
  const lists = boundPasses.map((list) => allowedPasses(list, allow).filter((p) => p.device === undefined || p.device === device)).filter((list) => list.length > 0);
  return lists.length === 0 ? graph : rewriteBound(graph, wanted, lists, ops, trace);
}
