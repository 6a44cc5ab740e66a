/**
 * Binds a graph to concrete inputs: every shape becomes numbers, every value that does not depend on data is computed
 * now, and an If whose condition is known is replaced by its branch. Where a shape depends on data the walk stops along
 * that path, and says which values must be looked at before it can go on.
 */
import { type InferCall, NeedsValue, type Op, type OutFact, refCall } from '../../kernels/define.ts';
import { parametersOf } from './normalize.ts';
import { BITS, type DType } from '../core/dtype.ts';
import { fail, withinEach } from '../core/errors.ts';
import {
  constantOf,
  type Constant,
  type Fact,
  type Facts,
  type Graph,
  type GraphValue,
  type Node,
  readsOf,
  sameNumbers,
  type ValueId,
} from '../core/graph.ts';
import { isTensor, sizeOf, type Tensor, type Value } from '../core/tensor.ts';

/** Nodes to go through, and what is known of the values they read. Values are appended, never renumbered. */
export interface Work {
  readonly nodes: readonly Node[];
  readonly values: readonly GraphValue[];
  /** Facts of inputs, and of values that earlier plans and the host made. */
  readonly facts: ReadonlyMap<ValueId, Fact>;
  /** What was known before those were there. */
  readonly known?: Facts;
  /** Values that are not tensors (sequences, optionals, maps): they exist, on the host. */
  readonly opaque: ReadonlySet<ValueId>;
  readonly outputs: readonly ValueId[];
}

export interface Specialized {
  /** Nodes that can be planned, in order, all facts known. */
  readonly nodes: readonly Node[];
  readonly values: readonly GraphValue[];
  readonly facts: Facts;
  /**
   * Nodes left for later, in order: dynamic ones, those that wait for a demanded value, and all that follow from them.
   */
  readonly deferred: readonly Node[];
  /** Deferred nodes that the host can run once their inputs are there. */
  readonly dynamic: ReadonlySet<Node>;
  /** Values whose contents decide shapes further on. */
  readonly demands: ReadonlySet<ValueId>;
}

/**
 * Folding computes at most this many elements a value, unless the value is needed as a shape: bigger results cost more
 * memory than time.
 */
const FOLD_LIMIT = 1 << 22;

/**
 * What was last learned of a node, from which facts. Inference and folding are pure, and facts are never changed: the
 * same facts give the same again. So from one token to the next a decoder learns only what follows from the length that
 * grew, and keeps its constants.
 */
const LEARNED = new WeakMap<
  Node,
  { readonly inputs: readonly (Fact | null)[]; readonly outputs: readonly (Fact | null)[]; readonly folded: boolean }
>();

