import type { Node, ValueId } from '../../core/graph.ts';
import { fromNumbers } from '../../core/numbers.ts';
import { broadcast } from '../../../kernels/shapes.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { layoutOf, merged } from './layout.ts';
import { permOf } from './move-transposes.ts';
import { reshapeNode, shapeBefore } from './move-views.ts';
import { derived, equal, nodeOf, scalarOf } from './patterns.ts';

/** A value as the transpose of another, times a number. */
interface Operand {
  readonly base: ValueId;
  readonly perm: readonly number[];
  readonly factor: number;
}

/**
 * What `v`, its axes in the order `perm`, is made of, behind Transposes and, if `scaled`, products with numbers that no
 * one else reads.
 */
function operandOf(v: ValueId, perm: readonly number[], scaled: boolean, graph: GraphView): Operand {
  const from = graph.maker(v);
  const order = permOf(from, graph);
  if (order !== null && order.length === perm.length)
    return operandOf(
      from!.inputs[0]!,
      perm.map((p) => order[p]!),
      scaled,
      graph,
    );
  const times = scaled && from !== undefined && graph.readOnce(v) ? scaleOf(from, graph) : null;
  if (times === null) return { base: v, perm, factor: 1 };
  const inner = operandOf(times.of, perm, scaled, graph);
  return { ...inner, factor: inner.factor * times.by };
}

/** A product with, or quotient by, one number. */
function scaleOf(node: Node, graph: GraphView): { of: ValueId; by: number } | null {
  const [a, b] = node.inputs;
  const right = scalarOf(graph, b);
  const left = scalarOf(graph, a);
  const rank = graph.fact(node.outputs[0])?.shape.length;
  const by = node.op === 'Mul' ? (right ?? left) : node.op === 'Div' && right ? 1 / right : null;
  const of = node.op === 'Mul' && right === null ? b! : a!;
  return by === null || !Number.isFinite(by) || graph.fact(of)?.shape.length !== rank ? null : { of, by };
}

/** A value that is added to scores of the shape `to`. */
interface Mask {
  readonly v: ValueId;
  readonly to: readonly number[];
}
interface Scores {
  readonly product: Node;
  readonly factor: number;
  readonly masks: readonly Mask[];
}
/** A fill that is as good as -∞, as a sum with any score is the fill again. */
const FAR = -1e30;

/**
 * The product whose scaled and masked result is `v`, perhaps under another shape; null if that is no such value. `add`
 * gets nodes that make masks.
 */
function scoresOf(
  v: ValueId | null | undefined,
  factor: number,
  masks: readonly Mask[],
  graph: GraphView,
  add: Node[],
): Scores | null {
  const node = graph.maker(v);
  if (v == null || node === undefined || !graph.readOnce(v)) return null;
  if (node.op === 'MatMul') return { product: node, factor, masks };
  if (
    graph.ops.get(node.op)?.view ||
    (node.op === 'Cast' && graph.fact(v)!.dtype === 'float32' && isNarrow(graph.fact(node.inputs[0])?.dtype))
  )
    return scoresOf(node.inputs[0], factor, masks, graph, add);
  const times = scaleOf(node, graph);
  if (times !== null) return scoresOf(times.of, factor * times.by, masks, graph, add);
  // A mask that is scaled with the scores is not Attention's.
  if (factor !== 1) return null;
  const to = graph.fact(v)!.shape;
  const [cond, a, b] = node.inputs;
  if (node.op === 'Add')
    return (
      scoresOf(node.inputs[0], 1, [...masks, { v: node.inputs[1]!, to }], graph, add) ??
      scoresOf(node.inputs[1], 1, [...masks, { v: node.inputs[0]!, to }], graph, add)
    );
  if (node.op !== 'Where') return null;
  const [fill, first] = [scalarOf(graph, a) ?? scalarOf(graph, b), scalarOf(graph, a) !== null];
  if (fill === null || !(fill < FAR)) return null;
  const found = scoresOf(first ? b : a, 1, [...masks, { v: -1, to }], graph, add);
  if (found === null) return null;
  const { dtype } = graph.fact(v)!;
  const known = graph.fact(cond)?.constant;
  const made =
    known &&
    derived(known, `mask ${dtype} ${fill} ${first}`, (t) =>
      fromNumbers(
        dtype,
        t.shape,
        Array.from(t.data as ArrayLike<number>, (keep) => (Boolean(keep) !== first ? 0 : fill)),
      ),
    );
  const mask = made ? graph.addValue(`${node.name}.mask`, made) : graph.addValue(`${node.name}.mask`);
  if (!made) {
    const zero = graph.addValue('zero', fromNumbers(dtype, [], [0]));
    add.push(nodeOf('Where', node, first ? [cond!, a!, zero] : [cond!, zero, b!], mask, {}, 'mask'));
  }
  return { ...found, masks: found.masks.map((m) => (m.v === -1 ? { ...m, v: mask } : m)) };
}
const isNarrow = (dtype: string | undefined): boolean => dtype === 'float16' || dtype === 'bfloat16';

