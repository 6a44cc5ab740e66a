import { EXPERT_INPUTS, gatesOf, type MixtureAttrs, normalizes } from '../../../kernels/experts.ts';
import type { Node, ValueId } from '../../core/graph.ts';
import { sizeOf, tensor } from '../../core/tensor.ts';
import type { Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

/**
 * com.microsoft.MoE and QMoE as their router, products with the weights of the experts it chose, and the sum of what
 * these make, at known shapes.
 */
export const expandExperts: Pass = {
  name: 'expand-experts',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'com.microsoft.MoE' || op === 'com.microsoft.QMoE',
  rewrite: (node, graph) => {
    const op = node.op === 'com.microsoft.QMoE' ? 'QMoE' : 'MoE';
    const attrs = node.attrs as unknown as MixtureAttrs;
    const fact = graph.fact(node.inputs[0]!);
    const y = node.outputs[0];
    if (fact === undefined || y == null) return null;
    const { dtype, shape } = fact;
    const hidden = shape.at(-1)!;
    const rows = sizeOf(shape) / hidden;
    const gates = gatesOf(attrs);
    const add: Node[] = [];
    const value = (name: string): ValueId => graph.addValue(`${node.name}.${name}`);
    const list = (name: string, ...v: number[]): ValueId =>
      graph.addValue(`${node.name}.${name}`, tensor('int64', [v.length], v));
    const number = (name: string, v: number): ValueId =>
      graph.addValue(`${node.name}.${name}`, tensor(dtype as 'float32', [], [v]));
    const put = (
      kind: string,
      part: string,
      inputs: readonly (ValueId | null)[],
      given: Node['attrs'] = {},
      to = value(part),
    ): ValueId => {
      add.push(nodeOf(kind, node, inputs, to, given, part));
      return to;
    };
    const keep = { keepdims: 1, noop_with_empty_axes: 0 };
    const chances = put('Softmax', 'chances', [node.inputs[1]!], { axis: 1, flatten: 0 });
    const top = value('top');
    const chosen = value('chosen');
    add.push({
      ...nodeOf('TopK', node, [chances, list('k', attrs.k)], top, { axis: 1, largest: 1, sorted: 1 }, 'choose'),
      outputs: [top, chosen],
    });
    const share = normalizes(op, attrs)
      ? put('Div', 'share', [top, put('ReduceSum', 'sum', [top, list('axis', 1)], keep)])
      : top;
    const product = (i: 0 | 1 | 2, x: ValueId): ValueId => {
      const [w, scale, bias, zero] = EXPERT_INPUTS[op][i];
      const at = (j: number | null): ValueId | null => (j === null ? null : (node.inputs[j] ?? null));
      return put('sardonyx.ExpertMatMul', `fc${i + 1}`, [x, chosen, node.inputs[w]!, at(scale), at(zero), at(bias)], {
        bits: op === 'QMoE' ? attrs.expert_weight_bits! : 0,
        block_size: attrs.block_size ?? -1,
      });
    };
    const x = put('Reshape', 'rows', [node.inputs[0]!, list('row', rows, 1, hidden)], { allowzero: 0 });
    const first = product(0, x);
    const swish = (v: ValueId, alpha: number): ValueId => put('Swish', 'swish', [v], { alpha });
    let inside: ValueId;
    if (gates !== null) {
      const width = graph.fact(node.inputs[EXPERT_INPUTS[op][0][0]]!)!.shape[1]!;
      const limit = attrs.swiglu_limit;
      const part = (name: string, at: 0 | 1): ValueId =>
        put('Slice', name, [
          first,
          list(`${name}.from`, gates === 'pairs' ? at : (at * width) / 2),
          list(`${name}.to`, gates === 'pairs' ? width : ((at + 1) * width) / 2),
          list(`${name}.axis`, 2),
          list(`${name}.step`, gates === 'pairs' ? 2 : 1),
        ]);
      const bounded = (v: ValueId, name: string, least: number): ValueId =>
        limit === Infinity
          ? v
          : put('Clip', name, [
              v,
              least === -Infinity ? null : number(`${name}.least`, least),
              number(`${name}.most`, limit),
            ]);
      const gate = swish(bounded(part('gates', 0), 'gates.bounded', -Infinity), attrs.activation_alpha);
      const up = bounded(part('values', 1), 'values.bounded', -limit);
      inside = put('Mul', 'inside', [
        gate,
        attrs.activation_beta === 0 ? up : put('Add', 'values.more', [up, number('beta', attrs.activation_beta)]),
      ]);
    } else {
      const type = attrs.activation_type;
      inside =
        type === 'relu'
          ? put('Relu', 'inside', [first])
          : type === 'gelu'
            ? put('Gelu', 'inside', [first], { approximate: 'tanh' })
            : type === 'identity'
              ? first
              : swish(first, type === 'silu' ? 1 : attrs.activation_alpha);
      if (node.inputs[EXPERT_INPUTS[op][2][0]] != null) inside = put('Mul', 'gated', [inside, product(2, x)]);
    }
    const weighed = put('Mul', 'weighed', [
      product(1, inside),
      put('Reshape', 'weights', [share, list('weight', rows, attrs.k, 1)], { allowzero: 0 }),
    ]);
    put(
      'Reshape',
      'whole',
      [put('ReduceSum', 'all', [weighed, list('slots', 1)], { ...keep, keepdims: 0 }), list('shape', ...shape)],
      { allowzero: 0 },
      y,
    );
    return { reason: `${node.name} is a router and the products of ${attrs.k} experts a row`, remove: [node], add };
  },
};
