import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { layoutOf, merged, type Part, regrouped } from './layout.ts';
import { equal, nodeOf, soleReader } from './patterns.ts';

/** Heads of queries, keys or values, [batch, heads, steps, size], as what they are made of. */
interface Source {
  /** Rows [batch · steps, …], where in a row the first head lies, and how far the heads are apart. */
  readonly rows: ValueId;
  readonly at: number;
  readonly apart: number;
  readonly rotary: Node | null;
  readonly norm: Node | null;
}

/** The value under other shapes that has this one; itself where there is none. */
function underViews(v: ValueId, shape: readonly number[], graph: GraphView): ValueId {
  let found = v;
  for (
    let at = v, node = graph.maker(at);
    node !== undefined && graph.ops.get(node.op)?.view && node.inputs[0] != null;
    node = graph.maker(at)
  ) {
    at = node.inputs[0];
    if (equal(graph.fact(at)?.shape ?? [], shape)) found = at;
  }
  return found;
}
/** What `v` is made of, if its heads lie in rows, a row a step. */
function sourceOf(
  v: ValueId,
  [batch, heads, steps, size]: readonly [number, number, number, number],
  kept: boolean,
  graph: GraphView,
): Source | null {
  let at = underViews(v, [batch, heads, steps, size], graph);
  const made = graph.maker(at);
  const rotary =
    made?.op === 'RotaryEmbedding' && made.inputs[3] == null && made.attrs.scale === 1 && (kept || graph.readOnce(at))
      ? made
      : null;
  if (rotary) at = rotary.inputs[0]!;
  const packed = equal(graph.fact(at)?.shape ?? [], [batch, steps, heads * size]);
  if (!packed && !equal(graph.fact(at)?.shape ?? [], [batch, heads, steps, size])) return null;
  const isNorm = (n: Node): boolean =>
    (n.op === 'SimplifiedLayerNormalization' || n.op === 'RMSNormalization') &&
    graph.readOnce(n.outputs[0]!) &&
    n.outputs.slice(1).every((o) => o === null) &&
    graph.fact(n.inputs[0])!.shape.at(-1) === size &&
    (n.attrs.axis === -1 || n.attrs.axis === graph.fact(n.inputs[0])!.shape.length - 1) &&
    graph.fact(n.inputs[1])?.dtype === graph.fact(n.inputs[0])!.dtype;
  const lies = layoutOf(at, graph, isNorm);
  const split = packed ? regrouped(lies.axes[2]!, [heads, size]) : null;
  if (packed && split === null) return null;
  const [b, h, s, d] = (split ? [lies.axes[0]!, split[0]!, lies.axes[1]!, split[1]!] : lies.axes).map(merged) as [
    Part[],
    Part[],
    Part[],
    Part[],
  ];
  if (
    lies.through.length > 1 ||
    [b, h, s].some((parts) => parts.length > 1) ||
    (size > 1 && (d.length !== 1 || d[0]!.step !== 1))
  )
    return null;
  const width = s[0]?.step ?? sizeOf(graph.fact(lies.base)!.shape) / batch;
  const apart = h[0]?.step ?? size;
  if (
    batch * steps * width !== sizeOf(graph.fact(lies.base)!.shape) ||
    (b[0] && b[0].step !== steps * width) ||
    lies.at + (heads - 1) * apart + size > width
  )
    return null;
  return { rows: lies.base, at: lies.at, apart, rotary, norm: lies.through[0] ?? null };
}

/**
 * The value that holds the heads of `y`, [batch, heads, steps, size], in rows again, and the nodes that bring them
 * there.
 */