/**
 * Keys or values that were repeated for each group of heads: the ones before that, [batch, heads, steps, size]; null if
 * they were not.
 */
function ungrouped(v: ValueId, graph: GraphView): { base: ValueId; shape: readonly number[] } | null {
  const view = graph.maker(v);
  const expand = view && graph.ops.get(view.op)?.view ? graph.maker(view.inputs[0]) : undefined;
  const to = graph.fact(v)?.shape;
  const [from, wide] = [graph.fact(expand?.inputs[0])?.shape, graph.fact(expand?.outputs[0])?.shape];
  if (expand?.op !== 'Expand' || to === undefined || from?.length !== 5 || wide === undefined) return null;
  const [batch, heads, , steps, size] = from as [number, number, number, number, number];
  if (
    !equal(from, [batch, heads, 1, steps, size]) ||
    !equal(wide, [batch, heads, wide[2]!, steps, size]) ||
    !equal(to, [batch, heads * wide[2]!, steps, size])
  )
    return null;
  return { base: expand.inputs[0]!, shape: [batch, heads, steps, size] };
}

/**
 * What is added to scores of the shape `to`, as one value of rank 4 at most that broadcasts to `four`; undefined where
 * there is no such one.
 */
function maskOf(
  masks: readonly Mask[],
  four: readonly number[],
  node: Node,
  graph: GraphView,
  add: Node[],
): ValueId | null | undefined {
  if (masks.length === 0) return null;
  const finest = masks.reduce((p, m) => (m.to.length > p.length ? m.to : p), four);
  const shapeOf = (v: ValueId): readonly number[] =>
    graph.fact(v)?.shape ?? broadcast(...add.find((n) => n.outputs[0] === v)!.inputs.map((u) => graph.fact(u)!.shape));
  let sum: ValueId | null = null;
  let shape: readonly number[] = [];
  for (const { v, to } of masks) {
    const own = shapeOf(v);
    const under = equal(to, finest) ? own : shapeBefore({ shape: own }, to, finest);
    if (under === null || under.length > finest.length) return undefined;
    const it = equal(under, own) ? v : reshaped(v, under, `mask${add.length}`);
    if (sum === null) [sum, shape] = [it, under];
    else {
      const y = graph.addValue(`${node.name}.mask`);
      add.push(nodeOf('Add', node, [sum, it], y, {}, 'masks'));
      [sum, shape] = [y, broadcast(shape, under)];
    }
  }
  const under = equal(finest, four) ? shape : shapeBefore({ shape }, finest, four);
  if (
    under === null ||
    under.length > 4 ||
    under.length < 1 ||
    under.some((d, i) => d !== 1 && d !== four[4 - under.length + i])
  )
    return undefined;
  return equal(under, shape) ? sum! : reshaped(sum!, under, 'mask');

  function reshaped(v: ValueId, to: readonly number[], part: string): ValueId {
    const y = graph.addValue(`${node.name}.${part}`);
    add.push(reshapeNode(node, graph, v, y, to, part));
    return y;
  }
}

/** [batch, heads] of queries of rank 3, whose first axis is both. */
function batchOf({ base, perm }: Operand, graph: GraphView): readonly [number, number] {
  const n = graph.fact(base)!.shape[perm[0]!]!;
  const { axes } = layoutOf(base, graph);
  const [parts, rows] = [merged(axes[perm[0]!]!), merged(axes[perm[1]!]!)];
  const inner = parts.at(-1);
  // Heads lie within a row, and images or windows apart from each other.
  const heads = inner !== undefined && rows[0] !== undefined && inner.step < rows[0].step ? inner.count : 1;
  return [n / heads, heads];
}

/**
 * softmax(Q Kᵀ · scale + mask) V, written out, is Attention. Rows whose mask is -∞ everywhere, which give NaN as
 * written, are the only ones that may differ.
 */
