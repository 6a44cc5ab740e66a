import { numbers } from '../../core/numbers.ts';
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import { foldedBias, scaledWeights } from '../batchnorm.ts';
import type { Pass } from '../rewrite.ts';
import { channelsOf } from './fold-batchnorm.ts';

/**
 * What an operator does with a convolution's result `y` and a constant `c`, as y * scale + shift; null where it is not
 * of that kind.
 */
const AFFINE: Readonly<Record<string, (c: number, first: boolean) => readonly [scale: number, shift: number] | null>> =
  {
    Mul: (c) => [c, 0],
    Add: (c) => [1, c],
    Sub: (c, first) => (first ? [1, -c] : [-1, c]),
    Div: (c, first) => (first && c !== 0 ? [1 / c, 0] : null),
  };

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(Math.abs(n)));

/**
 * Mul, Add, Sub or Div by a constant per channel behind a convolution with constant weights goes into the weights. A
 * factor that would round them, the same way at each position of an image, stays behind a Conv: its epilogue multiplies
 * once per output.
 */
export const foldScale: Pass = {
  name: 'fold-scale',
  exactness: 'reassociates',
  roots: ({ op }) => op in AFFINE,
  rewrite: (node, graph) => {
    const affine = AFFINE[node.op];
    if (affine === undefined) return null;
    const at = node.inputs.findIndex((v) => {
      const m = graph.maker(v);
      return m?.op === 'Conv' || m?.op === 'ConvTranspose';
    });
    const conv = graph.maker(node.inputs[at]);
    const c = graph.constant(node.inputs[1 - at]);
    if (conv === undefined || c === null || !graph.readOnce(node.inputs[at]!)) return null;
    const w = graph.fact(conv.inputs[1])?.constant;
    const b = conv.inputs[2] == null ? null : graph.constant(conv.inputs[2]);
    if (w === undefined || (conv.inputs[2] != null && b === null) || c.dtype !== w.dtype) return null;
    const { channels, run, channelOf } = channelsOf(conv, w);
    const perChannel = valuesPerChannel(c, w.shape.length, channels);
    const pairs = perChannel?.map((v) => (Number.isFinite(v) ? affine(v, at === 0) : null));
    if (pairs === undefined || pairs.some((p) => p === null)) return null;
    const scale = Float64Array.from(pairs, (p) => p![0]);
    const shift = Float64Array.from(pairs, (p) => p![1]);
    if (conv.op === 'Conv' && !scale.every(isPowerOfTwo)) return null;
    // Weights that others read too would be there twice.
    if (node.op !== 'Add' && graph.readers(conv.inputs[1]!).length !== 1) return null;
    const weights = scale.every((s) => s === 1)
      ? conv.inputs[1]!
      : graph.addValue(`${graph.nameOf(conv.inputs[1]!)}.scaled`, scaledWeights(w, scale, run, channelOf));
    const bias =
      b === null && shift.every((s) => s === 0)
        ? null
        : graph.addValue(`${conv.name}.bias`, foldedBias(w.dtype, b, { scale, shift }));
    return {
      reason: `${node.name} scales and shifts the channels of ${conv.name}: its weights do that`,
      remove: [conv, node],
      add: [{ ...conv, inputs: [conv.inputs[0]!, weights, bias], outputs: [node.outputs[0]!] }],
    };
  },
};

/**
 * A constant that is broadcast to [N, C, …] of this rank along channels, or one number, as a number for each channel;
 * undefined for others.
 */
function valuesPerChannel(c: Tensor, rank: number, channels: number): readonly number[] | undefined {
  const v = numbers(c);
  if (c.shape.length > rank) return undefined;
  if (sizeOf(c.shape) === 1) return new Array<number>(channels).fill(v[0]!);
  const fits = c.shape.every((d, i) => d === (i + rank - c.shape.length === 1 ? channels : 1));
  return fits ? Array.from(v) : undefined;
}
