/**
 * Merging at concrete shapes, for devices: elementwise operators become map expressions, regions of them one
 * expression, and a map that follows a convolution or a product becomes its epilogue. References see none of this.
 *
 * A map takes in the maps that make its inputs while it is their only reader. Where an intermediate is read twice
 * inside a region (x * sigmoid(x)) its readers come together first, and are then one reader. The expression repeats the
 * shared part; those who write code from it compute equal parts once.
 */
import { callOf } from '../../kernels/call.ts';
import type { Op } from '../../kernels/define.ts';
import { type Ex, input, kindOf, parsed, substitute, written } from '../../kernels/expr.ts';
import type { Constant, Fact, GraphValue, Node, ValueId } from '../core/graph.ts';
import { readsOf, sameNumbers } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import { byteLength, sizeOf } from '../core/tensor.ts';
import { inPairs } from './joined.ts';
import { type Measure, measurer } from './fuse-measure.ts';
import { liftScalars } from './lift-scalars.ts';
import type { Lowered } from './lowering.ts';
import type { Rules } from './passes/index.ts';
import type { Bound } from './rewrite.ts';
import type { Fusion } from './fuse-again.ts';
import { GATED, MAP, lower, mapNode } from './lower-map.ts';

/**
 * Different operations in one expression: more than the longest chain worth one dispatch, less than compilers choke on.
 */
const MAX_COST = 256;
/** Operations when shared parts are repeated: the size of the text that plans carry. */
const MAX_TREE = 1500;
/** Operands of one expression besides its output; WebGPU's default is 8 storage buffers a stage. */
const MAX_OPERANDS = 7;
/** Operands of an epilogue: a convolution binds four buffers itself. */
const MAX_EPILOGUE_OPERANDS = 4;
/**
 * Operations that may be computed again for every element of a larger result, or by each of several readers, rather
 * than stored once.
 */
const AGAIN_ALWAYS = 2;
const AGAIN_SMALL = 1 << 16;
const NARROW = /^(b?float16)$/;

/** A node of the result, while it may still be taken in by others. */
interface Item {
  node: Node;
  /** What was merged into it, itself included; none: it is as it came. */
  parts: readonly Node[];
  /** The node whose attributes an epilogue joined. */
  base: Node | null;
  /** Values that must have one shape. */
  equal: readonly (readonly [ValueId, ValueId])[];
  /** Of a map: the expression over `inputs`. */
  expr: Ex | null;
  inputs: readonly ValueId[];
  label: readonly string[];
  gone: boolean;
}

/**
 * Merges what the allowed kinds of rewrites let it; with none each elementwise operator stays by itself. `wanted`
 * values are still made.
 */
