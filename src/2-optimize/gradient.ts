import { fail, within } from '../core/errors.ts';
import type { AttrValue, Graph, GraphValue, Node, ValueId } from '../core/graph.ts';

const GRADIENT = 'ai.onnx.preview.training.Gradient';

/** Adds a node and gives its output. */
type Emit = (op: string, inputs: readonly ValueId[], attrs?: Record<string, AttrValue>) => ValueId;
/** The derivatives by a node's inputs, given that by its output. */
type Rule = (emit: Emit, inputs: readonly ValueId[], y: ValueId, g: ValueId) => readonly ValueId[];

const swapped = (emit: Emit, v: ValueId): ValueId => emit('Transpose', [v], { perm: [1, 0] });
const RULES: Readonly<Record<string, Rule>> = {
  Identity: (_, __, ___, g) => [g],
  Neg: (emit, _, __, g) => [emit('Neg', [g])],
  Add: (emit, [a, b], _, g) => [emit('sardonyx.SumTo', [g, a!]), emit('sardonyx.SumTo', [g, b!])],
  Sub: (emit, [a, b], _, g) => [emit('sardonyx.SumTo', [g, a!]), emit('sardonyx.SumTo', [emit('Neg', [g]), b!])],
  Mul: (emit, [a, b], _, g) => [
    emit('sardonyx.SumTo', [emit('Mul', [g, b!]), a!]),
    emit('sardonyx.SumTo', [emit('Mul', [g, a!]), b!]),
  ],
  Div: (emit, [a, b], y, g) => {
    const part = emit('Div', [g, b!]);
    return [emit('sardonyx.SumTo', [part, a!]), emit('sardonyx.SumTo', [emit('Neg', [emit('Mul', [part, y])]), b!])];
  },
  Exp: (emit, _, y, g) => [emit('Mul', [g, y])],
  Log: (emit, [x], _, g) => [emit('Div', [g, x!])],
  Relu: (emit, _, y, g) => [emit('Mul', [g, emit('Sign', [y])])],
  Tanh: (emit, _, y, g) => [emit('Mul', [g, emit('Sub', [emit('sardonyx.OnesLike', [y]), emit('Mul', [y, y])])])],
  Sigmoid: (emit, _, y, g) => [emit('Mul', [g, emit('Mul', [y, emit('Sub', [emit('sardonyx.OnesLike', [y]), y])])])],
  /** Matrices only. */
  MatMul: (emit, [a, b], _, g) => [emit('MatMul', [g, swapped(emit, b!)]), emit('MatMul', [swapped(emit, a!), g])],
};

/**
 * Replaces each Gradient by the nodes that compute it, backwards from y (reverse-mode differentiation). The graph is
 * normalised already.
 * @throws op_unsupported for an operator whose derivative is not known here
 */
export function expandGradients(graph: Graph): Graph {
  if (!graph.nodes.some((n) => n.op === GRADIENT)) return graph;
  const values: GraphValue[] = [...graph.values];
  const named = new Map(graph.values.map((v, id) => [v.name, id]));
  const nodes = graph.nodes.flatMap((n): readonly Node[] =>
    n.op === GRADIENT ? within(`node ${n.name} (Gradient)`, () => expand(n)) : [n],
  );
  return { ...graph, nodes, values };

  function expand(node: Node): Node[] {
    const find = (name: string): ValueId =>
      named.get(name) ?? fail('model_malformed', `there is no value ${JSON.stringify(name)}`);
    const xs = (node.attrs.xs as readonly string[]).map(find);
    const held = [...xs, ...((node.attrs.zs as readonly string[] | undefined) ?? []).map(find)];
    held.forEach((v, i) => {
      if (node.inputs[i] !== v)
        fail(
          'model_unsupported',
          `input ${i} must be the value ${JSON.stringify(values[v]!.name)} itself: the graph is not run a second time`,
        );
    });
    const y = find(node.attrs.y as string);
    const added: Node[] = [];
    const emit: Emit = (op, inputs, attrs = {}) => {
      const out = values.push({ name: `${node.name}/${op}${added.length}` }) - 1;
      added.push({ op, name: `${node.name}/${op}${added.length}`, inputs, outputs: [out], attrs, opset: node.opset });
      return out;
    };
    // Nodes on a way from an x to y, and what y changes by each value.
    const reached = new Set<ValueId>(xs);
    for (const n of graph.nodes)
      if (n.op !== GRADIENT && n.inputs.some((v) => v !== null && reached.has(v)))
        for (const v of n.outputs) if (v !== null) reached.add(v);
    const slope = new Map<ValueId, ValueId>();
    if (reached.has(y)) slope.set(y, emit('sardonyx.OnesLike', [y]));
    for (const n of [...graph.nodes].reverse()) {
      const g = n.outputs[0] == null ? undefined : slope.get(n.outputs[0]);
      if (g === undefined || xs.includes(n.outputs[0]!)) continue;
      const rule =
        RULES[n.op] ??
        fail(
          'op_unsupported',
          `the derivative of ${n.op} (node ${n.name}) is not known; known are ${Object.keys(RULES).join(', ')}`,
        );
      const parts = rule(emit, n.inputs as readonly ValueId[], n.outputs[0]!, g);
      n.inputs.forEach((v, i) => {
        if (v === null || !reached.has(v)) return;
        const before = slope.get(v);
        slope.set(v, before === undefined ? parts[i]! : emit('Add', [before, parts[i]!]));
      });
    }
    xs.forEach((x, i) => {
      const out = node.outputs[i];
      if (out == null) return;
      const zero = (): ValueId => {
        const one = emit('sardonyx.OnesLike', [x]);
        return emit('Sub', [one, one]);
      };
      added.push({
        op: 'Identity',
        name: `${node.name}/d${i}`,
        inputs: [slope.get(x) ?? zero()],
        outputs: [out],
        attrs: {},
        opset: node.opset,
      });
    });
    return added;
  }
}
