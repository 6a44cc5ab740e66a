import type { Pass } from '../rewrite.ts';
import { broadcast } from '../../../kernels/shapes.ts';
import { equal, isElementwise, isMap } from './patterns.ts';

/**
 * An elementwise operator broadcasts by itself: it reads what an Expand would repeat, where its result has the same
 * shape without.
 */
export const dropExpand: Pass = {
  name: 'drop-expand',
  exactness: 'exact',
  roots: isMap,
  rewrite: (node, graph) => {
    if (!isElementwise(node, graph)) return null;
    const out = graph.fact(node.outputs[0])?.shape;
    for (const [at, v] of node.inputs.entries()) {
      const expand = graph.maker(v);
      if (expand?.op !== 'Expand' || out === undefined) continue;
      const inputs = node.inputs.map((u, i) => (i === at ? expand.inputs[0]! : u));
      const shapes = inputs.filter((u) => u !== null).map((u) => graph.fact(u)?.shape);
      if (shapes.some((s) => s === undefined) || !equal(broadcast(...(shapes as (readonly number[])[])), out)) continue;
      return {
        reason: `${node.name} broadcasts what ${expand.name} repeats`,
        remove: [node],
        add: [{ ...node, inputs }],
      };
    }
    return null;
  },
};