export const fuseAttention: Pass = {
  name: 'fuse-attention',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'MatMul',
  rewrite: (node, graph) => {
    if (node.op !== 'MatMul') return null;
    const dtype = graph.fact(node.outputs[0])!.dtype;
    let p: ValueId | null = node.inputs[0]!;
    const safe = graph.maker(p);
    // Rows of which every key is masked: zeros, as Attention has them.
    const nan =
      safe?.op === 'Where' && graph.readOnce(p) && scalarOf(graph, safe.inputs[1]) === 0
        ? graph.maker(safe.inputs[0])
        : undefined;
    if (
      nan?.op === 'IsNaN' &&
      nan.inputs[0] === safe!.inputs[2] &&
      graph.readers(nan.inputs[0]!).length === 2 &&
      !graph.isOutput(nan.inputs[0]!)
    )
      p = nan.inputs[0]!;
    const alone = (v: ValueId): boolean => graph.readOnce(v) || v === nan?.inputs[0];
    for (let from = graph.maker(p); from !== undefined && from.op !== 'Softmax' && alone(p); from = graph.maker(p)) {
      if (
        !graph.ops.get(from.op)?.view &&
        !(from.op === 'Cast' && isNarrow(dtype) && graph.fact(from.inputs[0])?.dtype === 'float32')
      )
        return null;
      p = from.inputs[0]!;
    }
    const softmax = graph.maker(p);
    const rank = graph.fact(p)?.shape.length ?? 0;
    if (
      softmax?.op !== 'Softmax' ||
      !alone(p) ||
      (softmax.attrs.axis !== -1 && softmax.attrs.axis !== rank - 1) ||
      !(dtype === 'float32' || isNarrow(dtype))
    )
      return null;
    const add: Node[] = [];
    const scores = scoresOf(softmax.inputs[0], 1, [], graph, add);
    if (scores === null) return null;
    const [one, two] = [graph.fact(scores.product.outputs[0])!.shape, graph.fact(node.inputs[0])!.shape];
    if (
      [one, two].some((s) => s.length !== 3 && s.length !== 4) ||
      !equal(one.slice(-2), two.slice(-2)) ||
      graph.fact(scores.product.outputs[0])!.dtype !== dtype
    )
      return null;
    const straight = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
    const q = operandOf(scores.product.inputs[0]!, straight(one.length), true, graph);
    const k = operandOf(
      scores.product.inputs[1]!,
      [...straight(one.length - 2), one.length - 1, one.length - 2],
      true,
      graph,
    );
    const v = operandOf(node.inputs[1]!, straight(two.length), false, graph);
    const shapeOf = (o: Operand): readonly number[] => o.perm.map((p) => graph.fact(o.base)!.shape[p]!);
    if (shapeOf(q).length !== one.length || shapeOf(k).length !== one.length || shapeOf(v).length !== two.length)
      return null;
    const [queries, keys] = one.slice(-2) as [number, number];
    const [batch, heads] =
      one.length === 4 ? (one as [number, number]) : two.length === 4 ? (two as [number, number]) : batchOf(q, graph);
    const size = shapeOf(q).at(-1)!;
    const valueSize = shapeOf(v).at(-1)!;
    const lead = (rank: number): readonly number[] => (rank === 4 ? [batch, heads] : [batch * heads]);
    if (
      !equal(shapeOf(q), [...lead(one.length), queries, size]) ||
      !equal(shapeOf(k), [...lead(one.length), keys, size]) ||
      !equal(shapeOf(v), [...lead(two.length), keys, valueSize]) ||
      [batch, heads, queries, keys, size, valueSize].includes(0)
    )
      return null;
    const mask = maskOf(scores.masks, [batch, heads, queries, keys], node, graph, add);
    if (mask === undefined) return null;

    const made = (o: Operand, part: string): ValueId => {
      let at = o.base;
      if (!o.perm.every((p, i) => p === i)) {
        at = graph.addValue(`${node.name}.${part}`);
        add.push(nodeOf('Transpose', node, [o.base], at, { perm: o.perm }, part));
      }
      const shape = shapeOf(o);
      return shape.length === 4 ? at : heads4({ base: at, shape: [batch, heads, ...shape.slice(1)] }, `${part}4`);
    };
    const heads4 = (o: { base: ValueId; shape: readonly number[] }, part: string): ValueId => {
      const to = graph.addValue(`${node.name}.${part}`);
      add.push(reshapeNode(node, graph, o.base, to, o.shape, part));
      return to;
    };
    const whole = (o: Operand): boolean => o.perm.length === 4 && o.perm.every((p, i) => p === i);
    const few = whole(k) && whole(v) ? [ungrouped(k.base, graph), ungrouped(v.base, graph)] : [];
    const grouped = few[0] && few[1] && few[0].shape[1] === few[1].shape[1];
    const inputs = [
      made(q, 'queries'),
      grouped ? heads4(few[0]!, 'keys') : made(k, 'keys'),
      grouped ? heads4(few[1]!, 'values') : made(v, 'values'),
      ...(mask === null ? [] : [mask]),
    ];
    const attrs = {
      is_causal: 0,
      left_window_size: -1,
      right_window_size: -1,
      qk_matmul_output_mode: 0,
      softcap: 0,
      scale: scores.factor * q.factor * k.factor,
    };
    const y = node.outputs[0]!;
    const out = two.length === 4 ? y : graph.addValue(`${node.name}.heads`);
    add.push(nodeOf('Attention', node, inputs, out, attrs));
    if (out !== y) add.push(reshapeNode(node, graph, out, y, [batch * heads, queries, valueSize], 'merged'));
    return {
      reason: `${scores.product.name}, ${softmax.name} and ${node.name} are attention of ${heads} heads`,
      remove: [node],
      add,
    };
  },
};
