import type { Node, ValueId } from '../../core/graph.ts';
import { tensor } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

/**
 * com.microsoft.EmbedLayerNormalization as its look-ups, their sum and the norm, at known shapes; a GPU merges the
 * sums.
 */
export const expandEmbedding: Pass = {
  name: 'expand-embedding',
  exactness: 'reassociates',
  device: 'webgpu',
  roots: ({ op }) => op === 'com.microsoft.EmbedLayerNormalization',
  rewrite: (node, graph) => {
    const [ids, segments = null, words, places, types = null, gamma, beta, mask = null, positions = null] =
      node.inputs as (ValueId | null)[];
    const [y, count = null, sum = null] = node.outputs;
    const shape = graph.fact(ids)?.shape;
    if (shape === undefined || y == null) return null;
    const add: Node[] = [];
    const value = (name: string): ValueId => graph.addValue(`${node.name}.${name}`);
    const list = (name: string, ...v: number[]): ValueId =>
      graph.addValue(`${node.name}.${name}`, tensor('int64', [v.length], v));
    const put = (
      op: string,
      part: string,
      inputs: readonly (ValueId | null)[],
      attrs: Node['attrs'] = {},
      to = value(part),
    ): ValueId => {
      add.push(nodeOf(op, node, inputs, to, attrs, part));
      return to;
    };
    const word = put('Gather', 'words', [words!, ids!], { axis: 0 });
    const place =
      positions === null
        ? put('Slice', 'places', [places!, list('from', 0), list('to', shape[1]!), list('axis', 0)])
        : put('Gather', 'places', [places!, positions], { axis: 0 });
    const type = segments === null ? null : put('Gather', 'types', [types!, segments], { axis: 0 });
    const both = type === null ? word : put('Add', 'typed', [word, type]);
    add.push({
      ...nodeOf(
        'com.microsoft.SkipLayerNormalization',
        node,
        [both, place, gamma!, beta!, null],
        y,
        { epsilon: node.attrs.epsilon! },
        'norm',
      ),
      outputs: [y, null, null, sum],
    });
    if (mask === null && count !== null)
      put(
        'Identity',
        'count',
        [graph.addValue(`${node.name}.0`, tensor('int32', [shape[0]!], new Int32Array(shape[0]!)))],
        {},
        count,
      );
    if (mask !== null && count !== null) {
      const kept = put(
        'Cast',
        'kept',
        [put('Equal', 'one', [mask, graph.addValue(`${node.name}.1`, tensor('int32', [], [1]))])],
        { to: 6, saturate: 1, round_mode: 'up', clamp_nibbles: 0 },
      );
      put('ReduceSum', 'count', [kept, list('rows', 1)], { keepdims: 0, noop_with_empty_axes: 0 }, count);
    }
    return { reason: `${node.name} is look-ups, their sum and a norm`, remove: [node], add };
  },
};
