/**
 * Rewrites of a graph. A pass looks at one node and proposes a patch; the engine applies patches until none is
 * proposed. Values keep their numbers: a patch adds nodes that write the values the removed ones wrote, or tells their
 * readers what to read instead.
 *
 * Some passes run once, before dims are known; their constants are shared by the plans of all dims. Others run when
 * shapes are bound.
 */
import type { InferCall, Op } from '../../kernels/define.ts';
import { fail } from '../core/errors.ts';
import {
  type AttrValue,
  bodiesOf,
  type Constant,
  constantOf,
  type Fact,
  type Facts,
  type Graph,
  type GraphValue,
  isGraph,
  type Node,
  readsOf,
  sameNumbers,
  type ValueId,
} from '../core/graph.ts';
import type { DeviceKind } from '../core/plan.ts';
import type { Tensor } from '../core/tensor.ts';

/** What a rewrite may change: nothing, the order of roundings, or the value by a stated error. */
export type Exactness = 'exact' | 'reassociates' | 'approximate';
export const EXACTNESS: readonly Exactness[] = ['exact', 'reassociates', 'approximate'];

export interface Patch {
  readonly reason: string;
  readonly remove: readonly Node[];
  readonly add: readonly Node[];
  /** [from, to]: what read `from` reads `to` from now on. A graph output must still be written. */
  readonly instead?: readonly (readonly [from: ValueId, to: ValueId])[];
}
export interface Pass {
  readonly name: string;
  readonly exactness: Exactness;
  /** Says of which operators it could rewrite a node; the others' are not shown to it. Default: of all. */
  readonly roots?: (op: Op) => boolean;
  /** Made for this device alone, since only its kernels know what comes out. */
  readonly device?: DeviceKind;
  readonly rewrite: (node: Node, graph: GraphView) => Patch | null;
}
/** A graph as passes see it. */
export interface GraphView {
  readonly ops: ReadonlyMap<string, Op>;
  /** The node that writes a value. */
  maker(v: ValueId | null | undefined): Node | undefined;
  /** Nodes that read a value, each once. */
  readers(v: ValueId): readonly Node[];
  /** One node reads the value, and no one else wants it. */
  readOnce(v: ValueId): boolean;
  /** Someone outside wants the value: its number must stay written. */
  isOutput(v: ValueId): boolean;
  /** What is known of a value: before dims are bound, only of constants. */
  fact(v: ValueId | null | undefined): Fact | undefined;
  /** A weight that is in memory. */
  constant(v: ValueId | null | undefined): Tensor | null;
  /** A new value, fixed or to be written by a node of the patch. */
  addValue(name: string, constant?: Tensor | Constant): ValueId;
  nameOf(v: ValueId): string;
}
export interface Trace {
  readonly pass: string;
  readonly reason: string;
  readonly removed: readonly string[];
  readonly added: readonly string[];
}
export type Tracer = (t: Trace) => void;

/** Applies the passes until nothing changes, in bodies too. */
export function rewrite(graph: Graph, passes: readonly Pass[], ops: ReadonlyMap<string, Op>, trace?: Tracer): Graph {
  const inner = graph.nodes.map((n) =>
    bodiesOf(n).length === 0 ? n : { ...n, attrs: mapBodies(n.attrs, (g) => rewrite(g, passes, ops, trace)) },
  );
  const { nodes, values } = applied(
    { nodes: inner, values: graph.values, outputs: new Set(graph.outputs), facts: null },
    [passes],
    ops,
    trace,
  );
  return { ...graph, nodes, values };
}

/** The same for nodes of which some facts may be known, and whose readers want `wanted`. */
export function rewriteNodes<G extends { readonly nodes: readonly Node[]; readonly values: readonly GraphValue[] }>(
  graph: G,
  wanted: ReadonlySet<ValueId>,
  passes: readonly Pass[],
  ops: ReadonlyMap<string, Op>,
  trace?: Tracer,
): G {
  return {
    ...graph,
    ...applied({ nodes: graph.nodes, values: graph.values, outputs: wanted, facts: null }, [passes], ops, trace),
  };
}

/** Nodes of which all shapes are known. */
export interface Bound {
  readonly nodes: readonly Node[];
  readonly values: readonly GraphValue[];
  readonly facts: Facts;
}

/**
 * Applies the lists of passes, each until nothing changes; facts of new values are inferred. `log` gets what was done.
 */
