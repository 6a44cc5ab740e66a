/** A few nodes of a model as a model of their own, with recorded inputs and outputs: a case for `sardonyx verify`. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AttrKind } from '../../kernels/define.ts';
import { ops } from '../../kernels/index.ts';
import { fail } from '../core/errors.ts';
import type { AttrValue, Graph, Node, ValueId } from '../core/graph.ts';
import { isTensor, type Tensor, type Value } from '../core/tensor.ts';
import { type AttrText, encodeModel, tensorProto } from './encode-model.ts';

/** The values that `nodes` read and others make, in order, and those that they make and others (or no one) read. */
export function borderOf(graph: Graph, nodes: readonly Node[]): { reads: ValueId[]; makes: ValueId[] } {
  const own = new Set(nodes.flatMap((n) => n.outputs));
  const reads = [...new Set(nodes.flatMap((n) => n.inputs))].filter(
    (v): v is ValueId => v !== null && !own.has(v) && graph.values[v]!.constant === undefined,
  );
  const inside = new Set(nodes.flatMap((n) => n.inputs));
  const others = new Set(graph.nodes.filter((n) => !nodes.includes(n)).flatMap((n) => n.inputs));
  return {
    reads,
    makes: [...own].filter(
      (v): v is ValueId => v !== null && (!inside.has(v) || others.has(v) || graph.outputs.includes(v)),
    ),
  };
}

/**
 * Writes FOLDER/model.onnx and its test_data_set_0. `values`: what the nodes read, and what the believed device made of
 * it. @throws option_invalid for bodies and values that are no tensors
 */
export async function writeRepro(
  folder: string,
  graph: Graph,
  nodes: readonly Node[],
  values: ReadonlyMap<ValueId, Value>,
): Promise<void> {
  const { reads, makes } = borderOf(graph, nodes);
  const name = (v: ValueId | null): string => (v === null ? '' : graph.values[v]!.name || `value_${v}`);
  const tensorOf = (v: ValueId): Tensor => {
    const value = values.get(v);
    return value && isTensor(value)
      ? value
      : fail('option_invalid', `${name(v)} is no tensor: this node cannot be written by itself`);
  };
  const constants = [...new Set(nodes.flatMap((n) => n.inputs))].filter(
    (v): v is ValueId => v !== null && graph.values[v]!.constant !== undefined,
  );
  const weights = await Promise.all(
    constants.map(async (v) => ({ name: name(v), tensor: await graph.values[v]!.constant!.load() })),
  );
  const opsets: Record<string, number> = {};
  for (const n of nodes) opsets[n.op.includes('.') ? n.op.slice(0, n.op.lastIndexOf('.')) : ''] = n.opset;
  const model = encodeModel(
    {
      inputs: reads.map((v) => ({ name: name(v), dtype: tensorOf(v).dtype, shape: tensorOf(v).shape })),
      outputs: makes.map((v) => ({ name: name(v), dtype: tensorOf(v).dtype })),
      weights,
      nodes: nodes.map((n) => ({
        op: n.op,
        name: n.name,
        inputs: n.inputs.map(name),
        outputs: n.outputs.map(name),
        attrs: Object.entries(n.attrs).map(([key, value]) => attrText(n, key, value)),
      })),
    },
    opsets,
  );
  const set = join(folder, 'test_data_set_0');
  await mkdir(set, { recursive: true });
  await writeFile(join(folder, 'model.onnx'), model);
  for (const [i, v] of reads.entries()) await writeFile(join(set, `input_${i}.pb`), tensorProto(name(v), tensorOf(v)));
  for (const [i, v] of makes.entries()) await writeFile(join(set, `output_${i}.pb`), tensorProto(name(v), tensorOf(v)));
}

/** An attribute with its kind: the operator's own where it still has it, else what the value looks like. */
function attrText(node: Node, name: string, value: AttrValue): AttrText {
  const known = ops.get(node.op)?.attrs[name]?.kind as AttrKind | undefined;
  const list = Array.isArray(value) ? (value as readonly unknown[]) : null;
  const guess: AttrKind =
    typeof value === 'string'
      ? 'string'
      : typeof value === 'number'
        ? Number.isInteger(value)
          ? 'int'
          : 'float'
        : list
          ? typeof list[0] === 'string'
            ? 'strings'
            : list.every(Number.isInteger)
              ? 'ints'
              : 'floats'
          : 'tensor';
  const kind = known ?? guess;
  if (kind === 'graph' || (typeof value === 'object' && 'nodes' in value))
    return fail('option_invalid', `${node.op} has a body: it cannot be written by itself`);
  return { name, kind, value: value as AttrText['value'] };
}