export function specialize(work: Work, ops: ReadonlyMap<string, Op>): Specialized {
  const values = [...work.values];
  const facts = (work.known ?? factsOfConstants(work.values)).slice();
  for (const [v, fact] of work.facts) facts[v] = fact;
  const learnConstants = (): void => {
    for (let v = facts.length; v < values.length; v++) facts.push(values[v]!.constant && factOf(values[v]!.constant!));
  };
  learnConstants();
  const planned: Node[] = [];
  const deferred: Node[] = [];
  const dynamic = new Set<Node>();
  const demands = new Set<ValueId>();

  const defer = (node: Node): void => {
    deferred.push(node);
  };

  const visit = (node: Node): void => {
    const op = ops.get(node.op)!;
    const reads = readsOf(node);
    const isDynamic =
      typeof op.dynamic === 'function' ? op.dynamic(node.attrs, node.outputs.length) : op.dynamic === true;

    if (node.op === 'If') {
      const cond = node.inputs[0]!;
      const fact = facts[cond];
      if (fact === undefined) return defer(node);
      checkTypes(op, [fact]);
      const known = fact.constant?.peek();
      if (known === undefined || known === null) {
        demands.add(cond);
        return defer(node);
      }
      if (sizeOf(known.shape) !== 1)
        fail('shape_mismatch', `the condition of an If has one element, not shape [${known.shape}]`);
      const body = inlined(
        (known.data as Uint8Array)[0] ? (node.attrs.then_branch as Graph) : (node.attrs.else_branch as Graph),
        node,
        values,
      );
      learnConstants();
      withinEach(body, visit);
      return;
    }
    let opaque = false;
    for (const v of reads)
      if (facts[v] === undefined) {
        if (!work.opaque.has(v)) return defer(node);
        opaque = true;
      }
    if (isDynamic || opaque) {
      checkTypes(
        op,
        node.inputs.map((v) => (v === null ? null : (facts[v] ?? null))),
      );
      dynamic.add(node);
      return defer(node);
    }
    const inputs = node.inputs.map((v) => (v === null ? null : facts[v]!));
    const last = LEARNED.get(node);
    if (last !== undefined && sameItems(last.inputs, inputs)) {
      for (let i = 0; i < node.outputs.length; i++)
        if (node.outputs[i] !== null) facts[node.outputs[i]!] = last.outputs[i]!;
      if (!last.folded) planned.push(node);
      return;
    }
    if (last === undefined || !sameTypes(last.inputs, inputs)) checkTypes(op, inputs);
    let outs: readonly OutFact[];
    try {
      outs = inferNode(op, node, inputs);
    } catch (e) {
      if (!(e instanceof NeedsValue)) throw e;
      demands.add(node.inputs[e.index]!);
      return defer(node);
    }
    const outputs = node.outputs.map((v, i): Fact | null => {
      if (v === null) return null;
      const out = outs[i] ?? fail('internal', `${node.op} infers ${outs.length} outputs, output ${i} is wanted`);
      checkSize(out);
      return { dtype: out.dtype, shape: out.shape };
    });
    const folded = !op.random && foldable(op, inputs, outs) ? fold(op, node, inputs) : null;
    if (folded !== null) for (const [i, t] of folded.entries()) if (outputs[i] && t) outputs[i] = factOf(constantOf(t));
    if (last !== undefined)
      for (const [i, f] of outputs.entries())
        if (f && last.outputs[i] && alike(f, last.outputs[i])) outputs[i] = last.outputs[i];
    node.outputs.forEach((v, i) => {
      if (v !== null) facts[v] = outputs[i]!;
    });
    LEARNED.set(node, { inputs, outputs, folded: folded !== null });
    if (folded !== null) return;
    planned.push(node);
  };
  withinEach(work.nodes, visit);

  return {
    nodes: reachable(planned, deferred, work.outputs, demands, values.length),
    values,
    facts,
    deferred,
    dynamic,
    demands,
  };
}

export function inferNode(op: Op, node: Node, inputs: readonly (Fact | null)[]): readonly OutFact[] {
  if (op.infer === undefined) fail('internal', `${op.op} has no shape inference and is not dynamic`);
  const fact = (i: number): Fact => inputs[i] ?? fail('input_missing', `input ${i} of ${op.op} is required`);
  const call: InferCall = {
    inputs,
    attrs: node.attrs,
    outputs: node.outputs.length,
    fact,
    value: (i) => {
      const t = fact(i).constant?.peek();
      if (!t) throw new NeedsValue(i);
      return t;
    },
  };
  return op.infer(call);
}

function foldable(op: Op, inputs: readonly (Fact | null)[], outs: readonly OutFact[]): boolean {
  return (
    (op.shapeOnly || inputs.every((f) => f === null || (f.constant?.peek() ?? null) !== null)) &&
    outs.every((o) => sizeOf(o.shape) <= FOLD_LIMIT)
  );
}