export function rewriteBound(
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  lists: readonly (readonly Pass[])[],
  ops: ReadonlyMap<string, Op>,
  trace?: Tracer,
  log?: Log,
): Bound {
  const facts = graph.facts.slice();
  const found = applied({ nodes: graph.nodes, values: graph.values, outputs: wanted, facts }, lists, ops, trace, log);
  if (log) log.end = found;
  return { ...found, facts };
}

/** What was done to a graph, in order, and what came of it. */
export interface Log {
  readonly done: (Rewritten | { readonly dead: readonly Node[] })[];
  /** Who makes and who reads what in the graph as it was given. */
  start?: Wiring;
  end?: { readonly nodes: readonly Node[]; readonly values: readonly GraphValue[] };
}
interface Rewritten {
  readonly pass: Pass;
  readonly at: Node;
  readonly patch: Patch;
  /** How many values there were when the pass looked. */
  readonly values: number;
  /** Readers that read something else instead, and what became of them. */
  readonly renamed: Renamed;
}
type Renamed = readonly (readonly [reader: Node, other: Node])[];

/**
 * The rewrites of a log made again for the same nodes at other dims: each pass is shown the node that it rewrote, and
 * no other. So all that is done is right at these dims, and nothing is searched for. Nodes and values get the numbers
 * they have in the log. Null where a pass now finds something else.
 */
export function rewriteAgain(
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  { done, start, end }: Log,
  ops: ReadonlyMap<string, Op>,
): Bound | null {
  const facts = graph.facts.slice();
  const { view, values, leave, apply } = editing(
    { nodes: graph.nodes, values: graph.values, outputs: wanted, facts },
    ops,
    start,
  );
  const now = new Map<Node, Node>();
  const here = (n: Node): Node => now.get(n) ?? n;
  for (const entry of done) {
    if ('dead' in entry) {
      for (const n of entry.dead) leave(here(n));
      continue;
    }
    if (values.length > entry.values) return null;
    values.length = entry.values; // what passes added that found nothing in the end has no readers
    const was = entry.patch;
    const patch = entry.pass.rewrite(here(entry.at), view);
    if (
      patch === null ||
      patch.remove.length !== was.remove.length ||
      patch.remove.some((n, i) => n !== here(was.remove[i]!))
    )
      return null;
    if (
      patch.add.length !== was.add.length ||
      patch.add.some((n, i) => !sameWires(n, was.add[i]!)) ||
      !samePairs(patch.instead ?? [], was.instead ?? [])
    )
      return null;
    patch.add.forEach((n, i) => now.set(was.add[i]!, n));
    const renamed = apply(patch);
    if (renamed.length !== entry.renamed.length) return null;
    const others = new Map(renamed);
    for (const [reader, other] of entry.renamed) now.set(other, others.get(here(reader)) ?? other);
  }
  if (values.length > end!.values.length) return null;
  values.length = end!.values.length;
  return { nodes: end!.nodes.map(here), values, facts };
}
const sameWires = (a: Node, b: Node): boolean =>
  a.op === b.op && sameNumbers(a.inputs, b.inputs) && sameNumbers(a.outputs, b.outputs);
const samePairs = (a: NonNullable<Patch['instead']>, b: NonNullable<Patch['instead']>): boolean =>
  a.length === b.length && a.every((p, i) => sameNumbers(p, b[i]!));

interface Start {
  readonly nodes: readonly Node[];
  readonly values: readonly GraphValue[];
  readonly outputs: ReadonlySet<ValueId>;
  /** To be filled on; null while dims are free. */
  readonly facts: (Fact | undefined)[] | null;
}

/** A patch makes the graph smaller or its nodes more canonical; the bound stops passes that undo each other. */
const ROUNDS = 24;

interface Editing {
  readonly view: GraphView;
  readonly values: GraphValue[];
  /** Learns who makes and who reads what, anew. */
  connect(nodes: readonly Node[]): void;
  /** As it is now. */
  wiring(): Wiring;
  leave(n: Node): void;
  /** Does what the patch says, and tells which nodes became others. */
  apply(patch: Patch): Renamed;
}

/** Of each value, the node that makes it and those that read it. Lists of readers are replaced, never changed. */
interface Wiring {
  readonly makers: readonly (Node | undefined)[];
  readonly readers: readonly (readonly Node[] | undefined)[];
}

