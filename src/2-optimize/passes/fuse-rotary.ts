import type { Node, ValueId } from '../../core/graph.ts';
import { numbers } from '../../core/numbers.ts';
import { sizeOf, tensor, type Tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { sliceOf } from './gather-slices.ts';
import { besides, derived, equal, nodeOf, scalarOf } from './patterns.ts';

/** Is `v` the halves of `x` along the last axis changed over, the second of them negated? */
function isTurned(v: ValueId | undefined, x: ValueId, graph: GraphView): boolean {
  const concat = graph.maker(v);
  const shape = graph.fact(x)?.shape;
  if (concat?.op !== 'Concat' || concat.inputs.length !== 2 || shape === undefined || !graph.readOnce(v!)) return false;
  const last = shape.length - 1;
  const half = shape[last]! / 2;
  const axis = concat.attrs.axis as number;
  const neg = graph.maker(concat.inputs[0]);
  const second = sliceOf(neg?.op === 'Neg' ? graph.maker(neg.inputs[0]) : undefined, graph);
  const first = sliceOf(graph.maker(concat.inputs[1]), graph);
  const runs = (s: ReturnType<typeof sliceOf>, from: number): boolean =>
    s !== null &&
    s.of === x &&
    s.axis === last &&
    s.indices.length === half &&
    s.indices.every((k, i) => k === from + i);
  return (
    (axis < 0 ? axis + shape.length : axis) === last && Number.isInteger(half) && runs(second, half) && runs(first, 0)
  );
}

/**
 * The first half along the last axis of a value whose halves are equal, as [batch, steps, half]; null where they are
 * not known to be. New nodes are appended to `add`; those that an earlier rewrite made are used again.
 */
function halfOf(v: ValueId, shape: readonly number[], graph: GraphView, add: Node[]): ValueId | null {
  const fact = graph.fact(v);
  const full = [...shape.slice(0, -1), shape.at(-1)! * 2];
  if (fact === undefined || sizeOf(fact.shape) !== sizeOf(full) || fact.shape.at(-1) !== full.at(-1)) return null;
  if (fact.constant !== undefined) {
    const t = fact.constant.peek();
    if (t === null || t.dtype === 'string' || !symmetric(t)) return null;
    const half = derived(fact.constant, `half ${shape}`, (c) => halved(c, shape));
    return half && graph.addValue(`${graph.nameOf(v)}.half`, half);
  }
  const node = graph.maker(v);
  if (node === undefined) return null;
  if (graph.ops.get(node.op)?.view) return halfOf(node.inputs[0]!, shape, graph, add);
  if (node.op === 'Concat') {
    const axis = node.attrs.axis as number;
    const [a, b] = node.inputs;
    const part = graph.fact(a)?.shape;
    if (
      node.inputs.length !== 2 ||
      a == null ||
      a !== b ||
      part === undefined ||
      (axis !== -1 && axis !== part.length - 1) ||
      sizeOf(part) !== sizeOf(shape)
    )
      return null;
    if (equal(part, shape)) return a;
    const again = graph
      .readers(a)
      .find((r) => r.op === 'Reshape' && equal(graph.fact(r.outputs[0])?.shape ?? [], shape));
    if (again) return again.outputs[0]!;
    const to = graph.addValue(`${graph.nameOf(a)}.half`);
    add.push(
      nodeOf(
        'Reshape',
        node,
        [a, graph.addValue(`shape [${shape}]`, tensor('int64', [shape.length], shape))],
        to,
        { allowzero: 1 },
        'half',
      ),
    );
    return to;
  }
  const at =
    node.op === 'Mul'
      ? node.inputs.findIndex((u) => scalarOf(graph, u) === null)
      : node.op === 'Cos' || node.op === 'Sin' || node.op === 'Cast'
        ? 0
        : -1;
  if (at < 0 || (node.op === 'Mul' && scalarOf(graph, node.inputs[1 - at]) === null)) return null;
  const inner = halfOf(node.inputs[at]!, shape, graph, add);
  if (inner === null) return null;
  const inputs = node.inputs.map((u, i) => (i === at ? inner : u));
  const twin = [...add, ...graph.readers(inner)].find(
    (r) => r.op === node.op && r.name === `${node.name}/half` && r.inputs.every((u, i) => u === inputs[i]),
  );
  if (twin) return twin.outputs[0]!;
  const to = graph.addValue(`${graph.nameOf(v)}.half`);
  add.push({ ...nodeOf(node.op, node, inputs, to, {}, 'half'), attrs: node.attrs });
  return to;
}
function symmetric(t: Tensor): boolean {
  const v = numbers(t);
  const n = t.shape.at(-1)!;
  const half = n / 2;
  return Number.isInteger(half) && Array.from(v).every((x, i) => i % n < half || x === v[i - half]);
}
function halved(t: Tensor, shape: readonly number[]): Tensor {
  const n = t.shape.at(-1)!;
  return { ...t, shape, data: (t.data as Float32Array).filter((_, i) => i % n < n / 2) };
}

/** x cos + turned(x) sin, written out with caches whose halves are equal, is RotaryEmbedding. */
export const fuseRotary: Pass = {
  name: 'fuse-rotary',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'Add',
  rewrite: (node, graph) => {
    if (node.op !== 'Add') return null;
    const out = graph.fact(node.outputs[0]);
    if (out?.shape.length !== 4 || !/^(float32|b?float16)$/.test(out.dtype)) return null;
    const products = node.inputs.map((v) => graph.maker(v));
    if (products.some((p, i) => p?.op !== 'Mul' || !graph.readOnce(node.inputs[i]!))) return null;
    for (const [plain, other] of [products, [...products].reverse()] as [Node, Node][])
      for (const x of plain.inputs)
        for (const t of other.inputs) {
          if (x === null || t === null || !equal(graph.fact(x)?.shape ?? [], out.shape) || !isTurned(t, x, graph))
            continue;
          const [cos, sin] = [besides(plain, x), besides(other, t)];
          const [batch, , steps, size] = out.shape as [number, number, number, number];
          if (cos === undefined || sin === undefined) return null;
          const caches = [cos, sin].map((v) => graph.fact(v)?.shape);
          const own = caches[0]?.at(-4) ?? 1;
          if (
            caches.some(
              (s) =>
                s === undefined ||
                s.length !== 4 ||
                (s[0] !== 1 && s[0] !== batch) ||
                s[0] !== own ||
                s[1] !== 1 ||
                s[2] !== steps ||
                s[3] !== size,
            )
          )
            return null;
          const add: Node[] = [];
          const shape = [own, steps, size / 2];
          const halves = [cos, sin].map((v) => halfOf(v, shape, graph, add));
          if (
            halves.some((h) => h === null || (graph.fact(h)?.dtype !== undefined && graph.fact(h)!.dtype !== out.dtype))
          )
            return null;
          const wide = halves.map((h) => {
            if (own === batch) return h!;
            const to = graph.addValue(`${graph.nameOf(h!)}.wide`);
            add.push(
              nodeOf(
                'Expand',
                node,
                [
                  h!,
                  graph.addValue(`shape [${[batch, steps, size / 2]}]`, tensor('int64', [3], [batch, steps, size / 2])),
                ],
                to,
                {},
                'wide',
              ),
            );
            return to;
          });
          const attrs = { interleaved: 0, num_heads: 0, rotary_embedding_dim: 0, scale: 1, is_packed_batching: 0 };
          return {
            reason: `${node.name} rotates ${graph.nameOf(x)} by the angles of ${graph.nameOf(cos)}`,
            remove: [node],
            add: [...add, nodeOf('RotaryEmbedding', node, [x, ...wide], node.outputs[0]!, attrs)],
          };
        }
    return null;
  },
};
