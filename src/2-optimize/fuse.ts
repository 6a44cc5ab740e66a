/**
 * Rewrites at concrete shapes, for devices: elementwise operators become map expressions, chains of them one expression, and a map that
 * follows a convolution or a product becomes its epilogue. References see none of this.
 */
import type { Op } from '../../kernels/define.ts';
import { constant, costOf, type Ex, input, inputsOf, kindOf, substitute, x } from '../../kernels/expr.ts';
import { bigints, numbers } from '../core/numbers.ts';
import type { Constant, Fact, GraphValue, Node, ValueId } from '../core/graph.ts';
import { readsOf } from '../core/graph.ts';
import type { Caps } from '../core/plan.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { batchNormConstants } from './batchnorm.ts';
import type { Bound, Exactness } from './rewrite.ts';

/** A graph at concrete shapes, ready to be planned. */
export interface Concrete { readonly nodes: readonly Node[]; readonly facts: ReadonlyMap<ValueId, Fact>; readonly values: readonly GraphValue[] }

export const MAP = 'sardonyx.Map';
/** Operations in one expression: more than the longest chain worth one dispatch, less than compilers choke on. */
const MAX_COST = 256;
/** Operands of one expression besides its output; WebGPU's default is 8 storage buffers a stage. */
const MAX_OPERANDS = 6;
/** Operands of an epilogue: a convolution binds three buffers itself. */
const MAX_EPILOGUE_OPERANDS = 4;

/** A map being built: the expression over `inputs`. */
interface MapNode { readonly node: Node; readonly expr: Ex; readonly inputs: readonly ValueId[]; readonly label: readonly string[] }

/** With `merge` off each elementwise operator stays by itself. `wanted` values must still be made. */
export function fuse(graph: Bound, wanted: ReadonlySet<ValueId>, ops: ReadonlyMap<string, Op>, caps: Caps, allow: ReadonlySet<Exactness>): Concrete {
  const merge = allow.size > 0;
  if (caps.kind === 'reference') return { nodes: graph.nodes, facts: graph.facts, values: graph.values };
  const facts = new Map(graph.facts);
  const values = [...graph.values];
  const addConstant = (name: string, c: Constant): ValueId => {
    const v = values.push({ name, constant: c }) - 1;
    facts.set(v, { dtype: c.dtype, shape: c.shape, constant: c });
    return v;
  };
  const uses = new Map<ValueId, number>();
  for (const n of graph.nodes) for (const v of readsOf(n)) uses.set(v, (uses.get(v) ?? 0) + 1);
  const once = (v: ValueId): boolean => uses.get(v) === 1 && !wanted.has(v);
  const shapeOf = (v: ValueId): readonly number[] => facts.get(v)!.shape;
  const sameShape = (a: ValueId, b: ValueId): boolean => shapeOf(a).length === shapeOf(b).length && shapeOf(a).every((d, i) => d === shapeOf(b)[i]);

  const out: (Node | null)[] = [];
  /** Where in `out` the maker of a value is, while it may still be absorbed. */
  const maps = new Map<ValueId, { at: number; map: MapNode }>();
  const anchors = new Map<ValueId, { at: number; node: Node }>();

  for (const node of graph.nodes) {
    const lowered = lower(node, ops.get(node.op)!, facts, caps) ?? lowerBatchNorm(node, facts, addConstant);
    if (lowered === null) {
      const at = out.push(node) - 1;
      const y = node.outputs[0];
      if (ops.get(node.op)!.epilogue && y != null && node.outputs.slice(1).every((v) => v === null) && /^(b?float16|float32)$/.test(facts.get(y)!.dtype)) anchors.set(y, { at, node });
      continue;
    }
    const y = node.outputs[0]!;
    let map = lowered;
    if (merge) {
      for (const v of lowered.inputs) {
        const from = maps.get(v);
        if (from === undefined || !once(v) || sizeOf(shapeOf(v)) !== sizeOf(shapeOf(y))) continue;
        const joined = join(map, v, from.map);
        if (joined === null) continue;
        map = joined;
        out[from.at] = null;
        maps.delete(v);
      }
      const fused = epilogue(map, y);
      if (fused !== null) {
        const at = out.push(fused) - 1;
        anchors.set(y, { at, node: fused });
        continue;
      }
    }
    const at = out.push(mapNode(map, facts)) - 1;
    maps.set(y, { at, map });
  }
  return { nodes: out.filter((n): n is Node => n !== null), facts, values };

  /** The map as the epilogue of the convolution or product that makes one of its inputs; null where there is none. */
  function epilogue(map: MapNode, y: ValueId): Node | null {
    for (const v of map.inputs) {
      const anchor = anchors.get(v);
      if (anchor === undefined || !once(v) || !sameShape(v, y) || facts.get(v)!.dtype !== facts.get(y)!.dtype) continue;
      const node = anchor.node;
      const before = typeof node.attrs.epilogue === 'string';
      const from = before ? (node.attrs.operandsFrom as number) : ops.get(node.op)!.inputs.length;
      const old = before ? node.inputs.slice(from) : [];
      const others = map.inputs.filter((u) => u !== v);
      const operands = [...old, ...others.filter((u) => !old.includes(u))];
      // Operands are read as f32: the epilogue works on the accumulator.
      if (operands.length > MAX_EPILOGUE_OPERANDS || others.some((u) => kindOf(facts.get(u!)!.dtype) !== 'f32') || !onlyFloats(map.expr)) continue;
      const inner: Ex = before ? (JSON.parse(node.attrs.epilogue as string) as Ex) : input(0, 'f32');
      const expr = substitute(map.expr, map.inputs.map((u) => (u === v ? inner : input(1 + operands.indexOf(u), 'f32'))));
      if (costOf(expr) > MAX_COST) continue;
      out[anchor.at] = null;
      anchors.delete(v);
      const base = [...node.inputs.slice(0, from), ...new Array<null>(Math.max(0, from - node.inputs.length)).fill(null)];
      return {
        ...node, inputs: [...base, ...operands], outputs: [y],
        attrs: { ...node.attrs, epilogue: JSON.stringify(expr), operandsFrom: from, label: [...((node.attrs.label as readonly string[] | undefined) ?? [node.op]), ...map.label] },
      };
    }
    return null;
  }
}