function rowsAgain(y: ValueId, graph: GraphView): { readonly to: ValueId; readonly nodes: readonly Node[] } | null {
  const [batch, heads, steps, size] = graph.fact(y)!.shape as [number, number, number, number];
  const wanted = merged([
    { count: batch, step: heads * steps * size },
    { count: steps, step: size },
    { count: heads, step: steps * size },
    { count: size, step: 1 },
  ]);
  const nodes: Node[] = [];
  for (
    let at = y, node = soleReader(graph, at);
    node !== undefined && (node.op === 'Transpose' || graph.ops.get(node.op)?.view) && nodes.length < 6;
    node = soleReader(graph, at)
  ) {
    nodes.push(node);
    at = node.outputs[0]!;
    const lies = layoutOf(at, graph);
    if (lies.base === y && JSON.stringify(merged(lies.axes.flat())) === JSON.stringify(wanted))
      return { to: at, nodes };
  }
  return null;
}

/** Keys or values as a run keeps them: behind those of a cache (`past`), or alone; null where no one wants them. */
interface Kept {
  readonly maker: Node | null;
  readonly past: ValueId | null;
  readonly fresh: ValueId;
  readonly value: ValueId | null;
}
function keptOf(v: ValueId, shape: readonly [number, number, number, number], graph: GraphView): Kept | null {
  const value = underViews(v, shape, graph);
  const maker = graph.maker(value);
  const axis = maker?.attrs.axis as number | undefined;
  if (maker?.op === 'Concat' && maker.inputs.length === 2 && (axis === 2 || axis === -2))
    return { maker, past: maker.inputs[0]!, fresh: maker.inputs[1]!, value };
  const wanted = graph.isOutput(value) || graph.readers(value).some((r) => r.op === 'Identity');
  return maker !== undefined && wanted && (maker.op === 'RotaryEmbedding' || maker.op === 'Transpose')
    ? { maker, past: null, fresh: value, value }
    : null;
}

/**
 * Attention of heads that were brought together for it reads them where they lie, in the rows of the products that make
 * them, and writes rows again.
 */
