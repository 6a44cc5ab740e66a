import type { Call, Epilogue } from './define.ts';
import { parsed } from './expr.ts';
import type { Fact, Node, ValueId } from '../src/core/graph.ts';

/**
 * A node at known shapes, as kernels see it. A node that carries an epilogue has it in `attrs.epilogue` (the expression
 * as JSON), and its operands as the inputs from number `attrs.operandsFrom` on.
 */
export function callOf(node: Node, fact: (v: ValueId) => Fact): Call {
  const facts = node.inputs.map((v) => (v === null ? null : fact(v)));
  const outputs = node.outputs.map((v) => (v === null ? null : fact(v)));
  if (typeof node.attrs.epilogue !== 'string') return { inputs: facts, outputs, attrs: node.attrs };
  const from = node.attrs.operandsFrom as number;
  const epilogue: Epilogue = { expr: parsed(node.attrs.epilogue), operands: facts.slice(from) as Fact[] };
  return { inputs: facts.slice(0, from), outputs, attrs: node.attrs, epilogue };
}
