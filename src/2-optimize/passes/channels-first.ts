import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import { turned } from '../joined.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { permOf, transposedBack } from './move-transposes.ts';
import { equal, isElementwise, listOf, nodeOf } from './patterns.ts';

/** Nodes between two changes of layout at most: more is no layer. */
const MOST = 40;
const NORMS = new Set(['LayerNormalization', 'SimplifiedLayerNormalization', 'RMSNormalization']);
const toLast = (rank: number): readonly number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
const toFirst = (rank: number): readonly number[] => [
  0,
  rank - 1,
  ...Array.from({ length: rank - 2 }, (_, i) => i + 1),
];

/** A node's inputs that carry channels last; null where it is of no kind that can be done with channels first. */
function carried(node: Node, graph: GraphView): readonly ValueId[] | null {
  const rank = graph.fact(node.outputs[0])?.shape.length ?? 0;
  const [x, w] = node.inputs;
  const fact = graph.fact(w);
  if (node.outputs.slice(1).some((v) => v !== null)) return null;
  if (isElementwise(node, graph)) {
    const found: ValueId[] = [];
    for (const v of node.inputs) {
      const own = graph.fact(v);
      if (v === null || own === undefined) return null;
      const number = sizeOf(own.shape) === 1 && own.shape.length <= rank;
      if (own.constant === undefined && own.shape.length === rank) found.push(v);
      else if (!number && (own.shape.length > rank || !own.constant?.peek())) return null;
    }
    return found;
  }
  if (node.op === 'MatMul')
    return fact?.constant !== undefined && fact.shape.length === 2 && !/^(float64|u?int)/.test(fact.dtype)
      ? [x!]
      : null;
  if (NORMS.has(node.op)) {
    const dtype = graph.fact(x)?.dtype;
    const own = node.inputs
      .slice(1)
      .every(
        (v) =>
          v === null ||
          (graph.fact(v)?.shape.length === 1 &&
            graph.fact(v)!.dtype === dtype &&
            graph.fact(v)!.shape[0] === graph.fact(x)!.shape.at(-1)),
      );
    return own && (node.attrs.axis === -1 || node.attrs.axis === rank - 1) ? [x!] : null;
  }
  return /^Reduce/.test(node.op) && node.attrs.keepdims === 1 && w != null && listOf(graph, w)?.length ? [x!] : null;
}

/**
 * Layers of which the channels are last, between a Transpose that puts them there and one that puts them back, are done
 * with channels first: products with weights are pointwise convolutions, and norms run over channels where they lie. So
 * an image keeps its layout through all of a network.
 */
export const channelsFirst: Pass = {
  name: 'channels-first',
  exactness: 'exact',
  device: 'webgpu',
  roots: ({ op }) => op === 'Transpose',
  rewrite: (node, graph) => {
    const rank = graph.fact(node.inputs[0])?.shape.length ?? 0;
    if (rank < 3 || !equal(permOf(node, graph) ?? [], toFirst(rank))) return null;
    const region: Node[] = [];
    const seen = new Set<Node>();
    const first = new Map<ValueId, ValueId>();
    /** Goes back from a value with channels last, to where they were put there; false where they never were. */
    const reach = (v: ValueId): boolean => {
      const maker = graph.maker(v);
      if (maker === undefined) return false;
      if (seen.has(maker)) return true;
      if (graph.fact(v)!.shape.length !== rank) return false;
      if (equal(permOf(maker, graph) ?? [], toLast(rank))) {
        first.set(v, maker.inputs[0]!);
        return true;
      }
      const from = seen.size < MOST && !graph.isOutput(v) ? carried(maker, graph) : null;
      if (!from?.length) return false;
      seen.add(maker);
      if (!from.every(reach)) return false;
      region.push(maker);
      return true;
    };
    if (!reach(node.inputs[0]!) || region.length === 0) return null;
    if (region.some((n) => graph.readers(n.outputs[0]!).some((r) => r !== node && !seen.has(r)))) return null;

    const add: Node[] = [];
    for (const n of region) {
      const v = n.outputs[0]!;
      const y = v === node.inputs[0] ? node.outputs[0]! : graph.addValue(`${graph.nameOf(v)}.first`);
      const [x, w] = [first.get(n.inputs[0]!), n.inputs[1]!];
      first.set(v, y);
      if (n.op === 'MatMul') {
        const { constant } = graph.fact(w)!;
        const [depth, width] = constant!.shape as [number, number];
        add.push(
          nodeOf(
            'Conv',
            n,
            [
              x!,
              graph.addValue(
                `${graph.nameOf(w)}.turned`,
                turned(constant!, [width, depth, ...new Array<number>(rank - 2).fill(1)]),
              ),
            ],
            y,
            { group: 1 },
          ),
        );
      } else if (NORMS.has(n.op)) {
        add.push(
          nodeOf('sardonyx.ChannelNormalization', n, [x!, ...n.inputs.slice(1)], y, {
            epsilon: n.attrs.epsilon!,
            centred: Number(n.op === 'LayerNormalization'),
          }),
        );
      } else if (n.op.startsWith('Reduce')) {
        const axes = listOf(graph, w)!.map((a) => toLast(rank)[a < 0 ? a + rank : a]!);
        add.push({
          ...n,
          inputs: [x!, graph.addValue(`axes [${axes}]`, tensor('int64', [axes.length], axes))],
          outputs: [y],
        });
      } else {
        const inputs = n.inputs.map(
          (u) => first.get(u!) ?? (sizeOf(graph.fact(u)!.shape) === 1 ? u : transposedBack(u!, toLast(rank), graph)),
        );
        add.push({ ...n, inputs, outputs: [y] });
      }
    }
    return {
      reason: `${region.length} nodes before ${node.name} run with channels first`,
      remove: [node, ...region],
      add,
    };
  },
};