/** A graph while patches are applied to it; `wiring`: as `connect` found it in the same nodes. */
function editing({ values: given, outputs, facts }: Start, ops: ReadonlyMap<string, Op>, wiring?: Wiring): Editing {
  const values: GraphValue[] = [...given];
  let makers = wiring?.makers.slice() ?? [];
  let readers = wiring?.readers.slice() ?? [];
  const enter = (n: Node): void => {
    for (const v of n.outputs) if (v !== null) makers[v] = n;
    for (const v of readsOf(n)) {
      const list = readers[v];
      if (list === undefined) readers[v] = [n];
      else if (list[list.length - 1] !== n) readers[v] = [...list, n];
    }
  };
  const leave = (n: Node): void => {
    for (const v of readsOf(n)) readers[v] = readers[v]?.filter((r) => r !== n);
    for (const v of n.outputs) if (v !== null && makers[v] === n) makers[v] = undefined;
  };
  const connect = (nodes: readonly Node[]): void => {
    makers = new Array<undefined>(values.length).fill(undefined);
    readers = new Array<undefined>(values.length).fill(undefined);
    nodes.forEach(enter);
  };
  const apply = (patch: Patch): Renamed => {
    patch.remove.forEach(leave);
    for (const n of patch.add) {
      enter(n);
      if (facts) learn(n, facts, ops);
    }
    const renamed: [Node, Node][] = [];
    for (const [from, to] of patch.instead ?? []) {
      for (const reader of [...(readers[from] ?? [])]) {
        if (patch.add.includes(reader)) continue;
        const other = reading(reader, from, to);
        leave(reader);
        enter(other);
        renamed.push([reader, other]);
      }
    }
    return renamed;
  };
  const view: GraphView = {
    ops,
    maker: (v) => (v == null ? undefined : makers[v]),
    readers: (v) => readers[v] ?? NO_ONE,
    readOnce: (v) => !outputs.has(v) && readers[v]?.length === 1,
    isOutput: (v) => outputs.has(v),
    fact: (v) => (v == null ? undefined : (facts?.[v] ?? factOfValue(values[v]!))),
    constant: (v) => (v == null ? null : ((facts?.[v]?.constant ?? values[v]!.constant)?.peek() ?? null)),
    addValue: (name, given) => {
      const constant = given === undefined ? undefined : 'peek' in given ? given : constantOf(given);
      const v = values.push({ name, ...(constant ? { constant } : {}) }) - 1;
      if (constant && facts) facts[v] = { dtype: constant.dtype, shape: constant.shape, constant };
      return v;
    },
    nameOf: (v) => values[v]!.name,
  };
  return { view, values, connect, wiring: () => ({ makers: makers.slice(), readers: readers.slice() }), leave, apply };
}

/** Applies lists of passes one after another, each until nothing changes, and drops what no one wants. */
function applied(
  start: Start,
  lists: readonly (readonly Pass[])[],
  ops: ReadonlyMap<string, Op>,
  trace?: Tracer,
  log?: Log,
): { nodes: readonly Node[]; values: readonly GraphValue[] } {
  const { view, values, connect, wiring, apply } = editing(start, ops);
  let { nodes } = start;
  /** One look at every node; whether something changed. */
  const round = (passesOf: (op: string) => readonly Pass[]): boolean => {
    let changed = false;
    const gone = new Set<Node>();
    /** Nodes that were replaced by themselves with other inputs. */
    const renamed = new Map<Node, Node>();
    const newest = (n: Node): Node => {
      let at = n;
      for (let next = renamed.get(at); next !== undefined; next = renamed.get(at)) at = next;
      return at;
    };
    const next: Node[] = [];
    for (const old of nodes) {
      const node = newest(old);
      if (gone.has(node)) continue;
      let patch: Patch | null = null;
      let by: Pass | undefined;
      let before = 0;
      for (const pass of passesOf(node.op)) {
        before = values.length;
        patch = pass.rewrite(node, view);
        if (patch === null) continue;
        by = pass;
        break;
      }
      if (patch === null || by === undefined) {
        next.push(node);
        continue;
      }
      trace?.({
        pass: by.name,
        reason: patch.reason,
        removed: patch.remove.map((n) => n.name),
        added: patch.add.map((n) => n.name),
      });
      changed = true;
      for (const n of patch.remove) gone.add(n);
      const others = apply(patch);
      log?.done.push({ pass: by, at: node, patch, values: before, renamed: others });
      next.push(...patch.add);
      if (!patch.remove.includes(node)) next.push(node);
      for (const [reader, other] of others) renamed.set(reader, other);
    }
    if (changed) nodes = sortNodes(next.map(newest).filter((n) => !gone.has(n)));
    return changed;
  };

  connect(nodes);
  if (log) log.start = wiring();
  for (const passes of lists) {
    const relevant = new Map<string, readonly Pass[]>();
    const passesOf = (name: string): readonly Pass[] => {
      let some = relevant.get(name);
      if (some === undefined) relevant.set(name, (some = passes.filter((p) => p.roots?.(ops.get(name)!) ?? true)));
      return some;
    };
    let changed = false;
    for (let i = 0; i < ROUNDS && round(passesOf); i++) {
      changed = true;
      connect(nodes);
    }
    if (!changed && passes !== lists.at(-1)) continue;
    const live = withoutDead(nodes, start.outputs);
    if (live.length === nodes.length) continue;
    if (log) {
      const alive = new Set(live);
      log.done.push({ dead: nodes.filter((n) => !alive.has(n)) });
    }
    nodes = live;
    connect(nodes);
  }
  return { nodes, values };
}
const NO_ONE: readonly Node[] = [];

