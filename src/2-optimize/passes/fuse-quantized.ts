/**
 * Models whose quantised layers are written as DequantizeLinear, float operators and QuantizeLinear: those layers as
 * products of integers, where a device has kernels for them. Sums are then exact instead of rounded, and scaled once; a
 * result may fall to the neighbouring step.
 */
import type { Op } from '../../../kernels/define.ts';
import type { Node, ValueId } from '../../core/graph.ts';
import { fromNumbers, numbers } from '../../core/numbers.ts';
import { sizeOf, type Tensor } from '../../core/tensor.ts';
import type { GraphView, Pass, Patch } from '../rewrite.ts';
import { nodeOf, scalarOf } from './patterns.ts';

const RANGE: Readonly<Record<string, readonly [number, number]>> = { uint8: [0, 255], int8: [-128, 127] };
/** Sums of this many products of bytes fit 31 bits. */
const MOST_TERMS = 1 << 14;

/** A quantised value beside its constant scale and zero point. */
interface Quantised {
  readonly node: Node;
  readonly value: ValueId;
  readonly scale: ValueId;
  readonly zero: ValueId | null;
  readonly dtype: string;
  readonly scales: readonly number[];
  readonly zeros: readonly number[];
}
/**
 * What a QuantizeLinear or DequantizeLinear says; null where its scale and zero point are no constants, or it is in
 * blocks or of other types.
 */
function quantised(node: Node | undefined, graph: GraphView): Quantised | null {
  if (
    node === undefined ||
    !/^(com\.microsoft\.)?(Dequantize|Quantize)Linear$/.test(node.op) ||
    (node.attrs.block_size as number | undefined) ||
    node.attrs.precision
  )
    return null;
  const [value, scale, zero] = node.inputs as [ValueId, ValueId, (ValueId | null)?];
  const s = graph.constant(scale);
  const z = zero == null ? null : graph.constant(zero);
  const dtype = z?.dtype ?? graph.constant(value)?.dtype;
  if (
    s?.dtype !== 'float32' ||
    dtype === undefined ||
    (zero != null && z === null) ||
    (node.attrs.output_dtype && /Deq/.test(node.op) && node.attrs.output_dtype !== 1)
  )
    return null;
  return {
    node,
    value,
    scale,
    zero: zero ?? null,
    dtype,
    scales: Array.from(numbers(s)),
    zeros: z ? Array.from(numbers(z)) : [0],
  };
}
const dequantised = (v: ValueId | null | undefined, graph: GraphView): Quantised | null => {
  const m = graph.maker(v);
  return m?.op.endsWith('DequantizeLinear') ? quantised(m, graph) : null;
};
const isSingle = (q: Quantised): boolean => q.scales.length === 1 && q.zeros.length === 1 && q.dtype in RANGE;
const sameSteps = (a: Quantised, b: Quantised): boolean =>
  isSingle(a) && isSingle(b) && a.dtype === b.dtype && a.scales[0] === b.scales[0] && a.zeros[0] === b.zeros[0];
const zeroOf = (q: Quantised, graph: GraphView): ValueId =>
  q.zero ?? graph.addValue(`${q.node.name}.zero`, fromNumbers(q.dtype as 'uint8', [], [0]));

/** Does the range of the result hold all that an activation leaves? Then saturation does its work. */
function saturates(node: Node, to: Quantised, graph: GraphView): boolean {
  const [least, most] = RANGE[to.dtype]!;
  const bound = (at: number, name: string): number | null =>
    node.inputs[at] == null ? ((node.attrs[name] as number | undefined) ?? null) : scalarOf(graph, node.inputs[at]);
  const step = (v: number): number => Math.round(v / to.scales[0]!) + to.zeros[0]!;
  if (node.op === 'Relu') return to.zeros[0] === least;
  if (node.op !== 'Clip' || node.inputs.slice(1).some((v) => v != null && graph.constant(v) === null)) return false;
  const [low, high] = [bound(1, 'min'), bound(2, 'max')];
  return (low === null || step(low) <= least) && (high === null || step(high) >= most);
}

/** The operator that makes what `to` quantises, without an activation that saturation does. */
function source(to: Quantised, graph: GraphView): Node | null {
  if (!graph.readOnce(to.value)) return null;
  const node = graph.maker(to.value);
  if (node === undefined || !saturates(node, to, graph)) return node ?? null;
  return graph.readOnce(node.inputs[0]!) ? (graph.maker(node.inputs[0]) ?? null) : null;
}

/** The bias as integers of step `scales`; undefined where it is none. */
function biasOf(
  v: ValueId | null | undefined,
  scales: readonly number[],
  graph: GraphView,
): ValueId | null | undefined {
  if (v == null) return null;
  const b = dequantised(v, graph);
  if (b === null || b.dtype !== 'int32' || b.zeros.some((z) => z !== 0) || graph.constant(b.value) === null)
    return undefined;
  const one = (of: readonly number[], i: number): number => of[of.length === 1 ? 0 : i]!;
  const fits = Array.from(
    { length: Math.max(b.scales.length, scales.length) },
    (_, i) => Math.abs(one(b.scales, i) - one(scales, i)) <= 1e-6 * one(scales, i),
  );
  return fits.every(Boolean) ? b.value : undefined;
}

