/** Where the elements of a value lie in the value that it is a view, a transpose or a part of. */
import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf, stridesOf } from '../../core/tensor.ts';
import type { GraphView } from '../rewrite.ts';
import { sliceOf } from './gather-slices.ts';
import { permOf } from './move-transposes.ts';
import { scalarOf } from './patterns.ts';

/** `count` steps of `step` elements. */
export interface Part {
  readonly count: number;
  readonly step: number;
}
/** Elements of `base`: from `at` on, along each axis by its parts, the outermost first. */
export interface Layout {
  readonly base: ValueId;
  readonly at: number;
  readonly axes: readonly (readonly Part[])[];
  /** Nodes that were looked through. */
  readonly through: readonly Node[];
}

/** The same steps in as few parts as there can be. */
export function merged(parts: readonly Part[]): Part[] {
  const out: Part[] = [];
  for (const p of parts) {
    const last = out.at(-1);
    if (p.count === 1) continue;
    if (p.step > 0 && last?.step === p.count * p.step)
      out[out.length - 1] = { count: last.count * p.count, step: p.step };
    else out.push(p);
  }
  return out;
}

/** Parts of all axes under another shape; null where an axis would begin within a step. */
export function regrouped(parts: readonly Part[], shape: readonly number[]): Part[][] | null {
  const from = merged(parts);
  const axes: Part[][] = [];
  let part = from.pop();
  for (const d of [...shape].reverse()) {
    const mine: Part[] = [];
    for (let need = d; need > 1; ) {
      if (part === undefined) return null;
      const count = need % part.count === 0 ? part.count : part.count % need === 0 ? need : 0;
      if (count === 0) return null;
      mine.unshift({ count, step: part.step });
      need /= count;
      part = part.count === count ? from.pop() : { count: part.count / count, step: part.step * count };
    }
    axes.unshift(mine);
  }
  return axes;
}

/** `count` entries of an axis, from `first` on; null where they do not lie in equal steps. */
function some({ at, axes, ...rest }: Layout, axis: number, first: number, count: number): Layout | null {
  const [outer, ...inner] = merged(axes[axis]!);
  const run = inner.reduce((n, p) => n * p.count, 1);
  if (outer === undefined) return { ...rest, at, axes };
  if (first % run !== 0 || count % run !== 0) return null;
  return {
    ...rest,
    at: at + (first / run) * outer.step,
    axes: axes.map((parts, i) => (i === axis ? [{ count: count / run, step: outer.step }, ...inner] : parts)),
  };
}

/**
 * The layout of `v` as far back as it has one, at least in itself. `through`: nodes whose output lies like their first
 * input; where its last axis is another, it has no step.
 */
export function layoutOf(v: ValueId, graph: GraphView, through: (node: Node) => boolean = () => false): Layout {
  const { shape } = graph.fact(v)!;
  const strides = stridesOf(shape);
  const itself: Layout = { base: v, at: 0, axes: shape.map((count, i) => [{ count, step: strides[i]! }]), through: [] };
  const node = graph.maker(v);
  const x = node?.inputs[0];
  const from = graph.fact(x)?.shape;
  if (node === undefined || from === undefined || sizeOf(shape) === 0) return itself;
  const inner = (): Layout => layoutOf(x!, graph, through);
  const part = (axis: number, first: number): Layout | null =>
    some(inner(), axis, first, shape.length < from.length ? 1 : shape[axis]!);
  let found: Layout | null = null;
  const perm = permOf(node, graph);
  const slice = sliceOf(node, graph);
  const given = (node.attrs.axis as number | undefined) ?? 0;
  const axis = given < 0 ? given + from.length : given;
  if (graph.ops.get(node.op)?.view) {
    const l = inner();
    const axes = regrouped(l.axes.flat(), shape);
    found = axes && { ...l, axes };
  } else if (perm !== null) {
    const l = inner();
    found = { ...l, axes: perm.map((p) => l.axes[p]!) };
  } else if (slice !== null && (slice.indices.length < 2 || slice.indices[1] === slice.indices[0]! + 1))
    found = part(slice.axis, slice.indices[0]!);
  else if (node.op === 'Split')
    found = part(
      axis,
      node.outputs
        .slice(0, node.outputs.indexOf(v))
        .reduce<number>((n, o) => n + (o === null ? Number.NaN : graph.fact(o)!.shape[axis]!), 0),
    );
  else if (
    node.op === 'Gather' &&
    graph.fact(node.inputs[1])?.shape.length === 0 &&
    scalarOf(graph, node.inputs[1]) !== null
  ) {
    const index = scalarOf(graph, node.inputs[1])!;
    const l = part(axis, index < 0 ? index + from[axis]! : index);
    found = l && { ...l, axes: l.axes.filter((_, i) => i !== axis) };
  } else if (through(node)) {
    const l = inner();
    found = {
      ...l,
      axes: shape.at(-1) === from.at(-1) ? l.axes : [...l.axes.slice(0, -1), [{ count: shape.at(-1)!, step: 0 }]],
      through: [...l.through, node],
    };
  }
  return found === null || Number.isNaN(found.at) ? itself : found;
}
