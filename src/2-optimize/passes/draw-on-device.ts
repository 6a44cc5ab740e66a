import { constantOf } from '../../core/graph.ts';
import { tensor } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

/** Random operators and their inputs without a key. */
const DRAWN: Readonly<Record<string, number>> = {
  RandomUniform: 0,
  RandomNormal: 0,
  RandomUniformLike: 1,
  RandomNormalLike: 1,
  Bernoulli: 1,
  Multinomial: 1,
};

/**
 * A key for each random operator, as its last input: the bits of its seed, or two words that the host draws from the
 * session's in every run. GPU kernels count from it; the numbers are as good as the reference's, and others.
 */
export const drawOnDevice: Pass = {
  name: 'draw-on-device',
  exactness: 'reassociates',
  device: 'webgpu',
  roots: ({ op }) => op in DRAWN,
  rewrite: (node, graph) => {
    const inputs = node.inputs.slice(0, DRAWN[node.op]!);
    const { seed } = node.attrs;
    if (node.inputs.length > inputs.length) return null;
    const reason = `${node.name} is drawn on the device`;
    if (typeof seed === 'number')
      return {
        reason,
        remove: [node],
        add: [
          {
            ...node,
            inputs: [
              ...inputs,
              graph.addValue(
                `${node.name}.key`,
                tensor('uint32', [2], new Uint32Array(new Float64Array([seed]).buffer)),
              ),
            ],
          },
        ],
      };
    const key = graph.addValue(`${node.name}.key`);
    const words = graph.addValue(`${node.name}.words`, constantOf(tensor('int64', [1], [2])));
    return {
      reason,
      remove: [node],
      add: [nodeOf('sardonyx.RandomKey', node, [words], key, {}, 'key'), { ...node, inputs: [...inputs, key] }],
    };
  },
};
