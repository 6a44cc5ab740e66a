import { sizeOf } from '../../core/tensor.ts';
import { foldedBias, scaleAndShift, scaledWeights } from '../batchnorm.ts';
import type { Constant, Node } from '../../core/graph.ts';
import type { Pass } from '../rewrite.ts';

/** How many channels a convolution makes, and in what runs of elements its weights work for one of them. */
export function channelsOf(
  conv: Node,
  w: Constant,
): { channels: number; run: number; channelOf: (run: number) => number } {
  const kernel = sizeOf(w.shape.slice(2));
  const [first, second] = w.shape as [number, number];
  // W is [M, C/group, …] for Conv, and [C, M/group, …] for ConvTranspose.
  if (conv.op === 'Conv') return { channels: first, run: second * kernel, channelOf: (r) => r };
  const group = conv.attrs.group as number;
  return {
    channels: second * group,
    run: kernel,
    channelOf: (r) => Math.floor(Math.floor(r / second) / (first / group)) * second + (r % second),
  };
}

/** BatchNormalization behind a convolution with constant weights goes into the weights. */
export const foldBatchNorm: Pass = {
  name: 'fold-batchnorm',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'BatchNormalization',
  rewrite: (node, graph) => {
    if (node.op !== 'BatchNormalization' || node.attrs.training_mode || !node.attrs.spatial) return null;
    const conv = graph.maker(node.inputs[0]);
    if (
      conv === undefined ||
      (conv.op !== 'Conv' && conv.op !== 'ConvTranspose') ||
      !graph.readOnce(node.inputs[0]!) ||
      conv.attrs.epilogue !== undefined
    )
      return null;
    const w = graph.fact(conv.inputs[1])?.constant;
    const b = conv.inputs[2] == null ? null : graph.constant(conv.inputs[2]);
    const statistics = node.inputs.slice(1, 5).map((v) => graph.constant(v));
    if (w === undefined || statistics.some((t) => t === null) || (conv.inputs[2] != null && b === null)) return null;
    const [scale, bias, mean, variance] = statistics;
    const affine = scaleAndShift(node, [scale!, bias!, mean!, variance!]);
    const { run, channelOf } = channelsOf(conv, w);
    const inputs = [
      conv.inputs[0]!,
      graph.addValue(`${graph.nameOf(conv.inputs[1]!)}.normalized`, scaledWeights(w, affine.scale, run, channelOf)),
      graph.addValue(`${conv.name}.bias`, foldedBias(w.dtype, b, affine)),
    ];
    return {
      reason: `${node.name} scales and shifts the channels of ${conv.name}: its weights do that`,
      remove: [conv, node],
      add: [{ ...conv, inputs, outputs: [node.outputs[0]!] }],
    };
  },
};
