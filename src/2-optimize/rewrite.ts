/**
 * Rewrites of a graph before its dims are known. A pass looks at one node and proposes a patch; the engine applies patches until none is
 * proposed. Values keep their numbers: a patch adds nodes that write the values the removed ones wrote.
 */
import { type AttrValue, bodiesOf, constantOf, type Graph, type GraphValue, isGraph, type Node, readsOf, type ValueId } from '../core/graph.ts';
import type { Tensor } from '../core/tensor.ts';

/** What a rewrite may change: nothing, the order of roundings, or the value by a stated error. */
export type Exactness = 'exact' | 'reassociates' | 'approximate';

export interface Patch {
  readonly reason: string;
  readonly remove: readonly Node[];
  readonly add: readonly Node[];
}
export interface Pass {
  readonly name: string;
  readonly exactness: Exactness;
  readonly rewrite: (node: Node, graph: GraphView) => Patch | null;
}
/** A graph as passes see it. */
export interface GraphView {
  /** The node that writes a value. */
  maker(v: ValueId | null | undefined): Node | undefined;
  /** Nodes that read a value, each once. */
  readers(v: ValueId): readonly Node[];
  /** One node reads the value, and no one else wants it. */
  readOnce(v: ValueId): boolean;
  /** A weight that is in memory. */
  constant(v: ValueId | null | undefined): Tensor | null;
  /** A new value, fixed or to be written by a node of the patch. */
  addValue(name: string, constant?: Tensor): ValueId;
  nameOf(v: ValueId): string;
}
export interface Trace { readonly pass: string; readonly reason: string; readonly removed: readonly string[]; readonly added: readonly string[] }

/** Applies the passes until nothing changes, in bodies too. */
export function rewrite(graph: Graph, passes: readonly Pass[], trace?: (t: Trace) => void): Graph {
  const values: GraphValue[] = [...graph.values];
  let nodes: readonly Node[] = graph.nodes.map((n) => (bodiesOf(n).length === 0 ? n : { ...n, attrs: mapBodies(n.attrs, (g) => rewrite(g, passes, trace)) }));
  const outputs = new Set(graph.outputs);
  // Each patch makes the graph smaller or its nodes more canonical; the bound stops a pair of passes that undo each other.
  for (let round = 0; round < 16; round++) {
    let changed = false;
    const makers = new Map<ValueId, Node>();
    const readers = new Map<ValueId, Node[]>();
    const enter = (n: Node): void => {
      for (const v of n.outputs) if (v !== null) makers.set(v, n);
      for (const v of new Set(readsOf(n))) readers.set(v, [...(readers.get(v) ?? []), n]);
    };
    nodes.forEach(enter);
    const gone = new Set<Node>();
    const view: GraphView = {
      maker: (v) => (v == null ? undefined : makers.get(v)),
      readers: (v) => readers.get(v) ?? [],
      readOnce: (v) => !outputs.has(v) && (readers.get(v)?.length ?? 0) === 1,
      constant: (v) => (v == null ? null : (values[v]!.constant?.peek() ?? null)),
      addValue: (name, tensor) => values.push({ name, ...(tensor ? { constant: constantOf(tensor) } : {}) }) - 1,
      nameOf: (v) => values[v]!.name,
    };
    const next: Node[] = [];
    for (const node of nodes) {
      if (gone.has(node)) continue;
      let patch: Patch | null = null;
      for (const pass of passes) {
        patch = pass.rewrite(node, view);
        if (patch === null || patch.remove.some((n) => gone.has(n))) continue;
        trace?.({ pass: pass.name, reason: patch.reason, removed: patch.remove.map((n) => n.name), added: patch.add.map((n) => n.name) });
        break;
      }
      if (patch === null || patch.remove.some((n) => gone.has(n))) {
        next.push(node);
        continue;
      }
      changed = true;
      for (const n of patch.remove) {
        gone.add(n);
        for (const v of new Set(readsOf(n))) readers.set(v, (readers.get(v) ?? []).filter((r) => r !== n));
        for (const v of n.outputs) if (v !== null) makers.delete(v);
      }
      patch.add.forEach(enter);
      if (!patch.remove.includes(node)) next.push(node);
      next.push(...patch.add);
    }
    nodes = sortNodes(next.filter((n) => !gone.has(n)));
    if (!changed) break;
  }
  return withoutDead({ ...graph, nodes, values });
}

const mapBodies = (attrs: Node['attrs'], f: (g: Graph) => Graph): Node['attrs'] =>
  Object.fromEntries(Object.entries(attrs).map(([k, a]): [string, AttrValue] => [k, isGraph(a) ? f(a) : Array.isArray(a) && a.length > 0 && typeof a[0] === 'object' && isGraph(a[0]) ? (a as readonly Graph[]).map(f) : a]));

/** Topological order that keeps the given order where it can. */
function sortNodes(nodes: readonly Node[]): Node[] {
  const made = new Map<ValueId, Node>();
  for (const n of nodes) for (const v of n.outputs) if (v !== null) made.set(v, n);
  const out: Node[] = [];
  const done = new Set<Node>();
  for (const root of nodes) {
    const stack: Node[] = [root];
    while (stack.length > 0) {
      const n = stack.at(-1)!;
      if (done.has(n)) { stack.pop(); continue; }
      const waits = readsOf(n).map((v) => made.get(v)).filter((m): m is Node => m !== undefined && m !== n && !done.has(m));
      if (waits.length > 0) stack.push(...waits.reverse());
      else {
        stack.pop();
        done.add(n);
        out.push(n);
      }
    }
  }
  return out;
}

/** Without nodes whose results no one wants. */
function withoutDead(graph: Graph): Graph {
  const wanted = new Set<ValueId>(graph.outputs);
  const kept: Node[] = [];
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    const n = graph.nodes[i]!;
    if (!n.outputs.some((v) => v !== null && wanted.has(v))) continue;
    kept.push(n);
    for (const v of readsOf(n)) wanted.add(v);
  }
  return { ...graph, nodes: kept.reverse() };
}
