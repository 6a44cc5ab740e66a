import { DTYPE_OF_ONNX } from '../../core/dtype.ts';
import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf, type Tensor, zeros } from '../../core/tensor.ts';
import { fromNumbers } from '../../core/numbers.ts';
import type { GraphView, Pass, Patch } from '../rewrite.ts';
import { besides, closed, derived, equal, listOf, reshapedConstant, scalarOf, soleReader } from './patterns.ts';

/** `node`, if it is a mean over its input's last `axes.length` axes that keeps them. */
function meanOf(node: Node | undefined, graph: GraphView): { source: ValueId; axis: number; rank: number } | null {
  if (node?.op !== 'ReduceMean' || node.attrs.keepdims !== 1) return null;
  const source = node.inputs[0]!;
  const rank = graph.fact(source)?.shape.length;
  const axes = listOf(graph, node.inputs[1])
    ?.map((a) => (a < 0 ? a + (rank ?? 0) : a))
    .sort((a, b) => a - b);
  if (
    rank === undefined ||
    axes === undefined ||
    axes.length === 0 ||
    axes.some((a, i) => a !== rank - axes.length + i)
  )
    return null;
  return { source, axis: rank - axes.length, rank };
}

/** The value of which `node` makes the square. */
function squareOf(node: Node | undefined, graph: GraphView): ValueId | null {
  if (node?.op === 'Mul' && node.inputs[0] === node.inputs[1]) return node.inputs[0]!;
  return node?.op === 'Pow' && scalarOf(graph, node.inputs[1]) === 2 ? node.inputs[0]! : null;
}

interface Inverse {
  readonly nodes: readonly Node[];
  readonly variance: ValueId;
  readonly epsilon: number;
}
/** Nodes that make √(variance + ε), as far back as the sum. */
function deviation(v: ValueId | null | undefined, graph: GraphView): Inverse | null {
  const root = graph.maker(v);
  if (root?.op !== 'Sqrt' && !(root?.op === 'Pow' && scalarOf(graph, root.inputs[1]) === 0.5)) return null;
  const sum = sumOf(root.inputs[0], graph);
  return sum && { ...sum, nodes: [...sum.nodes, root] };
}
function sumOf(v: ValueId | null | undefined, graph: GraphView): Inverse | null {
  const sum = graph.maker(v);
  if (sum?.op !== 'Add') return null;
  const at = sum.inputs.findIndex((u) => scalarOf(graph, u) !== null);
  const epsilon = at < 0 ? null : scalarOf(graph, sum.inputs[at]);
  return epsilon === null || !(epsilon >= 0) ? null : { nodes: [sum], variance: sum.inputs[1 - at]!, epsilon };
}
/** Nodes that make 1 / √(variance + ε). */
function inverse(v: ValueId | null | undefined, graph: GraphView): Inverse | null {
  const node = graph.maker(v);
  if (node === undefined) return null;
  const below =
    node.op === 'Reciprocal'
      ? deviation(node.inputs[0], graph)
      : node.op === 'Div' && scalarOf(graph, node.inputs[0]) === 1
        ? deviation(node.inputs[1], graph)
        : node.op === 'Pow' && scalarOf(graph, node.inputs[1]) === -0.5
          ? sumOf(node.inputs[0], graph)
          : null;
  return below && { ...below, nodes: [...below.nodes, node] };
}

interface Core {
  readonly nodes: readonly Node[];
  /** What is normalised, and the axis from which on. */
  readonly x: ValueId;
  readonly axis: number;
  readonly epsilon: number;
  readonly centred: boolean;
}
/** The nodes that end in `node` and make (x - mean(x)) / √(var(x) + ε), or x / √(mean(x²) + ε). */
function coreOf(node: Node, graph: GraphView): Core | null {
  const ways: [ValueId, Inverse | null][] =
    node.op === 'Div'
      ? [[node.inputs[0]!, deviation(node.inputs[1], graph)]]
      : node.op === 'Mul'
        ? [
            [node.inputs[0]!, inverse(node.inputs[1], graph)],
            [node.inputs[1]!, inverse(node.inputs[0], graph)],
          ]
        : [];
  for (const [c, scale] of ways) {
    if (scale === null) continue;
    const mean = graph.maker(scale.variance);
    const over = meanOf(mean, graph);
    const square = over && graph.maker(over.source);
    if (over === null || squareOf(square!, graph) !== c) continue;
    const core = [square!, mean!, ...scale.nodes, node];
    const sub = graph.maker(c);
    const first = sub?.op === 'Sub' ? graph.maker(sub.inputs[1]) : undefined;
    const centre = meanOf(first, graph);
    if (
      centre !== null &&
      centre.source === sub!.inputs[0] &&
      centre.axis === over.axis &&
      closed(graph, [first!, sub!, ...core])
    )
      return {
        nodes: [first!, sub!, ...core],
        x: centre.source,
        axis: over.axis,
        epsilon: scale.epsilon,
        centred: true,
      };
    if (closed(graph, core)) return { nodes: core, x: c, axis: over.axis, epsilon: scale.epsilon, centred: false };
  }
  return null;
}

