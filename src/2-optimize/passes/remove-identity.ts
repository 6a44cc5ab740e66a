import type { Pass } from '../rewrite.ts';
import { forward } from './patterns.ts';

/** What reads a copy reads the original. */
export const removeIdentity: Pass = {
  name: 'remove-identity',
  exactness: 'exact',
  rewrite: (node, graph) => (node.op === 'Identity' && node.inputs[0] != null && node.outputs[0] != null ? forward(node, node.inputs[0], graph, `${node.name} copies its input`) : null),
};
