import type { Node, ValueId } from '../../core/graph.ts';
import { tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { permOf } from './move-transposes.ts';
import { equal, nodeOf, scalarOf } from './patterns.ts';

/** A value of rank 4 as the transpose of another, times a number. */
interface Operand { readonly base: ValueId; readonly perm: readonly number[]; readonly factor: number }

/** What `v`, its axes in the order `perm`, is made of, behind Transposes and, if `scaled`, products with numbers that no one else reads. */
function operandOf(v: ValueId, perm: readonly number[], scaled: boolean, graph: GraphView): Operand {
  const from = graph.maker(v);
  const order = permOf(from, graph);
  if (order !== null && order.length === 4) return operandOf(from!.inputs[0]!, perm.map((p) => order[p]!), scaled, graph);
  const times = scaled && from !== undefined && graph.readOnce(v) ? scaleOf(from, graph) : null;
  if (times === null) return { base: v, perm, factor: 1 };
  const inner = operandOf(times.of, perm, scaled, graph);
  return { ...inner, factor: inner.factor * times.by };
}

/** A product with, or quotient by, one number. */
function scaleOf(node: Node, graph: GraphView): { of: ValueId; by: number } | null {
  const [a, b] = node.inputs;
  const right = scalarOf(graph, b), left = scalarOf(graph, a);
  const rank = graph.fact(node.outputs[0])?.shape.length;
  const by = node.op === 'Mul' ? (right ?? left) : node.op === 'Div' && right ? 1 / right : null;
  const of = node.op === 'Mul' && right === null ? b! : a!;
  return by === null || !Number.isFinite(by) || graph.fact(of)?.shape.length !== rank ? null : { of, by };
}

interface Scores { readonly product: Node; readonly factor: number; readonly mask: ValueId | null }
/** The product whose scaled and masked result is `v`; null if that is no such value. */
function scoresOf(v: ValueId | null | undefined, factor: number, mask: ValueId | null, graph: GraphView): Scores | null {
  const node = graph.maker(v);
  if (v == null || node === undefined || !graph.readOnce(v)) return null;
  if (node.op === 'MatMul') return { product: node, factor, mask };
  const times = scaleOf(node, graph);
  if (times !== null) return scoresOf(times.of, factor * times.by, mask, graph);
  // A mask that is scaled with the scores, or one of two, is not Attention's.
  if (node.op !== 'Add' || mask !== null || factor !== 1) return null;
  return scoresOf(node.inputs[0], 1, node.inputs[1]!, graph) ?? scoresOf(node.inputs[1], 1, node.inputs[0]!, graph);
}

/** Keys or values that were repeated for each group of heads: the ones before that, [batch, heads, steps, size]; null if they were not. */
function ungrouped(v: ValueId, graph: GraphView): { base: ValueId; shape: readonly number[] } | null {
  const view = graph.maker(v);
  const expand = view && graph.ops.get(view.op)?.view ? graph.maker(view.inputs[0]) : undefined;
  const to = graph.fact(v)?.shape;
  const [from, wide] = [graph.fact(expand?.inputs[0])?.shape, graph.fact(expand?.outputs[0])?.shape];
  if (expand?.op !== 'Expand' || to === undefined || from?.length !== 5 || wide === undefined) return null;
  const [batch, heads, , steps, size] = from as [number, number, number, number, number];
  if (!equal(from, [batch, heads, 1, steps, size]) || !equal(wide, [batch, heads, wide[2]!, steps, size]) || !equal(to, [batch, heads * wide[2]!, steps, size])) return null;
  return { base: expand.inputs[0]!, shape: [batch, heads, steps, size] };
}

/**
 * softmax(Q Kᵀ · scale + mask) V, written out, is Attention. Rows whose mask is -∞ everywhere, which give NaN as written, are the
 * only ones that may differ.
 */
export const fuseAttention: Pass = {
  name: 'fuse-attention',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'MatMul',
  rewrite: (node, graph) => {
    if (node.op !== 'MatMul') return null;
    const softmax = graph.maker(node.inputs[0]);
    if (softmax?.op !== 'Softmax' || !graph.readOnce(node.inputs[0]!) || (softmax.attrs.axis !== -1 && softmax.attrs.axis !== 3)) return null;
    const scores = scoresOf(softmax.inputs[0], 1, null, graph);
    if (scores === null || graph.fact(node.inputs[0])?.shape.length !== 4 || graph.fact(node.inputs[0])!.dtype !== 'float32') return null;
    if ([...scores.product.inputs, node.inputs[1]!].some((v) => graph.fact(v)?.shape.length !== 4)) return null;
    const [batch, heads, queries, keys] = graph.fact(node.inputs[0])!.shape as [number, number, number, number];
    const q = operandOf(scores.product.inputs[0]!, [0, 1, 2, 3], true, graph);
    const k = operandOf(scores.product.inputs[1]!, [0, 1, 3, 2], true, graph);
    const v = operandOf(node.inputs[1]!, [0, 1, 2, 3], false, graph);
    const shapeOf = (o: Operand): readonly number[] => o.perm.map((p) => graph.fact(o.base)!.shape[p]!);
    const size = shapeOf(q)[3]!, valueSize = shapeOf(v)[3]!;
    if (!equal(shapeOf(q), [batch, heads, queries, size]) || !equal(shapeOf(k), [batch, heads, keys, size]) || !equal(shapeOf(v), [batch, heads, keys, valueSize]) || [batch, heads, queries, keys, size, valueSize].includes(0)) return null;
    const mask = scores.mask === null ? null : graph.fact(scores.mask);
    if (mask === undefined || (mask !== null && (mask.dtype !== 'float32' || mask.shape.length > 4 || mask.shape.length < 1 || mask.shape.some((d, i) => d !== 1 && d !== [batch, heads, queries, keys][4 - mask.shape.length + i])))) return null;

    const add: Node[] = [];
    const made = (o: Operand, part: string): ValueId => {
      if (o.perm.every((p, i) => p === i)) return o.base;
      const to = graph.addValue(`${node.name}.${part}`);
      add.push(nodeOf('Transpose', node, [o.base], to, { perm: o.perm }, part));
      return to;
    };
    const heads4 = (o: { base: ValueId; shape: readonly number[] }, part: string): ValueId => {
      const to = graph.addValue(`${node.name}.${part}`);
      add.push(nodeOf('Reshape', node, [o.base, graph.addValue(`shape [${o.shape}]`, tensor('int64', [4], o.shape))], to, { allowzero: 1 }, part));
      return to;
    };
    const whole = (o: Operand): boolean => o.perm.every((p, i) => p === i);
    const few = whole(k) && whole(v) ? [ungrouped(k.base, graph), ungrouped(v.base, graph)] : [];
    const grouped = few[0] && few[1] && few[0].shape[1] === few[1].shape[1];
    const inputs = [made(q, 'queries'), grouped ? heads4(few[0]!, 'keys') : made(k, 'keys'), grouped ? heads4(few[1]!, 'values') : made(v, 'values'), ...(scores.mask === null ? [] : [scores.mask])];
    const attrs = { is_causal: 0, left_window_size: -1, right_window_size: -1, qk_matmul_output_mode: 0, softcap: 0, scale: scores.factor * q.factor * k.factor };
    return { reason: `${scores.product.name}, ${softmax.name} and ${node.name} are attention of ${heads} heads`, remove: [node], add: [...add, nodeOf('Attention', node, inputs, node.outputs[0]!, attrs)] };
  },
};