export function fuse(
  graph: Bound,
  wanted: ReadonlySet<ValueId>,
  ops: ReadonlyMap<string, Op>,
  caps: Caps,
  { allow, lowerings }: Pick<Rules, 'allow' | 'lowerings'>,
): Fusion {
  if (caps.kind === 'reference') return { from: graph, to: graph, items: [] };
  const facts = graph.facts.slice();
  const values: GraphValue[] = [...graph.values];
  const addConstant = (name: string, c: Constant): ValueId => {
    const v = values.push({ name, constant: c }) - 1;
    facts[v] = { dtype: c.dtype, shape: c.shape, constant: c };
    return v;
  };
  const factOf = (v: ValueId): Fact => facts[v]!;
  const shapeOf = (v: ValueId): readonly number[] => factOf(v).shape;
  const sizeAt = (v: ValueId): number => sizeOf(shapeOf(v));
  const sameShape = (a: ValueId, b: ValueId): boolean => sameNumbers(shapeOf(a), shapeOf(b));
  const measure = measurer();

  const items = graph.nodes.map((node): Item => {
    const lowered =
      lower(node, ops.get(node.op)!, facts, caps) ??
      lowerings.reduce<Lowered | null>(
        (found, lowering) => found ?? lowering(node, facts, addConstant, caps.kind),
        null,
      );
    const item = { node, parts: [], base: null, equal: [], gone: false };
    return lowered === null
      ? { ...item, expr: null, inputs: readsOf(node), label: [node.op] }
      : { ...item, ...lowered, parts: [node] };
  });
  const makers = new Map<ValueId, Item>();
  const readers = new Map<ValueId, Set<Item>>();
  const enter = (item: Item): void => {
    for (const v of item.node.outputs) if (v !== null) makers.set(v, item);
    for (const v of item.inputs) {
      const set = readers.get(v);
      if (set) set.add(item);
      else readers.set(v, new Set([item]));
    }
  };
  const leave = (item: Item): void => {
    for (const v of item.inputs) readers.get(v)?.delete(item);
  };
  items.forEach(enter);
  const onlyReader = (v: ValueId, item: Item): boolean =>
    !wanted.has(v) && readers.get(v)!.size === 1 && readers.get(v)!.has(item);
  const change = (item: Item, to: Partial<Item>): void => {
    leave(item);
    Object.assign(item, to);
    enter(item);
  };

  if (allow.size > 0) {
    const waiting: Item[] = [];
    for (const item of items)
      if (item.expr !== null) {
        grow(item);
        if (goesOn(item)) waiting.push(item);
        else finish(item);
      }
    for (const item of waiting) if (item.expr !== null && !item.gone) finish(item);
    for (const item of items) if (item.expr !== null && !item.gone) spread(item);
  }
  const places = new Map(graph.nodes.map((n, i) => [n, i]));
  const placeOf = (n: Node): number => places.get(n)!;
  const left = items.filter((i) => !i.gone);
  const merged = left.map(({ node, expr, inputs, label }) =>
    expr === null ? node : mapNode(node, inputs, label, expr, facts),
  );
  const nodes =
    allow.size === 0
      ? merged
      : liftScalars(
          merged,
          ({ op, attrs }) => (op === MAP ? 'expr' : typeof attrs.epilogue === 'string' ? 'epilogue' : null),
          addConstant,
        );
  return {
    from: graph,
    to: { nodes, facts, values },
    items: left.map(({ node, parts, base, equal }, i) => ({
      node: nodes[i]!,
      parts: (parts.length > 0 ? parts : [node]).map(placeOf),
      base: base && placeOf(base),
      equal,
    })),
  };

  /** Takes in the makers of the map's inputs. */
  function grow(item: Item): void {
    for (let found = true; found; ) {
      found = false;
      for (const v of item.inputs) {
        const from = makers.get(v);
        if (from === undefined || from.expr === null || !onlyReader(v, item) || !worth(from, item, v)) continue;
        const joined = join(item, v, from);
        if (joined === null) continue;
        leave(from);
        from.gone = true;
        change(item, joined);
        found = true;
        break;
      }
    }
  }

  /** Will a map that reads nothing else take it in? Then what makes its input need not look at it by itself. */
  function goesOn({ node }: Item): boolean {
    const v = node.outputs[0]!;
    const [next, ...more] = readers.get(v) ?? [];
    return next !== undefined && more.length === 0 && next.expr !== null && next.inputs.length === 1 && !wanted.has(v);
  }

  /** May `v` be computed where it is read? */
  function worth(from: Item, to: Item, v: ValueId): boolean {
    if (!allow.has('reassociates') && NARROW.test(factOf(v).dtype)) return false; // it would not be rounded
    const size = sizeAt(to.node.outputs[0]!);
    if (sizeAt(v) === size) return true;
    const { work } = measure(from.expr!);
    return work <= AGAIN_ALWAYS || work * size <= AGAIN_SMALL;
  }

  /**
   * A map that is nearly nothing, of one value or of two that are broadcast, goes into all of its readers, if they are
   * maps.
   */
  function spread(item: Item): void {
    const v = item.node.outputs[0]!;
    const all = [...(readers.get(v) ?? [])];
    if (
      wanted.has(v) ||
      all.length < 2 ||
      (item.inputs.length !== 1 && item.inputs.some((u) => 2 * sizeAt(u) > sizeAt(v))) ||
      item.inputs.length > 2 ||
      measure(item.expr!).work > AGAIN_ALWAYS
    )
      return;
    if (all.some((r) => r.expr === null || !worth(item, r, v))) return;
    const joined = all.map((r) => join(r, v, item));
    if (joined.some((j) => j === null)) return;
    leave(item);
    item.gone = true;
    all.forEach((r, i) => change(r, joined[i]!));
  }

  /** `outer` with its input `v` replaced by the expression that makes it; null where the result would be too big. */
  function join(outer: Item, v: ValueId, inner: Item): Pick<Item, 'expr' | 'inputs' | 'label' | 'parts'> | null {
    const inputs = outer.inputs.filter((u) => u !== v);
    for (const u of inner.inputs) if (!inputs.includes(u)) inputs.push(u);
    const at = (u: ValueId): Ex => input(inputs.indexOf(u), kindOf(factOf(u).dtype)!);
    const innerExpr = substitute(inner.expr!, inner.inputs.map(at));
    const expr = substitute(
      outer.expr!,
      outer.inputs.map((u) => (u === v ? innerExpr : at(u))),
    );
    return inputs.length <= MAX_OPERANDS && fits(expr)
      ? { expr, inputs, label: [...inner.label, ...outer.label], parts: [...inner.parts, ...outer.parts] }
      : null;
  }
  function fits(expr: Ex): boolean {
    const { cost, tree }: Measure = measure(expr);
    return cost <= MAX_COST && tree <= MAX_TREE;
  }

  /**
   * The map as the epilogue of the convolution or product that makes one of its inputs: the last one, where there are
   * several.
   */
  function finish(item: Item): void {
    const y = item.node.outputs[0]!;
    if (gate(item, y)) return;
    const found = item.inputs
      .map((v) => ({ v, from: makers.get(v) }))
      .filter(
        ({ v, from }) =>
          from !== undefined && from.expr === null && ops.get(from.node.op)!.epilogue && onlyReader(v, item),
      )
      .sort((a, b) => items.indexOf(b.from!) - items.indexOf(a.from!));
    for (const { v, from } of found) {
      const fused = withEpilogue(from!.node, v, item, y);
      if (fused === null || !runs(fused, from!.node)) continue;
      leave(from!);
      from!.gone = true;
      const { base, parts, equal } = from!;
      change(item, {
        node: fused,
        expr: null,
        inputs: readsOf(fused),
        label: fused.attrs.label as readonly string[],
        base: base ?? (fused.op === GATED ? null : from!.node),
        parts: [...parts, ...item.parts],
        equal: [...equal, [v, y]],
      });
      return;
    }
  }

  /** The map as what becomes of two products of one value with constants, if that is all that it reads: one product. */
  function gate(item: Item, y: ValueId): boolean {
    const from = item.inputs.map((v) => makers.get(v));
    const [a, b] = from;
    if (
      caps.kind !== 'webgpu' ||
      !allow.has('reassociates') ||
      item.inputs.length !== 2 ||
      !a ||
      !b ||
      !onlyFloats(item.expr!)
    )
      return false;
    const weights = from.map((f) => facts[f!.node.inputs[1] ?? -1]?.constant);
    if (
      from.some(
        (f, i) =>
          f!.expr !== null ||
          f!.node.op !== 'MatMul' ||
          f!.node.inputs.length !== 2 ||
          !onlyReader(item.inputs[i]!, item) ||
          !sameShape(item.inputs[i]!, y),
      ) ||
      a.node.inputs[0] !== b.node.inputs[0]
    )
      return false;
    const [g, u] = weights;
    if (
      !g ||
      !u ||
      g.shape.length !== 2 ||
      g.shape.join() !== u.shape.join() ||
      g.shape[1]! % 2 !== 0 ||
      g.dtype !== u.dtype ||
      factOf(y).dtype !== g.dtype ||
      2 * byteLength(g) > caps.limits.maxStorageBufferBindingSize
    )
      return false;
    const inner = from.map(
      (f, i): Ex =>
        typeof f!.node.attrs.epilogue === 'string'
          ? substitute(parsed(f!.node.attrs.epilogue), [input(i, 'f32')])
          : input(i, 'f32'),
    );
    const expr = substitute(item.expr!, inner);
    const label = [...a.label, ...b.label, ...item.label];
    const node: Node = {
      ...item.node,
      op: GATED,
      inputs: [a.node.inputs[0]!, addConstant(`${item.node.name}.weights`, inPairs(g, u))],
      outputs: [y],
      attrs: { expr: written(expr), label },
    };
    const call = callOf(node, factOf);
    if (!fits(expr) || !(ops.get(GATED)!.webgpu ?? []).some((k) => k.accepts?.(call, caps) ?? true)) return false;
    for (const f of [a, b]) {
      leave(f);
      f.gone = true;
    }
    change(item, {
      node,
      expr: null,
      inputs: readsOf(node),
      label,
      base: null,
      parts: [...from.flatMap((f) => [...f!.parts, f!.base ?? f!.node]), ...item.parts],
      equal: [...from.flatMap((f) => f!.equal), ...item.inputs.map((v): [ValueId, ValueId] => [v, y])],
    });
    return true;
  }

  function withEpilogue(node: Node, v: ValueId, map: Item, y: ValueId): Node | null {
    if (
      node.outputs[0] !== v ||
      node.outputs.slice(1).some((o) => o !== null) ||
      !/^(b?float16|float32)$/.test(factOf(v).dtype)
    )
      return null;
    if (
      !sameShape(v, y) ||
      factOf(v).dtype !== factOf(y).dtype ||
      (!allow.has('reassociates') && NARROW.test(factOf(v).dtype))
    )
      return null;
    const before = typeof node.attrs.epilogue === 'string';
    const from = before ? (node.attrs.operandsFrom as number) : ops.get(node.op)!.inputs.length;
    const old = before ? node.inputs.slice(from) : [];
    const others = map.inputs.filter((u) => u !== v);
    const operands = [...old, ...others.filter((u) => !old.includes(u))];
    // Operands are read as f32: the epilogue works on the accumulator.
    if (
      operands.length > MAX_EPILOGUE_OPERANDS ||
      others.some((u) => kindOf(factOf(u).dtype) !== 'f32') ||
      !onlyFloats(map.expr!)
    )
      return null;
    const inner: Ex = before ? parsed(node.attrs.epilogue as string) : input(0, 'f32');
    const expr = substitute(
      map.expr!,
      map.inputs.map((u) => (u === v ? inner : input(1 + operands.indexOf(u), 'f32'))),
    );
    if (!fits(expr)) return null;
    const base = [...node.inputs.slice(0, from), ...new Array<null>(Math.max(0, from - node.inputs.length)).fill(null)];
    return {
      ...node,
      inputs: [...base, ...operands],
      outputs: [y],
      attrs: {
        ...node.attrs,
        epilogue: written(expr),
        operandsFrom: from,
        label: [...((node.attrs.label as readonly string[] | undefined) ?? [node.op]), ...map.label],
      },
    };
  }

  /** Is there a kernel that takes the node with its epilogue, if there is one without? */
  function runs(fused: Node, plain: Node): boolean {
    const op = ops.get(fused.op)!;
    const takes = (node: Node): boolean => {
      const call = callOf(node, factOf);
      return caps.kind === 'webgpu'
        ? (op.webgpu ?? []).some((k) => k.accepts?.(call, caps) ?? true)
        : caps.kind === 'wasm' && (op.wasm ?? []).some((k) => k.accepts?.(call, caps) ?? true);
    };
    return takes(fused) || !takes(plain);
  }
}

const onlyFloats = (e: Ex): boolean =>
  (e.k === 'f32' || e.k === 'bool') && (e.f === 'in' || e.f === 'const' || e.a.every(onlyFloats));
