import type { Constant, Node, ValueId } from '../../core/graph.ts';
import { tensor, zeros } from '../../core/tensor.ts';
import { sideBySide } from '../joined.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { equal, nodeOf } from './patterns.ts';

/** Rows as a product of `x` with a constant [depth, width], or its transpose, and a bias. */
interface Projection {
  readonly x: ValueId;
  readonly weights: Constant;
  readonly bias: Constant | null;
  readonly turned: boolean;
  readonly width: number;
}

const plainGemm = (n: Node): boolean => n.op === 'Gemm' && n.attrs.alpha === 1 && n.attrs.beta === 1 && !n.attrs.transA;

/** What makes the rows `v`, read by no one but one reader. */
function projectionOf(v: ValueId, graph: GraphView): Projection | null {
  let at = v;
  let bias: Constant | null = null;
  for (let node = graph.maker(at); node !== undefined; node = graph.maker(at)) {
    if (graph.isOutput(at) || graph.readers(at).length !== 1) return null;
    if (graph.ops.get(node.op)?.view && node.inputs[0] != null) at = node.inputs[0];
    else if (node.op === 'Add' && bias === null) {
      const i = node.inputs.findIndex((u) => graph.fact(u)?.constant !== undefined);
      const b = graph.fact(node.inputs[i])?.constant;
      if (b === undefined || b.shape.length !== 1 || b.shape[0] !== graph.fact(at)!.shape.at(-1)) return null;
      bias = b;
      at = node.inputs[1 - i]!;
    } else {
      const gemm = plainGemm(node);
      if (node.op !== 'MatMul' && !gemm) return null;
      const weights = graph.fact(node.inputs[1])?.constant;
      const own = gemm && node.inputs[2] != null ? graph.fact(node.inputs[2])?.constant : null;
      if (
        weights?.shape.length !== 2 ||
        own === undefined ||
        (own !== null && (bias !== null || own.shape.length !== 1))
      )
        return null;
      const turned = gemm && node.attrs.transB === 1;
      const width = weights.shape[turned ? 0 : 1]!;
      if (own !== null && own.shape[0] !== width) return null;
      return { x: node.inputs[0]!, weights, bias: bias ?? own, turned, width };
    }
  }
  return null;
}

/**
 * Queries, keys and values of one attention that are products of one value are one product, of the weights side by
 * side: horizontal fusion.
 */
export const mergeProjections: Pass = {
  name: 'merge-projections',
  exactness: 'exact',
  device: 'webgpu',
  roots: ({ op }) => op === 'sardonyx.HeadAttention',
  rewrite: (node, graph) => {
    if (node.op !== 'sardonyx.HeadAttention') return null;
    const at = node.attrs.at as readonly number[];
    const sources = node.inputs.slice(0, 3) as ValueId[];
    if (at.some((a) => a !== 0) || sources.some((v) => v === null) || new Set(sources).size < 3) return null;
    const found = sources.map((v) => projectionOf(v, graph));
    const first = found[0];
    if (
      !first ||
      found.some(
        (p) => p === null || p.x !== first.x || p.turned !== first.turned || p.weights.dtype !== first.weights.dtype,
      )
    )
      return null;
    const parts = found as Projection[];
    const [batch, steps] = graph.fact(sources[0])!.shape as [number, number, number];
    if (!equal(graph.fact(sources[1])!.shape.slice(0, 2), [batch, steps])) return null;
    const add: Node[] = [];
    const total = parts.reduce((n, p) => n + p.width, 0);
    const weights = graph.addValue(
      `${node.name}.weights`,
      sideBySide(
        parts.map((p) => p.weights),
        first.turned,
      ),
    );
    const biased = parts.some((p) => p.bias !== null);
    const bias = biased
      ? graph.addValue(
          `${node.name}.bias`,
          sideBySide(
            parts.map((p) => p.bias ?? none(p.weights.dtype, p.width)),
            false,
          ),
        )
      : null;
    let v = graph.addValue(`${node.name}.projected`);
    if (first.turned)
      add.push(
        nodeOf('Gemm', node, [first.x, weights, bias], v, { alpha: 1, beta: 1, transA: 0, transB: 1 }, 'projection'),
      );
    else add.push(nodeOf('MatMul', node, [first.x, weights], v, {}, 'projection'));
    if (bias !== null && !first.turned) {
      const sum = graph.addValue(`${node.name}.biased`);
      add.push(nodeOf('Add', node, [v, bias], sum, {}, 'bias'));
      v = sum;
    }
    const shape = [batch, steps, total];
    const rows = graph.addValue(`${node.name}.rows`);
    add.push(
      nodeOf(
        'Reshape',
        node,
        [v, graph.addValue(`shape [${shape}]`, tensor('int64', [3], shape))],
        rows,
        { allowzero: 1 },
        'projected',
      ),
    );
    const offsets = [0, parts[0]!.width, parts[0]!.width + parts[1]!.width];
    return {
      reason: `queries, keys and values of ${node.name} are products of ${graph.nameOf(first.x)}`,
      remove: [node],
      add: [
        ...add,
        { ...node, inputs: [rows, null, null, ...node.inputs.slice(3)], attrs: { ...node.attrs, at: offsets } },
      ],
    };
  },
};

const NONE = new Map<string, Constant>();
/** A bias of zeros. */
function none(dtype: Constant['dtype'], width: number): Constant {
  const key = `${dtype} ${width}`;
  let c = NONE.get(key);
  if (c === undefined) {
    const t = zeros(dtype, [width]);
    NONE.set(key, (c = { dtype, shape: [width], peek: () => t, load: () => t }));
  }
  return c;
}
