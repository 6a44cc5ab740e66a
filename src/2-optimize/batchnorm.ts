import type { DType } from '../core/dtype.ts';
import { fromNumbers, numbers } from '../core/numbers.ts';
import { constantOf, type Constant, type Node } from '../core/graph.ts';
import { bytesOfTensor, sizeOf, tensor, type Tensor, tensorOver } from '../core/tensor.ts';

/** Inference-time batch normalisation as y = x * scale + shift, per channel, computed in double. */
export function scaleAndShift(
  node: Node,
  [scale, bias, mean, variance]: readonly [Tensor, Tensor, Tensor, Tensor],
): { scale: Float64Array; shift: Float64Array } {
  const [g, b, m, v] = [scale, bias, mean, variance].map(numbers) as [
    ArrayLike<number>,
    ArrayLike<number>,
    ArrayLike<number>,
    ArrayLike<number>,
  ];
  const epsilon = node.attrs.epsilon as number;
  const s = Float64Array.from(g, (x, c) => x / Math.sqrt(v[c]! + epsilon));
  return { scale: s, shift: Float64Array.from(s, (x, c) => b[c]! - m[c]! * x) };
}

/** Made once a node and rank, so that plans of different dims share the weights. */
const made = new WeakMap<object, Map<number, { scale: Constant; shift: Constant }>>();

/**
 * Scale and shift as constants that broadcast over [N, C, …] of this rank; null if the node's statistics are not
 * constants, or it trains.
 */
export function batchNormConstants(
  node: Node,
  rank: number,
  statistics: readonly (Tensor | null)[],
): { scale: Constant; shift: Constant } | null {
  if (
    node.op !== 'BatchNormalization' ||
    node.attrs.training_mode ||
    !node.attrs.spatial ||
    rank < 2 ||
    statistics.some((t) => t === null)
  )
    return null;
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
 * The weights of a convolution whose channels are scaled, computed when a device wants them. They are runs of `run`
 * elements that work for one output channel, `channelOf` that of each.
 */
export function scaledWeights(
  { dtype, shape, load, stored }: Constant,
  scale: Float64Array,
  run: number,
  channelOf: (run: number) => number,
): Constant {
  /** Of elements from number `first` on. */
  const scaled = <T extends Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>>(
    from: ArrayLike<number>,
    to: T,
    first: number,
  ): T => {
    for (let r = Math.floor(first / run), at = 0; at < to.length; r++) {
      const end = Math.min(to.length, (r + 1) * run - first);
      multiply(from, to, at, end, scale[channelOf(r)]!);
      at = end;
    }
    return to;
  };
  const whole = (w: Tensor): Tensor =>
    dtype === 'float32'
      ? tensor('float32', shape, scaled(numbers(w), new Float32Array(sizeOf(shape)), 0))
      : fromNumbers(dtype, shape, scaled(numbers(w), new Float64Array(sizeOf(shape)), 0));
  const part = (bytes: Uint8Array, first: number): Uint8Array =>
    bytesOfTensor(
      tensor(
        'float32',
        [bytes.length / 4],
        scaled(numbers(tensorOver('float32', [bytes.length / 4], bytes)), new Float32Array(bytes.length / 4), first),
      ),
    );
  return {
    dtype,
    shape,
    peek: () => null,
    load: () => then(load(), whole),
    ...(stored && dtype === 'float32'
      ? {
          stored: {
            order: stored.order,
            read: (offset: number, length: number) =>
              then(stored.read(offset, length), (bytes) => part(bytes, offset / 4)),
          },
        }
      : {}),
  };
}
const then = <A, B>(a: A | Promise<A>, f: (a: A) => B): B | Promise<B> => (a instanceof Promise ? a.then(f) : f(a));
function multiply(
  from: ArrayLike<number>,
  to: Float32Array | Float64Array,
  start: number,
  end: number,
  by: number,
): void {
  for (let i = start; i < end; i++) to[i] = from[i]! * by;
}

/** The bias of a convolution with weights of type `dtype` whose channels are scaled and shifted. */
export function foldedBias(
  dtype: DType,
  bias: Tensor | null,
  { scale, shift }: { scale: Float64Array; shift: Float64Array },
): Tensor {
  const b = bias ? numbers(bias) : null;
  return fromNumbers(
    dtype,
    [shift.length],
    Float64Array.from(shift, (x, c) => x + (b ? b[c]! * scale[c]! : 0)),
  );
}
