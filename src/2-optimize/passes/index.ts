import type { Op } from '../../../kernels/define.ts';
import type { SetName } from '../../../kernels/sets.ts';
import type { ValueId } from '../../core/graph.ts';
import type { DeviceKind } from '../../core/plan.ts';
import type { Lowering } from '../lowering.ts';
import { type Bound, EXACTNESS, type Exactness, type Log, type Pass, rewriteBound, type Tracer } from '../rewrite.ts';
import { expandFusedGemm, expandImageScaler, expandIntegerProduct } from './expand-fused.ts';
import { dropExpand } from './drop-expand.ts';
import { foldConstants } from './fold-constants.ts';
import { gatherSlices } from './gather-slices.ts';
import { mergeCasts } from './merge-casts.ts';
import { mergeDuplicates } from './merge-duplicates.ts';
import { hoistTransposes, mergeTransposes, sinkTransposes } from './move-transposes.ts';
import { hoistViews, mergeViews, sinkViews, transposeAsReshape } from './move-views.ts';
import { fuseSquares, gatherAsReshape, outerProduct } from './plain-forms.ts';
import { removeIdentity } from './remove-identity.ts';
import { removeNoops } from './remove-noops.ts';

/** What may be rewritten, and by which passes. */
export interface Rules {
  readonly allow: ReadonlySet<Exactness>;
  /** Before dims are known, in order of application to each node; the list is gone through until nothing changes. */
  readonly free: readonly Pass[];
  /** The same, on a device that multiplies bytes faster than floats. */
  readonly bytes: readonly Pass[];
  /** What operators are as elementwise expressions, where their definitions do not say. */
  readonly lowerings: readonly Lowering[];
  /** When all shapes are known, one list after another. */
  readonly bound: readonly (readonly Pass[])[];
}

/**
 * The rewrites that an option allows; those for operators of a set come with the set.
 * @param optimize true or undefined: all but 'approximate'; false: none; else of these kinds
 */
export async function rulesFor(
  optimize: boolean | readonly Exactness[] | undefined,
  sets: readonly SetName[],
): Promise<Rules> {
  const allow = new Set(
    optimize === false
      ? []
      : optimize === undefined || optimize === true
        ? EXACTNESS.filter((e) => e !== 'approximate')
        : optimize,
  );
  const spatial = sets.includes('spatial') ? await import('./spatial.ts') : null;
  const attention = allow.size > 0 && sets.includes('transformers') ? await import('./transformers.ts') : null;
  const norms = allow.size > 0 && sets.includes('norms') ? await import('./norms.ts') : null;
  const rare = allow.size > 0 && sets.includes('rare') ? await import('./rare.ts') : null;
  const quantized = sets.includes('quantized') ? await import('./quantized.ts') : null;
  const uncommon = allow.size > 0 && sets.includes('uncommon') ? await import('./uncommon.ts') : null;
  const foldPad = (spatial ?? quantized)?.foldPad;
  const bound: readonly (readonly Pass[])[] = [
    [
      ...(rare ? [rare.drawOnDevice, rare.expandFeatures] : []),
      ...(uncommon ? [uncommon.expandGroupNorm, uncommon.expandMeanVariance, uncommon.expandExperts] : []),
      ...(norms ? [norms.expandSplitGelu] : []),
      ...(spatial ? [spatial.expandBatchNorm] : []),
      ...(quantized ? [quantized.expandQuantized] : []),
      ...(attention ? [attention.expandEmbedding] : []),
      expandImageScaler,
      expandIntegerProduct,
      removeIdentity,
      removeNoops,
      mergeCasts,
      mergeDuplicates,
      mergeTransposes,
      mergeViews,
      dropExpand,
      ...(foldPad ? [foldPad] : []),
      gatherAsReshape,
      outerProduct,
    ],
    [
      ...(spatial ? [spatial.fuseConvSum, spatial.gatherTransposed] : []),
      ...(norms ? [norms.fuseNorm, norms.fuseSoftmax] : []),
      ...(attention ? [attention.fuseRotary] : []),
      fuseSquares,
      removeNoops,
      mergeTransposes,
      sinkTransposes,
      hoistTransposes,
    ],
    [
      ...(attention ? [attention.fuseAttention] : []),
      ...(spatial ? [spatial.channelsFirst] : []),
      gatherSlices,
      removeNoops,
      mergeDuplicates,
      mergeTransposes,
    ],
    attention ? [attention.packHeads, attention.relativePositions] : [],
    attention ? [attention.mergeMoves] : [],
    attention ? [attention.hoistMoves, attention.mergeProjections] : [],
    [transposeAsReshape, mergeViews, hoistViews, sinkViews],
  ];
  const allowed = (list: readonly Pass[]): readonly Pass[] => list.filter((p) => allow.has(p.exactness));
  return {
    allow,
    free: allowed([
      ...(spatial ? [spatial.expandNhwcConv, spatial.expandFusedConv] : []),
      expandFusedGemm,
      removeIdentity,
      foldConstants,
      mergeDuplicates,
      mergeTransposes,
      ...(spatial ? [spatial.foldBatchNorm, spatial.foldScale] : []),
    ]),
    bytes: quantized ? allowed([quantized.moveQuantized, quantized.fuseQuantized]) : [],
    lowerings: [...(spatial ? [spatial.lowerBatchNorm] : []), ...(quantized ? [quantized.lowerQuantized] : [])],
    bound: bound.map(allowed),
  };
}

/** The graph with the passes for known shapes applied. */
export function simplify(
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  ops: ReadonlyMap<string, Op>,
  { bound }: Rules,
  device: DeviceKind,
  trace?: Tracer,
  log?: Log,
): Bound {
  const lists = bound
    .map((list) => list.filter((p) => p.device === undefined || p.device === device))
    .filter((list) => list.length > 0);
  return lists.length === 0 ? graph : rewriteBound(graph, wanted, lists, ops, trace, log);
}
