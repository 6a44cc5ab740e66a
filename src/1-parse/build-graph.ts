/** GraphProto -> Graph: names become numbers, nodes are put in order, and what a body reads from outside is listed. */
import { fail, within } from '../core/errors.ts';
import {
  type Constant,
  constantOf,
  type Declared,
  type Graph,
  type GraphValue,
  type Node,
  readsOf,
  type ValueId,
} from '../core/graph.ts';
import { attrsOf, constantOfNode } from './attributes.ts';
import { type GraphProto, type Imports, type NodeProto, opName, type ValueType } from './proto.ts';
import { constantOfProto, denseOf, type Source } from './tensor-proto.ts';
import { MAX_DEPTH } from './wire.ts';

/** What building needs besides the graph itself. */
export interface Context {
  readonly imports: Imports;
  readonly source: Source;
}

/** A graph being built, as its bodies see it: finds a name here or further out. */
interface Scope {
  readonly find: (name: string) => { readonly id: ValueId; readonly value: GraphValue } | null;
  readonly depth: number;
}

const declaredOf = (type: ValueType | null): Declared | undefined =>
  type?.kind === 'tensor' ? { dtype: type.dtype, shape: type.shape } : undefined;
const quote = (name: string): string => JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
const labelOf = (node: NodeProto, i: number): string => node.name || `${node.op}_${i}`;

/**
 * Builds a graph and, through it, its bodies.
 * @throws model_malformed for a name defined twice, read but never written, or written by a node that needs it
 */
export function buildGraph(proto: GraphProto, context: Context, outer: Scope | null = null): Graph {
  const depth = (outer?.depth ?? 0) + 1;
  if (depth > MAX_DEPTH) fail('model_malformed', `bodies are nested more than ${MAX_DEPTH} deep`);
  const types = new Map<string, ValueType>();
  for (const v of [...proto.values, ...proto.outputs, ...proto.inputs]) if (v.type) types.set(v.name, v.type);

  const values: GraphValue[] = [];
  const ids = new Map<string, ValueId>();
  const definedBy = new Map<string, string>();
  const captures: [inner: ValueId, outer: ValueId][] = [];

  const add = (name: string, constant?: Constant, from?: GraphValue): ValueId => {
    const declared = declaredOf(types.get(name) ?? null) ?? from?.declared;
    values.push({ name, ...(declared ? { declared } : {}), ...(constant ? { constant } : {}) });
    return values.length - 1;
  };
  const define = (name: string, by: string, constant?: Constant): ValueId => {
    if (name === '') fail('model_malformed', `${by} has no name`);
    if (ids.has(name))
      fail('model_malformed', `the value ${quote(name)} is defined twice: by ${definedBy.get(name)} and by ${by}`);
    const id = add(name, constant);
    ids.set(name, id);
    definedBy.set(name, by);
    return id;
  };
  const find = (name: string): ValueId | null => {
    const own = ids.get(name);
    if (own !== undefined) return own;
    const found = outer?.find(name) ?? null;
    if (!found) return null;
    const id = add(name, found.value.constant, found.value);
    ids.set(name, id);
    captures.push([id, found.id]);
    return id;
  };

  const initialized = new Set([...proto.initializers.map((t) => t.name), ...proto.sparse.map((s) => s.values.name)]);
  const inputs: ValueId[] = [];
  for (const { name } of proto.inputs) {
    if (!initialized.has(name)) inputs.push(define(name, 'a graph input'));
    else if (outer) fail('model_unsupported', `the body input ${quote(name)} has an initializer`);
  }
  for (const t of proto.initializers) define(t.name, 'an initializer', constantOfProto(t, context.source));
  for (const s of proto.sparse) define(s.values.name, 'a sparse initializer', constantOf(denseOf(s)));

  const outputsOf = proto.nodes.map((node, i): (ValueId | null)[] => {
    const by = `node ${quote(labelOf(node, i))}`;
    if (node.op === 'Constant' && node.domain === '') {
      if (node.outputs.length !== 1)
        fail('model_malformed', `${by}: a Constant has one output, not ${node.outputs.length}`);
      return [
        define(
          node.outputs[0]!,
          by,
          within(by, () => constantOfNode(node, context.source)),
        ),
      ];
    }
    return node.outputs.map((name) => (name === '' ? null : define(name, by)));
  });

  const scope: Scope = {
    depth,
    find: (name) => {
      const id = find(name);
      return id === null ? null : { id, value: values[id]! };
    },
  };
  const nodes = proto.nodes.flatMap((node, i): Node[] => {
    if (node.op === 'Constant' && node.domain === '') return [];
    const name = labelOf(node, i);
    return [
      within(`node ${quote(name)} (${opName(node.domain, node.op)})`, () => ({
        op: opName(node.domain, node.op),
        name,
        opset: opsetOf(node, context.imports),
        inputs: node.inputs.map((input) =>
          input === ''
            ? null
            : (find(input) ?? fail('model_malformed', `reads ${quote(input)}, which nothing defines`)),
        ),
        outputs: outputsOf[i]!,
        attrs: attrsOf(node, (body) => buildGraph(body, context, scope)),
      })),
    ];
  });
  const outputs = proto.outputs.map(
    ({ name }) => find(name) ?? fail('model_malformed', `the graph output ${quote(name)} is defined by nothing`),
  );
  return { name: proto.name, nodes: sorted(nodes, values), values, inputs, outputs, captures };
}

/**
 * The version in which a node's domain is imported. Other domains than ONNX's own have one version as a rule, and
 * exporters forget to import it.
 */
function opsetOf(node: NodeProto, imports: Imports): number {
  const opset = (node.imports ?? imports).get(node.domain) ?? imports.get(node.domain);
  return (
    opset ?? (node.domain === '' ? fail('model_malformed', "the model imports no version of ONNX's operators") : 1)
  );
}

/**
 * The nodes with each behind those it reads from; otherwise in the order of the file. @throws model_malformed when they
 * form a cycle
 */
function sorted(nodes: readonly Node[], values: readonly GraphValue[]): Node[] {
  const producer = new Int32Array(values.length).fill(-1);
  nodes.forEach((node, i) => {
    for (const v of node.outputs) if (v !== null) producer[v] = i;
  });
  const out: Node[] = [];
  const state = new Uint8Array(nodes.length); // 0 new, 1 waiting for what it reads, 2 placed
  const stack: { readonly node: number; readonly reads: readonly ValueId[]; next: number }[] = [];
  const push = (node: number): void => {
    state[node] = 1;
    stack.push({ node, reads: readsOf(nodes[node]!), next: 0 });
  };
  for (let start = 0; start < nodes.length; start++) {
    if (state[start] === 0) push(start);
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      if (top.next === top.reads.length) {
        state[top.node] = 2;
        out.push(nodes[top.node]!);
        stack.pop();
        continue;
      }
      const before = producer[top.reads[top.next++]!]!;
      if (before < 0 || state[before] === 2) continue;
      if (state[before] === 1) {
        const from = stack.findIndex((s) => s.node === before);
        const names = stack.slice(from).map((s) => nodes[s.node]!.name);
        fail(
          'model_malformed',
          `these nodes wait for each other: ${names.slice(0, 8).map(quote).join(' <- ')}${names.length > 8 ? ' <- …' : ''} <- ${quote(nodes[before]!.name)}`,
        );
      }
      push(before);
    }
  }
  return out;
}