const factOfValue = (v: GraphValue): Fact | undefined =>
  v.constant ? { dtype: v.constant.dtype, shape: v.constant.shape, constant: v.constant } : undefined;

/** The node with `to` in place of `from`, in what its bodies capture too. */
const reading = (node: Node, from: ValueId, to: ValueId): Node => ({
  ...node,
  inputs: node.inputs.map((v) => (v === from ? to : v)),
  attrs:
    bodiesOf(node).length === 0
      ? node.attrs
      : mapBodies(node.attrs, (g) => ({
          ...g,
          captures: g.captures.map(([inner, outer]) => [inner, outer === from ? to : outer] as const),
        })),
});

/** Facts of the outputs of an added node that have none. */
function learn(node: Node, facts: (Fact | undefined)[], ops: ReadonlyMap<string, Op>): void {
  if (node.outputs.every((v) => v === null || facts[v] !== undefined)) return;
  const op = ops.get(node.op) ?? fail('internal', `a pass made a ${node.op}, which is missing`);
  const inputs = node.inputs.map((v) => (v === null ? null : facts[v]!));
  const fact = (i: number): Fact => inputs[i] ?? fail('internal', `a pass left out input ${i} of ${node.op}`);
  const call: InferCall = {
    inputs,
    attrs: node.attrs,
    outputs: node.outputs.length,
    fact,
    value: (i) =>
      fact(i).constant?.peek() ?? fail('internal', `a pass made a ${node.op} whose input ${i} is no constant`),
  };
  const outs = op.infer!(call);
  node.outputs.forEach((v, i) => {
    if (v !== null) facts[v] ??= { dtype: outs[i]!.dtype, shape: outs[i]!.shape };
  });
}

const mapBodies = (attrs: Node['attrs'], f: (g: Graph) => Graph): Node['attrs'] =>
  Object.fromEntries(
    Object.entries(attrs).map(([k, a]): [string, AttrValue] => [
      k,
      isGraph(a)
        ? f(a)
        : Array.isArray(a) && a.length > 0 && typeof a[0] === 'object' && isGraph(a[0])
          ? (a as readonly Graph[]).map(f)
          : a,
    ]),
  );

/** Topological order that keeps the given order where it can. */
export function sortNodes(nodes: readonly Node[]): readonly Node[] {
  const made = new Map<ValueId, Node>();
  for (const n of nodes) for (const v of n.outputs) if (v !== null) made.set(v, n);
  if (isSorted(nodes, made)) return nodes;
  const out: Node[] = [];
  const done = new Set<Node>();
  for (const root of nodes) {
    const stack: Node[] = [root];
    while (stack.length > 0) {
      const n = stack.at(-1)!;
      if (done.has(n)) {
        stack.pop();
        continue;
      }
      const waits = readsOf(n)
        .map((v) => made.get(v))
        .filter((m): m is Node => m !== undefined && m !== n && !done.has(m));
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
function isSorted(nodes: readonly Node[], made: ReadonlyMap<ValueId, Node>): boolean {
  const done = new Set<ValueId>();
  for (const n of nodes) {
    for (const v of readsOf(n)) if (!done.has(v) && made.has(v) && made.get(v) !== n) return false;
    for (const v of n.outputs) if (v !== null) done.add(v);
  }
  return true;
}

/** Without nodes whose results no one wants. */
function withoutDead(nodes: readonly Node[], outputs: ReadonlySet<ValueId>): readonly Node[] {
  const wanted = new Set<ValueId>(outputs);
  const kept: Node[] = [];
  for (let i = nodes.length - 1; i >= 0; i--) {
    const n = nodes[i]!;
    if (!n.outputs.some((v) => v !== null && wanted.has(v))) continue;
    kept.push(n);
    for (const v of readsOf(n)) wanted.add(v);
  }
  return kept.reverse();
}
