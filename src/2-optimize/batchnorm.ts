import type { DType } from '../core/dtype.ts';
import { fromNumbers, numbers } from '../core/numbers.ts';
import { constantOf, type Constant, type Node } from '../core/graph.ts';
import { sizeOf, tensor, type Tensor } from '../core/tensor.ts';

/** Inference-time batch normalisation as y = x * scale + shift, per channel, computed in double. */
export function scaleAndShift(node: Node, [scale, bias, mean, variance]: readonly [Tensor, Tensor, Tensor, Tensor]): { scale: Float64Array; shift: Float64Array } {
  const [g, b, m, v] = [scale, bias, mean, variance].map(numbers) as [ArrayLike<number>, ArrayLike<number>, ArrayLike<number>, ArrayLike<number>];
  const epsilon = node.attrs.epsilon as number;
  const s = Float64Array.from(g, (x, c) => x / Math.sqrt(v[c]! + epsilon));
  return { scale: s, shift: Float64Array.from(s, (x, c) => b[c]! - m[c]! * x) };
}

/** Made once a node and rank, so that plans of different dims share the weights. */
const made = new WeakMap<object, Map<number, { scale: Constant; shift: Constant }>>();

/** Scale and shift as constants that broadcast over [N, C, …] of this rank; null if the node's statistics are not constants, or it trains. */
export function batchNormConstants(node: Node, rank: number, statistics: readonly (Tensor | null)[]): { scale: Constant; shift: Constant } | null {
  if (node.op !== 'BatchNormalization' || node.attrs.training_mode || !node.attrs.spatial || rank < 2 || statistics.some((t) => t === null)) return null;
  const byRank = made.get(node.attrs) ?? new Map<number, { scale: Constant; shift: Constant }>();
  made.set(node.attrs, byRank);
  let constants = byRank.get(rank);
  if (constants === undefined) {
    const { scale, shift } = scaleAndShift(node, statistics as [Tensor, Tensor, Tensor, Tensor]);
    const shape = [scale.length, ...new Array<number>(rank - 2).fill(1)];
    const one = (values: Float64Array): Constant => constantOf(fromNumbers('float32', shape, values));
    byRank.set(rank, (constants = { scale: one(scale), shift: one(shift) }));
  }
  return constants;
}

/**
 * The weights of a convolution whose channels are scaled, computed when a device wants them. They are runs of `run` elements that work for one
 * output channel, `channelOf` that of each.
 */
export function scaledWeights({ dtype, shape, load }: Constant, scale: Float64Array, run: number, channelOf: (run: number) => number): Constant {
  const scaled = (w: Tensor): Tensor => {
    const from = numbers(w), to = dtype === 'float32' ? new Float32Array(sizeOf(shape)) : new Float64Array(sizeOf(shape));
    for (let r = 0; r * run < to.length; r++) multiply(from, to, r * run, (r + 1) * run, scale[channelOf(r)]!);
    return to instanceof Float32Array ? tensor('float32', shape, to) : fromNumbers(dtype, shape, to);
  };
  return { dtype, shape, peek: () => null, load: () => { const w = load(); return w instanceof Promise ? w.then(scaled) : scaled(w); } };
}
function multiply(from: ArrayLike<number>, to: Float32Array | Float64Array, start: number, end: number, by: number): void {
  for (let i = start; i < end; i++) to[i] = from[i]! * by;
}

/** The bias of a convolution with weights of type `dtype` whose channels are scaled and shifted. */
export function foldedBias(dtype: DType, bias: Tensor | null, { scale, shift }: { scale: Float64Array; shift: Float64Array }): Tensor {
  const b = bias ? numbers(bias) : null;
  return fromNumbers(dtype, [shift.length], Float64Array.from(shift, (x, c) => x + (b ? b[c]! * scale[c]! : 0)));
}