/** The node's outputs computed by its reference; null where the reference is asynchronous or yields no tensors. */
function fold(op: Op, node: Node, inputs: readonly (Fact | null)[]): readonly (Tensor | null)[] | null {
  const result = op.reference(
    refCall(
      inputs.map((f) =>
        f === null
          ? null
          : op.shapeOnly
            ? ({ dtype: f.dtype, shape: f.shape, data: [] } as unknown as Tensor)
            : f.constant!.peek(),
      ),
      node.attrs,
      node.outputs.length,
    ),
  );
  if (result instanceof Promise) {
    result.catch(() => undefined);
    return null;
  }
  return result.every((v: Value | null) => v === null || isTensor(v)) ? (result as readonly (Tensor | null)[]) : null;
}

/** Constants are compared by content up to this many elements: shapes and indices. */
const COMPARED = 64;
function sameItems(a: readonly (Fact | null)[], b: readonly (Fact | null)[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
function sameTypes(a: readonly (Fact | null)[], b: readonly (Fact | null)[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i]?.dtype !== b[i]?.dtype) return false;
  return true;
}
/** Do the two facts say the same? */
function alike(a: Fact, b: Fact): boolean {
  if (a.dtype !== b.dtype || !sameNumbers(a.shape, b.shape)) return false;
  const [s, t] = [a.constant?.peek(), b.constant?.peek()];
  if (!s || !t) return a.constant === b.constant;
  const n = s.data.length;
  if (n > COMPARED || n !== t.data.length) return false;
  for (let i = 0; i < n; i++) if (!Object.is(s.data[i], t.data[i])) return false;
  return true;
}

/** A dim of 2^31 or a value of 2^40 bytes is a mistake or an attack; refused before anything is allocated. */
function checkSize(out: OutFact): void {
  let n = 1;
  for (const d of out.shape) {
    if (!Number.isInteger(d) || d < 0) fail('shape_mismatch', `inferred shape [${out.shape}] is not a shape`);
    n *= d;
  }
  if ((n * Math.max(1, BITS[out.dtype])) / 8 > 2 ** 40)
    fail('model_too_large', `a value of shape [${out.shape}] and type ${out.dtype} does not fit any memory`);
}

/**
 * Input dtypes against the operator's type parameters: each bound once, then the same everywhere. @throws type_mismatch
 */
export function checkTypes(op: Op, inputs: readonly (Fact | null)[]): void {
  const parameters = parametersOf(op.inputs);
  const bound = new Map<string, DType>();
  inputs.forEach((fact, i) => {
    const p = parameters[Math.min(i, parameters.length - 1)];
    if (fact === null || p === undefined || p.type === 'any') return;
    const allowed = op.types[p.type];
    if (allowed === undefined) {
      if (fact.dtype !== p.type)
        fail('type_mismatch', `input ${i} (${p.name}) of ${op.op} is ${fact.dtype}; it must be ${p.type}`);
      return;
    }
    if (!allowed.includes(fact.dtype))
      fail(
        'type_mismatch',
        `input ${i} (${p.name}) of ${op.op} is ${fact.dtype}; it must be one of ${allowed.join(', ')}`,
      );
    const first = bound.get(p.type);
    if (first !== undefined && first !== fact.dtype)
      fail(
        'type_mismatch',
        `input ${i} (${p.name}) of ${op.op} is ${fact.dtype}, but another input of the same type ${p.type} is ${first}`,
      );
    bound.set(p.type, fact.dtype);
  });
}

/**
 * Branches as they were inlined last: where values are as many as then, the nodes are the same, so that what was
 * learned of them is known.
 */
const INLINED = new WeakMap<
  Node,
  {
    readonly body: Graph;
    readonly from: number;
    readonly nodes: readonly Node[];
    readonly added: readonly GraphValue[];
  }
>();
function inlined(body: Graph, node: Node, values: GraphValue[]): readonly Node[] {
  const last = INLINED.get(node);
  const from = values.length;
  if (last?.body === body && last.from === from) {
    values.push(...last.added);
    return last.nodes;
  }
  const nodes = inline(body, node, values);
  INLINED.set(node, { body, from, nodes, added: values.slice(from) });
  return nodes;
}

/** The branch's nodes with fresh value ids, writing the If's outputs. */
function inline(body: Graph, node: Node, values: GraphValue[]): Node[] {
  const outer = new Map<ValueId, ValueId>(body.captures);
  const toOuter = (v: ValueId): ValueId => {
    let id = outer.get(v);
    if (id === undefined)
      outer.set(v, (id = values.push({ ...body.values[v]!, name: `${node.name}/${body.values[v]!.name}` }) - 1));
    return id;
  };
  // A body output made by one of its nodes is renamed to the If's; one that is a capture or a constant is copied by
  // Identity.
  const madeInside = new Set(body.nodes.flatMap((n) => n.outputs));
  const copies: Node[] = [];
  if (body.outputs.length < node.outputs.length)
    fail('model_malformed', `a branch has ${body.outputs.length} outputs, the If ${node.outputs.length}`);
  body.outputs.forEach((v, i) => {
    const to = node.outputs[i] ?? null;
    if (to === null) return;
    if (madeInside.has(v) && !outer.has(v)) outer.set(v, to);
    else
      copies.push({
        op: 'Identity',
        name: `${node.name}/output${i}`,
        inputs: [v],
        outputs: [to],
        attrs: {},
        opset: node.opset,
      });
  });
  const rename = (g: Graph): Graph => ({
    ...g,
    captures: g.captures.map(([inner, v]) => [inner, toOuter(v)] as const),
  });
  const renameAttr = (a: Node['attrs'][string]): Node['attrs'][string] =>
    typeof a !== 'object'
      ? a
      : 'nodes' in a
        ? rename(a)
        : Array.isArray(a) && typeof a[0] === 'object' && 'nodes' in a[0]
          ? (a as readonly Graph[]).map(rename)
          : a;
  return [
    ...body.nodes.map(
      (n): Node => ({
        ...n,
        name: `${node.name}/${n.name}`,
        inputs: n.inputs.map((v) => (v === null ? null : toOuter(v))),
        outputs: n.outputs.map((v) => (v === null ? null : toOuter(v))),
        attrs: Object.fromEntries(Object.entries(n.attrs).map(([k, a]) => [k, renameAttr(a)])),
      }),
    ),
    ...copies.map((n): Node => ({ ...n, inputs: n.inputs.map((v) => toOuter(v!)) })),
  ];
}

/** Planned nodes whose results someone still wants, in order. */
function reachable(
  planned: readonly Node[],
  deferred: readonly Node[],
  outputs: readonly ValueId[],
  demands: ReadonlySet<ValueId>,
  values: number,
): Node[] {
  const wanted = new Uint8Array(values);
  const live: Node[] = [];
  for (const v of outputs) wanted[v] = 1;
  for (const v of demands) wanted[v] = 1;
  for (const node of deferred) for (const v of readsOf(node)) wanted[v] = 1;
  for (let i = planned.length - 1; i >= 0; i--) {
    const node = planned[i]!;
    if (!node.outputs.some((v) => v !== null && wanted[v] === 1)) continue;
    live.push(node);
    for (const v of readsOf(node)) wanted[v] = 1;
  }
  return live.reverse();
}

/** Facts of the constants among values, by the list of those: a graph's is the same for all dims. */
const CONSTANTS = new WeakMap<readonly GraphValue[], Facts>();
function factsOfConstants(values: readonly GraphValue[]): Facts {
  let facts = CONSTANTS.get(values);
  if (facts === undefined) CONSTANTS.set(values, (facts = values.map(({ constant }) => constant && factOf(constant))));
  return facts;
}

const FACTS = new WeakMap<Constant, Fact>();
/** The fact of a fixed value. */
export function factOf(c: Constant): Fact {
  let fact = FACTS.get(c);
  if (fact === undefined) FACTS.set(c, (fact = { dtype: c.dtype, shape: c.shape, constant: c }));
  return fact;
}