export const packHeads: Pass = {
  name: 'pack-heads',
  exactness: 'exact',
  device: 'webgpu',
  roots: ({ op }) => op === 'Attention',
  rewrite: (node, graph) => {
    const a = node.attrs;
    if (
      node.op !== 'Attention' ||
      node.inputs[6] != null ||
      (node.outputs[3] ?? null) !== null ||
      a.left_window_size !== -1 ||
      a.right_window_size !== -1
    )
      return null;
    const shapes = node.inputs.slice(0, 3).map((v) => graph.fact(v)?.shape);
    const y = node.outputs[0]!;
    const packed = shapes[0]?.length === 3;
    const back = packed ? { to: y, nodes: [] } : shapes.some((s) => s?.length !== 4) ? null : rowsAgain(y, graph);
    if (back === null) return null;
    const [q, k, v] = shapes.map((s, i) => {
      const n = a[i === 0 ? 'q_num_heads' : 'kv_num_heads'] as number;
      return packed ? [s![0], n, s![1], s![2]! / n] : s;
    }) as [number, number, number, number][];
    const [batch, heads, queries, size] = q!;
    const [kvHeads, valueSize] = [k![1], v![3]];
    // Of the operator's own caches, keys and values are only those that come in.
    const own = [node.inputs[4], node.inputs[5], node.outputs[1], node.outputs[2]].some((u) => u != null);
    if (own && packed) return null;
    const kept = own
      ? [1, 2].map(
          (i): Kept => ({
            maker: null,
            past: node.inputs[3 + i] ?? null,
            fresh: node.inputs[i]!,
            value: node.outputs[i] ?? null,
          }),
        )
      : packed
        ? [null, null]
        : [keptOf(node.inputs[1]!, k!, graph), keptOf(node.inputs[2]!, v!, graph)];
    const pasts = kept.map((c) => (c?.past == null ? 0 : graph.fact(c.past)!.shape[2]!));
    const past = pasts[0]!;
    if (pasts[1] !== past || (kept[0]?.past == null) !== (kept[1]?.past == null)) return null;
    // A causal query sees all keys of a cache only where the operator knows them for one.
    if (a.is_causal && !own && past > 0) return null;
    const steps = own ? k![2] : k![2] - past;
    const sources = [
      sourceOf(node.inputs[0]!, q!, false, graph),
      sourceOf(
        kept[0]?.fresh ?? node.inputs[1]!,
        [batch, kvHeads, steps, size],
        kept[0]?.past === null && kept[0].maker !== null,
        graph,
      ),
      sourceOf(kept[1]?.fresh ?? node.inputs[2]!, [batch, kvHeads, steps, valueSize], false, graph),
    ];
    if (sources.some((s) => s === null)) return null;
    const [sq, sk, sv] = sources as [Source, Source, Source];
    if (sv.norm || sv.rotary || (sq.rotary === null) !== (sk.rotary === null) || (sq.rotary && queries !== steps))
      return null;
    const rotaries = [sq.rotary, sk.rotary].filter((r): r is Node => r !== null);
    if (
      rotaries.some(
        (r) =>
          r.inputs[1] !== rotaries[0]!.inputs[1] ||
          r.inputs[2] !== rotaries[0]!.inputs[2] ||
          r.attrs.interleaved !== rotaries[0]!.attrs.interleaved,
      )
    )
      return null;
    const norms = [sq.norm, sk.norm].filter((r): r is Node => r !== null);
    if (norms.some((r) => r.attrs.epsilon !== norms[0]!.attrs.epsilon)) return null;

    const add: Node[] = [];
    const rowsOf = (s: Source, n: number): ValueId => {
      const shape = [batch, n, sizeOf(graph.fact(s.rows)!.shape) / (batch * n)];
      if (equal(graph.fact(s.rows)!.shape, shape)) return s.rows;
      const twin = add.find((r) => r.op === 'Reshape' && r.inputs[0] === s.rows);
      if (twin) return twin.outputs[0]!;
      const to = graph.addValue(`${graph.nameOf(s.rows)}.rows`);
      add.push(
        nodeOf(
          'Reshape',
          node,
          [s.rows, graph.addValue(`shape [${shape}]`, tensor('int64', [3], shape))],
          to,
          { allowzero: 1 },
          `rows${add.length}`,
        ),
      );
      return to;
    };
    const rows = [rowsOf(sq, queries), rowsOf(sk, steps), rowsOf(sv, steps)] as const;
    const inputs = [
      rows[0],
      ...rows.slice(1).map((r) => (r === rows[0] ? null : r)),
      node.inputs[3] ?? null,
      kept[0]?.past ?? null,
      kept[1]?.past ?? null,
      rotaries[0]?.inputs[1] ?? null,
      rotaries[0]?.inputs[2] ?? null,
      sq.norm?.inputs[1] ?? null,
      sk.norm?.inputs[1] ?? null,
    ];
    const flat = packed ? y : graph.addValue(`${node.name}.rows`);
    const attrs = {
      heads,
      kv_heads: kvHeads,
      size,
      value_size: valueSize,
      at: [sq.at, sk.at, sv.at],
      apart: [sq.apart, sk.apart, sv.apart],
      scale: (a.scale as number | undefined) ?? 1 / Math.sqrt(size),
      softcap: a.softcap as number,
      interleaved: (rotaries[0]?.attrs.interleaved as number | undefined) ?? 0,
      epsilon: (norms[0]?.attrs.epsilon as number | undefined) ?? 0,
      is_causal: a.is_causal ? 1 : 0,
    };
    const { shape } = graph.fact(back.to)!;
    const whole: Node = {
      op: 'sardonyx.HeadAttention',
      name: node.name,
      inputs,
      outputs: [flat, kept[0]?.value ?? null, kept[1]?.value ?? null],
      attrs,
      opset: node.opset,
    };
    const out = nodeOf(
      'Reshape',
      node,
      [flat, graph.addValue(`shape [${shape}]`, tensor('int64', [shape.length], shape))],
      back.to,
      { allowzero: 1 },
      'heads',
    );
    return {
      reason: `${node.name} reads ${heads} heads where they lie${past > 0 ? `, behind ${past} kept steps` : ''}`,
      remove: [node, ...back.nodes, ...kept.flatMap((c) => (c?.maker ? [c.maker] : []))],
      add: packed ? [...add, whole] : [...add, whole, out],
    };
  },
};