/** Whether the expression computes with f32 and bool alone. */
const onlyFloats = (e: Ex): boolean => (e.k === 'f32' || e.k === 'bool') && (e.f === 'in' || e.f === 'const' || e.a.every(onlyFloats));

/** An elementwise node as a map; null where it is none, or has types that the device does not compute with. */
function lower(node: Node, op: Op, facts: ReadonlyMap<ValueId, Fact>, caps: Caps): MapNode | null {
  if (op.map === undefined || node.outputs.slice(1).some((v) => v !== null)) return null;
  const y = facts.get(node.outputs[0]!)!;
  const all = [...node.inputs.filter((v): v is ValueId => v !== null).map((v) => facts.get(v)!), y];
  if (all.some((f) => kindOf(f.dtype) === undefined || (caps.kind === 'webgpu' && f.dtype === 'float64'))) return null;
  const inputs: ValueId[] = [];
  const args = node.inputs.map((v): Ex | undefined => {
    if (v === null) return undefined;
    const fact = facts.get(v)!;
    const baked = scalarOf(fact);
    if (baked !== null) return constant(baked, kindOf(fact.dtype)!);
    if (!inputs.includes(v)) inputs.push(v);
    return input(inputs.indexOf(v), kindOf(fact.dtype)!);
  });
  const expr = op.map(args as readonly Ex[], node.attrs, y.dtype);
  return expr === null ? null : { node, expr, inputs, label: [node.op.replace(/^.*\./, '')] };
}

/** Batch normalisation with constant statistics is a multiplication and an addition. */
function lowerBatchNorm(node: Node, facts: ReadonlyMap<ValueId, Fact>, addConstant: (name: string, c: Constant) => ValueId): MapNode | null {
  if (node.op !== 'BatchNormalization') return null;
  const fact = facts.get(node.inputs[0]!)!;
  const constants = batchNormConstants(node, fact.shape.length, node.inputs.slice(1, 5).map((v) => facts.get(v!)?.constant?.peek() ?? null));
  if (constants === null || kindOf(fact.dtype) !== 'f32') return null;
  const inputs = [node.inputs[0]!, addConstant(`${node.name}.scale`, constants.scale), addConstant(`${node.name}.shift`, constants.shift)];
  return { node, inputs, expr: x.add(x.mul(input(0, 'f32'), input(1, 'f32')), input(2, 'f32')), label: [node.op] };
}

/** The value of a one-element constant: it is written into the expression. */
function scalarOf(fact: Fact): number | bigint | null {
  if (fact.constant === undefined || sizeOf(fact.shape) !== 1) return null;
  const t: Tensor | null = fact.constant.peek();
  if (t === null) return null;
  return t.dtype === 'int64' || t.dtype === 'uint64' ? bigints(t)[0]! : numbers(t)[0]!;
}

/** `outer` with its input `v` replaced by the expression that makes it; null where the result would be too big. */
function join(outer: MapNode, v: ValueId, inner: MapNode): MapNode | null {
  const inputs = outer.inputs.filter((u) => u !== v);
  for (const u of inner.inputs) if (!inputs.includes(u)) inputs.push(u);
  const innerExpr = substitute(inner.expr, inner.inputs.map((u, i) => at(inputs, u, inner.expr, i)));
  const expr = substitute(outer.expr, outer.inputs.map((u, i) => (u === v ? innerExpr : at(inputs, u, outer.expr, i))));
  if (inputs.length > MAX_OPERANDS || costOf(expr) > MAX_COST) return null;
  return { node: outer.node, expr, inputs, label: [...inner.label, ...outer.label] };
}

/** Input `i` of `e`, renumbered to the place of `u`. */
const at = (inputs: readonly ValueId[], u: ValueId, e: Ex, i: number): Ex => input(inputs.indexOf(u), kindOfInput(e, i) ?? 'f32');
function kindOfInput(e: Ex, i: number): Ex['k'] | undefined {
  if (e.f === 'in') return e.i === i ? e.k : undefined;
  if (e.f === 'const') return undefined;
  for (const c of e.a) {
    const k = kindOfInput(c, i);
    if (k !== undefined) return k;
  }
  return undefined;
}

/** The node that map kernels run. Inputs that the expression does not read are kept only where they make the output's shape. */
function mapNode(map: MapNode, facts: ReadonlyMap<ValueId, Fact>): Node {
  const used = inputsOf(map.expr);
  const y = facts.get(map.node.outputs[0]!)!;
  const inputs = used.map((i) => map.inputs[i]!);
  const order = new Map(used.map((i, k) => [i, k]));
  const expr = substitute(map.expr, map.inputs.map((_, i) => input(order.get(i) ?? 0, kindOfInput(map.expr, i) ?? 'f32')));
  return { ...map.node, op: MAP, inputs, outputs: [map.node.outputs[0]!], attrs: { expr: JSON.stringify(expr), dtype: y.dtype, shape: y.shape, label: map.label } };
}
