import { axesOf } from '../../../kernels/shapes.ts';
import type { ValueId } from '../../core/graph.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { type Expand, expanding } from './expansion.ts';

/**
 * com.microsoft.GroupNorm, of a sum in SkipGroupNorm, as a GroupNormalization between Transposes, and a SiLU if wanted.
 */
const groupNorm: Expand = (e, node, graph) => {
  const [x, gamma, beta, skip = null, bias = null] = node.inputs as [ValueId, ValueId, ValueId, ValueId?, ValueId?];
  const { dtype, shape } = graph.fact(x)!;
  const { activation, channels_last: last, epsilon, groups } = node.attrs as Readonly<Record<string, number>>;
  const c = shape[last ? 3 : 1]!;
  let sum = x;
  if (skip !== null) {
    const from = graph.fact(skip)!.shape;
    sum = e.put(
      'Add',
      [x, from.length === 2 ? e.reshape(skip, last ? [shape[0]!, 1, 1, c] : [shape[0]!, c, 1, 1]) : skip],
      {},
      bias === null ? node.outputs[1] : null,
    );
    if (bias !== null) sum = e.put('Add', [sum, last ? bias : e.reshape(bias, [c, 1, 1])], {}, node.outputs[1]);
  }
  const planes = last ? e.transpose(sum, [0, 3, 1, 2]) : sum;
  const normed = e.put(
    'GroupNormalization',
    [planes, e.cast(gamma, dtype), e.cast(beta, dtype)],
    { epsilon: epsilon!, num_groups: groups!, stash_type: 1, scale_per_group: 0 },
    last || activation ? null : node.outputs[0],
  );
  const active = activation
    ? e.put('Mul', [normed, e.put('Sigmoid', [normed])], {}, last ? null : node.outputs[0])
    : normed;
  if (last) e.transpose(active, [0, 2, 3, 1], node.outputs[0]);
  return 'a GroupNormalization';
};

/** Norms of ONNX Runtime. */
export const expandGroupNorm: Pass = expanding('expand-group-norm', {
  'com.microsoft.GroupNorm': groupNorm,
  'com.microsoft.SkipGroupNorm': groupNorm,
});

/** MeanVarianceNormalization as its reductions and quotient. */
export const expandMeanVariance: Pass = expanding(
  'expand-mean-variance',
  {
    MeanVarianceNormalization: (e, node, graph) => {
      const { dtype, shape } = graph.fact(node.inputs[0])!;
      const axes = axesOf(node.attrs.axes as readonly number[], shape.length);
      if (axes.length === 0 || sizeOf(shape) === 0) return null;
      const x = e.cast(node.inputs[0]!, 'float32');
      const wide = dtype === 'float32';
      const centred = e.put('Sub', [x, e.reduce('ReduceMean', x, axes)]);
      const deviation = e.put('Add', [
        e.put('Sqrt', [e.reduce('ReduceMean', e.put('Mul', [centred, centred]), axes)]),
        e.number('float32', 1e-9),
      ]);
      const y = e.put('Div', [centred, deviation], {}, wide ? node.outputs[0] : null);
      if (!wide) e.cast(y, dtype, node.outputs[0]);
      return 'a quotient of differences and their deviation';
    },
  },
  'webgpu',
);
