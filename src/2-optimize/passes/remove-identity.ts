import type { Pass } from '../rewrite.ts';
import { forward, nodeOf } from './patterns.ts';

/** What reads a copy reads the original. A Dropout that cannot be training is a copy once no one reads its mask. */
export const removeIdentity: Pass = {
  name: 'remove-identity',
  exactness: 'exact',
  roots: ({ op }) => op === 'Identity' || op === 'Dropout',
  rewrite: (node, graph) => {
    const [x, y, mask] = [node.inputs[0] ?? null, node.outputs[0] ?? null, node.outputs[1] ?? null];
    if (x === null || y === null) return null;
    if (node.op === 'Identity') return forward(node, x, graph, `${node.name} copies its input`);
    if (
      node.op !== 'Dropout' ||
      node.inputs[2] != null ||
      (mask !== null && (graph.isOutput(mask) || graph.readers(mask).length > 0))
    )
      return null;
    return { reason: `no one reads the mask of ${node.name}`, remove: [node], add: [nodeOf('Identity', node, [x], y)] };
  },
};
