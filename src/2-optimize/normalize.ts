import { type Op, parseAttrs } from '../../kernels/define.ts';
import { fail, within } from '../core/errors.ts';
import {
  type AttrValue,
  bodiesOf,
  constantOf,
  type Graph,
  type GraphValue,
  isGraph,
  type Node,
} from '../core/graph.ts';
import type { Tensor } from '../core/tensor.ts';

/**
 * Brings every node into its operator's canonical form: attributes checked and defaulted, what other opsets wrote
 * otherwise rewritten. Nothing after this looks at an opset. All operators that are missing are reported together.
 * @throws op_unsupported, attribute_invalid
 */
export function normalize(graph: Graph, ops: ReadonlyMap<string, Op>): Graph {
  const missing = new Map<string, string[]>();
  collectMissing(graph, ops, missing);
  if (missing.size > 0) {
    const list = [...missing].map(
      ([op, nodes]) =>
        `${op} (${nodes.length} node${nodes.length > 1 ? 's' : ''}: ${nodes.slice(0, 3).join(', ')}${nodes.length > 3 ? ', …' : ''})`,
    );
    fail(
      'op_unsupported',
      `the model uses ${list.length} operator${list.length > 1 ? 's' : ''} that Sardonyx does not have: ${list.join('; ')}; definitions of your own go into the option operators`,
    );
  }
  return normalizeGraph(graph, ops);
}

function collectMissing(graph: Graph, ops: ReadonlyMap<string, Op>, missing: Map<string, string[]>): void {
  for (const node of graph.nodes) {
    if (!ops.has(node.op)) missing.set(node.op, [...(missing.get(node.op) ?? []), node.name]);
    for (const body of bodiesOf(node)) collectMissing(body, ops, missing);
  }
}

function normalizeGraph(graph: Graph, ops: ReadonlyMap<string, Op>): Graph {
  const values: GraphValue[] = [...graph.values];
  const nodes = graph.nodes.map(
    (node): Node => within(`node ${node.name} (${node.op})`, () => normalizeNode(node, values, ops)),
  );
  return { ...graph, nodes, values };
}

function normalizeNode(node: Node, values: GraphValue[], ops: ReadonlyMap<string, Op>): Node {
  const attrs: Record<string, AttrValue> = {};
  for (const [name, value] of Object.entries(node.attrs)) {
    attrs[name] = isGraph(value)
      ? normalizeGraph(value, ops)
      : Array.isArray(value) && value.length > 0 && typeof value[0] === 'object' && isGraph(value[0])
        ? (value as readonly Graph[]).map((g) => normalizeGraph(g, ops))
        : value;
  }
  const constant = (t: Tensor): number =>
    values.push({ name: `${node.name}.constant${values.length}`, constant: constantOf(t) }) - 1;
  const op = ops.get(node.op)!;
  const form = op.normalize?.({ attrs, inputs: node.inputs, outputs: node.outputs, opset: node.opset, constant }) ?? {};
  const canonical =
    form.op !== undefined && form.op !== node.op
      ? (ops.get(form.op) ?? fail('internal', `${node.op} normalises to ${form.op}, which is missing`))
      : op;
  const inputs = form.inputs ?? node.inputs;
  const outputs = form.outputs ?? node.outputs;
  checkArity(canonical, inputs, outputs);
  return { ...node, op: canonical.op, attrs: parseAttrs(canonical.attrs, form.attrs ?? attrs), inputs, outputs };
}

/** A parameter of `OpDef.inputs`, read. */
export interface Parameter {
  readonly name: string;
  readonly type: string;
  readonly optional: boolean;
  readonly variadic: boolean;
}
function parseParameter(text: string): Parameter {
  const [name, type] = text.split(':').map((s) => s.trim()) as [string, string];
  return { name, type: type.replace(/[?*]$/, ''), optional: type.endsWith('?'), variadic: type.endsWith('*') };
}

const PARAMETERS = new WeakMap<readonly string[], readonly Parameter[]>();
/** Parameters as an operator lists them, read once. */
export function parametersOf(texts: readonly string[]): readonly Parameter[] {
  let known = PARAMETERS.get(texts);
  if (known === undefined) PARAMETERS.set(texts, (known = texts.map(parseParameter)));
  return known;
}

function checkArity(op: Op, inputs: readonly (number | null)[], outputs: readonly (number | null)[]): void {
  const parameters = parametersOf(op.inputs);
  const variadic = parameters.some((p) => p.variadic);
  if (!variadic && inputs.length > parameters.length)
    fail('shape_mismatch', `${op.op} takes at most ${parameters.length} inputs, not ${inputs.length}`);
  parameters.forEach((p, i) => {
    if (!p.optional && !p.variadic && (inputs[i] ?? null) === null)
      fail('input_missing', `input ${i} (${p.name}) of ${op.op} is required`);
  });
  if (parameters[0]?.variadic && inputs.length === 0) fail('input_missing', `${op.op} takes at least one input`);
  const results = parametersOf(op.outputs);
  if (!results.some((p) => p.variadic) && outputs.length > results.length)
    fail('shape_mismatch', `${op.op} has at most ${results.length} outputs, not ${outputs.length}`);
}