function convolution(conv: Node, to: Quantised, graph: GraphView): Patch | null {
  const x = dequantised(conv.inputs[0], graph);
  const w = dequantised(conv.inputs[1], graph);
  const weights = w && graph.constant(w.value);
  if (
    !x ||
    !isSingle(x) ||
    !w ||
    !weights ||
    !(w.dtype in RANGE) ||
    (w.scales.length > 1 && w.node.attrs.axis !== 0) ||
    sizeOf(weights.shape.slice(1)) >= MOST_TERMS
  )
    return null;
  const filters = weights.shape[0]!;
  if (![1, filters].includes(w.scales.length) || ![1, filters].includes(w.zeros.length)) return null;
  const bias = biasOf(
    conv.inputs[2],
    w.scales.map((s) => Math.fround(x.scales[0]! * s)),
    graph,
  );
  if (bias === undefined) return null;
  return {
    reason: `${conv.name} is a convolution of bytes`,
    remove: [to.node],
    add: [
      nodeOf(
        'QLinearConv',
        conv,
        [
          x.value,
          x.scale,
          zeroOf(x, graph),
          w.value,
          w.scale,
          zeroOf(w, graph),
          to.scale,
          zeroOf(to, graph),
          ...(bias === null ? [] : [bias]),
        ],
        to.node.outputs[0]!,
        { ...conv.attrs, channels_last: 0 },
      ),
    ],
  };
}

function product(node: Node, to: Quantised, graph: GraphView): Patch | null {
  const [a, b] = [dequantised(node.inputs[0], graph), dequantised(node.inputs[1], graph)];
  const weights: Tensor | null = b && graph.constant(b.value);
  if (
    !a ||
    !b ||
    !isSingle(a) ||
    !(b.dtype in RANGE) ||
    (weights === null ? !isSingle(b) : weights.shape.length !== 2 || weights.shape[0]! >= MOST_TERMS)
  )
    return null;
  if (b.scales.length > 1 && (b.node.attrs.axis as number) !== 1 && (b.node.attrs.axis as number) !== -1) return null;
  if (b.zeros.length !== 1 && b.zeros.length !== b.scales.length) return null;
  return {
    reason: `${node.name} is a product of bytes`,
    remove: [to.node],
    add: [
      nodeOf(
        'QLinearMatMul',
        node,
        [a.value, a.scale, zeroOf(a, graph), b.value, b.scale, zeroOf(b, graph), to.scale, zeroOf(to, graph)],
        to.node.outputs[0]!,
      ),
    ],
  };
}

const quantizes = (op: Op): boolean => op.op.endsWith('QuantizeLinear');

/** Layers between DequantizeLinear and QuantizeLinear as QLinearConv and QLinearMatMul. */
export const fuseQuantized: Pass = {
  name: 'fuse-quantized',
  exactness: 'reassociates',
  roots: quantizes,
  rewrite: (node, graph) => {
    const to = quantised(node, graph);
    if (to === null || !isSingle(to)) return null;
    const from = source(to, graph);
    return from === null
      ? null
      : from.op === 'Conv'
        ? convolution(from, to, graph)
        : from.op === 'MatMul'
          ? product(from, to, graph)
          : null;
  },
};

/** Operators that move elements and look at none of them, by how many of their inputs they move. */
const MOVES: Readonly<Record<string, number>> = {
  Reshape: 1,
  Flatten: 1,
  Squeeze: 1,
  Unsqueeze: 1,
  Transpose: 1,
  Slice: 1,
  Gather: 1,
  Expand: 1,
  Tile: 1,
  DepthToSpace: 1,
  SpaceToDepth: 1,
  Identity: 1,
  Pad: 1,
  Concat: Infinity,
};
/**
 * Elements that are dequantised, moved and quantised are moved as bytes; with the same steps they are what they were.
 */
export const moveQuantized: Pass = {
  name: 'move-quantized',
  exactness: 'exact',
  roots: quantizes,
  rewrite: (node, graph) => {
    const to = quantised(node, graph);
    const y = node.outputs[0]!;
    if (to === null || !isSingle(to)) return null;
    const back = dequantised(to.value, graph);
    if (back !== null && sameSteps(back, to) && !graph.isOutput(y))
      return {
        reason: `${node.name} takes back what ${back.node.name} does`,
        remove: [node],
        add: [],
        instead: [[y, back.value]],
      };
    const move = graph.maker(to.value);
    const count = move && MOVES[move.op];
    if (move === undefined || count === undefined || !graph.readOnce(to.value)) return null;
    const moved = move.inputs.slice(0, count);
    if (
      moved.some((v) => {
        const q = dequantised(v, graph);
        return q === null || !isSingle(q);
      })
    )
      return null;
    const add: Node[] = moved.map((v, i) =>
      nodeOf(
        node.op,
        node,
        [v!, ...node.inputs.slice(1)],
        graph.addValue(`${node.name}.${i}`),
        node.attrs,
        moved.length > 1 ? String(i) : '',
      ),
    );
    const inputs = [...add.map((q) => q.outputs[0]!), ...move.inputs.slice(moved.length)];
    if (move.op === 'Pad' && move.attrs.mode === 'constant') {
      if (
        move.inputs[2] == null
          ? move.attrs.value !== undefined && move.attrs.value !== 0
          : scalarOf(graph, move.inputs[2]) !== 0
      )
        return null;
      inputs[2] = graph.addValue(`${move.name}.zero`, fromNumbers(to.dtype as 'uint8', [], [to.zeros[0]!]));
    }
    return { reason: `${move.name} moves bytes`, remove: [node], add: [...add, { ...move, inputs, outputs: [y] }] };
  },
};
