import { NeedsValue, type Op, type OutFact, refCall } from '../../../kernels/define.ts';
import { SardonyxError } from '../../core/errors.ts';
import { bodiesOf, type Fact, type Node } from '../../core/graph.ts';
import { byteLength, isTensor, sizeOf, type Tensor, type Value } from '../../core/tensor.ts';
import { checkTypes, inferNode } from '../specialize.ts';
import type { GraphView, Pass, Patch } from '../rewrite.ts';

/** Larger results cost more memory than their computation costs time. */
const LIMIT = 1 << 22;
/**
 * But if they are made of nearly nothing, this many times less, they are constants that come to be when a device wants
 * them.
 */
const GROWTH = 1 << 12;
/** Quantised weights stay what they are: products may read them so. */
const KEPT = new Set(['DequantizeLinear']);

/** A node whose inputs are all constants is computed once, for the plans of all dims. */
export const foldConstants: Pass = {
  name: 'fold-constants',
  exactness: 'exact',
  rewrite: (node, graph) => {
    const op = graph.ops.get(node.op)!;
    if (
      node.inputs.length === 0 ||
      op.random ||
      KEPT.has(node.op) ||
      bodiesOf(node).length > 0 ||
      node.outputs.some((v) => v !== null && graph.isOutput(v))
    )
      return null;
    const isDynamic =
      typeof op.dynamic === 'function' ? op.dynamic(node.attrs, node.outputs.length) : op.dynamic === true;
    if (isDynamic || op.infer === undefined) return null;
    const inputs = node.inputs.map((v): Fact | null => (v === null ? null : (graph.fact(v) ?? null)));
    if (inputs.some((f, i) => node.inputs[i] !== null && (f?.constant?.peek() ?? null) === null)) return null;
    return folded(node, graph, inputs);
  },
};

const compute = (op: Op, node: Node, inputs: readonly (Fact | null)[]): ReturnType<Op['reference']> =>
  op.reference(
    refCall(
      inputs.map((f) => f && f.constant!.peek()),
      node.attrs,
      node.outputs.length,
    ),
  );

/**
 * A large tensor of a few numbers (ConstantOfShape and its like), as a constant that is computed each time it is
 * loaded.
 */
function generated(
  node: Node,
  graph: GraphView,
  inputs: readonly (Fact | null)[],
  outs: readonly OutFact[],
): Patch | null {
  const [out, y] = [outs[0]!, node.outputs[0] ?? null];
  const size = sizeOf(out.shape);
  if (
    node.outputs.length !== 1 ||
    y === null ||
    out.dtype === 'string' ||
    byteLength(out) >= 2 ** 31 ||
    size < GROWTH * inputs.reduce((n, f) => n + (f ? sizeOf(f.shape) : 0), 1)
  )
    return null;
  const op = graph.ops.get(node.op)!;
  const load = async (): Promise<Tensor> => (await compute(op, node, inputs))[0] as Tensor;
  return {
    reason: `${node.name} depends on constants alone`,
    remove: [node],
    add: [],
    instead: [[y, graph.addValue(graph.nameOf(y), { ...out, peek: () => null, load })]],
  };
}

function folded(node: Node, graph: GraphView, inputs: readonly (Fact | null)[]): Patch | null {
  const op = graph.ops.get(node.op)!;
  let results: readonly (Value | null)[] | Promise<readonly (Value | null)[]>;
  try {
    checkTypes(op, inputs);
    const outs = inferNode(op, node, inputs);
    if (outs.some((o) => sizeOf(o.shape) > LIMIT)) return generated(node, graph, inputs, outs);
    results = compute(op, node, inputs);
  } catch (e) {
    // What is wrong with the node is said when it is planned, with its place in the model.
    if (e instanceof SardonyxError || e instanceof NeedsValue) return null;
    throw e;
  }
  if (results instanceof Promise) {
    results.catch(() => undefined);
    return null;
  }
  const tensors = results;
  if (!tensors.every((t) => t === null || isTensor(t)) || node.outputs.some((v, i) => v !== null && !tensors[i]))
    return null;
  const instead = node.outputs.flatMap((v, i): [number, number][] => {
    const t = tensors[i];
    return v === null || !t || !isTensor(t) ? [] : [[v, graph.addValue(graph.nameOf(v), t)]];
  });
  return { reason: `${node.name} depends on constants alone`, remove: [node], add: [], instead };
}