/**
 * A layer's decomposed normalisation is one operator: LayerNormalization where the mean is taken off, else
 * SimplifiedLayerNormalization.
 */
export const fuseNorm: Pass = {
  name: 'fuse-norm',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'Div' || op === 'Mul',
  rewrite: (node, graph) => {
    if (node.op !== 'Div' && node.op !== 'Mul') return null;
    const core = coreOf(node, graph);
    const fact = core && graph.fact(core.x);
    if (!core || !fact || !/^(float32|b?float16)$/.test(fact.dtype) || sizeOf(fact.shape) === 0) return null;
    let { x } = core;
    const nodes = [...core.nodes];
    let y = node.outputs[0]!;
    // Narrow values that were widened for this alone are read as they are: the operator computes in f32 anyway.
    const widened = graph.maker(x);
    const back = soleReader(graph, y);
    const narrow = widened?.op === 'Cast' ? graph.fact(widened.inputs[0])?.dtype : undefined;
    if (
      fact.dtype === 'float32' &&
      narrow !== undefined &&
      /^b?float16$/.test(narrow) &&
      back?.op === 'Cast' &&
      DTYPE_OF_ONNX[back.attrs.to as number] === narrow
    ) {
      x = widened!.inputs[0]!;
      nodes.push(back);
      y = back.outputs[0]!;
    }
    const { dtype } = graph.fact(x)!;
    const tail = fact.shape.slice(core.axis);
    const over = (v: ValueId | undefined): ValueId | null =>
      v === undefined ? null : parameter(v, tail, dtype, graph);
    let scale: ValueId | null = null;
    let bias: ValueId | null = null;
    const times = soleReader(graph, y);
    if (times?.op === 'Mul' && (scale = over(besides(times, y))) !== null) {
      nodes.push(times);
      y = times.outputs[0]!;
    }
    const plus = core.centred ? soleReader(graph, y) : undefined;
    if (plus?.op === 'Add' && (bias = over(besides(plus, y))) !== null) {
      nodes.push(plus);
      y = plus.outputs[0]!;
    }
    scale ??= graph.addValue(`ones [${tail}]`, fromNumbers(dtype, tail, new Float64Array(sizeOf(tail)).fill(1)));
    return patch(
      core,
      nodes,
      {
        op: core.centred ? 'LayerNormalization' : 'SimplifiedLayerNormalization',
        inputs: bias === null ? [x, scale] : [x, scale, bias],
        y,
      },
      node,
    );
  },
};

function patch(
  core: Core,
  nodes: readonly Node[],
  to: { op: string; inputs: readonly ValueId[]; y: ValueId },
  like: Node,
): Patch {
  return {
    reason: `${core.nodes.length} nodes up to ${like.name} normalise from axis ${core.axis} on`,
    remove: nodes,
    add: [
      {
        op: to.op,
        name: like.name,
        inputs: to.inputs,
        outputs: [to.y],
        attrs: { axis: core.axis, epsilon: core.epsilon, stash_type: 1 },
        opset: like.opset,
      },
    ],
  };
}

/**
 * A scale or bias as a constant of exactly the normalised dims; null for a value that is none, or varies over other
 * axes.
 */
function parameter(v: ValueId, tail: readonly number[], dtype: string, graph: GraphView): ValueId | null {
  const fact = graph.fact(v);
  if (fact?.constant === undefined || fact.dtype !== dtype) return null;
  const lead = fact.shape.length - tail.length;
  const own = lead >= 0 ? fact.shape.slice(lead) : [...new Array<number>(-lead).fill(1), ...fact.shape];
  if (lead > 0 && fact.shape.slice(0, lead).some((d) => d !== 1)) return null;
  if (equal(fact.shape, tail)) return v;
  if (equal(own, tail)) {
    const same = reshapedConstant(fact.constant, tail);
    return same && graph.addValue(graph.nameOf(v), same);
  }
  if (sizeOf(fact.shape) !== 1) return null;
  const spread = derived(
    fact.constant,
    `fill ${tail}`,
    (t) => ({ ...zeros(t.dtype, tail), data: zeros(t.dtype, tail).data.fill(t.data[0] as never) }) as Tensor,
  );
  return spread && graph.addValue(graph.nameOf(v), spread);
}
