import type { AttrValue, Node } from '../../core/graph.ts';
import type { Pass } from '../rewrite.ts';
import { ACTIVATIONS } from './expand-fused.ts';
import { nodeOf } from './patterns.ts';

/**
 * com.microsoft.FusedConv as the convolution, sum and activation that it stands for: fusion puts them together again,
 * for every device.
 */
export const expandFusedConv: Pass = {
  name: 'expand-fused-conv',
  exactness: 'exact',
  rewrite: (node, graph) => {
    if (node.op !== 'com.microsoft.FusedConv') return null;
    const { activation, activation_params, ...attrs } = node.attrs;
    const act =
      activation === undefined || activation === ''
        ? undefined
        : ACTIVATIONS[activation as string]?.((activation_params as readonly number[] | undefined) ?? []);
    if (act === null || (act === undefined && activation !== undefined && activation !== '')) return null;
    const y = node.outputs[0]!;
    const z = node.inputs[3] ?? null;
    const add: Node[] = [];
    const last = (
      op: string,
      name: string,
      inputs: readonly (number | null)[],
      attributes: Record<string, AttrValue>,
      isLast: boolean,
    ): number => {
      const out = isLast ? y : graph.addValue(`${node.name}.${name}`);
      add.push({ op, name: `${node.name}/${op}`, inputs, outputs: [out], attrs: attributes, opset: node.opset });
      return out;
    };
    let v = last('Conv', 'conv', node.inputs.slice(0, 3), attrs, z === null && act === undefined);
    if (z !== null) v = last('Add', 'sum', [v, z], {}, act === undefined);
    if (act !== undefined) last(act.op, 'activation', [v], act.attrs, true);
    return { reason: `${node.name} is a convolution with its activation`, remove: [node], add };
  },
};

/**
 * com.microsoft.NhwcConv and NhwcFusedConv as a FusedConv, or a convolution, between Transposes; `foldConstants` turns
 * the weights.
 */
export const expandNhwcConv: Pass = {
  name: 'expand-nhwc-conv',
  exactness: 'exact',
  roots: ({ op }) => NHWC.test(op),
  rewrite: (node, graph) => {
    const [x, w, bias = null, z = null] = node.inputs as [number, number, number?, number?];
    const rank = graph.fact(w)?.shape.length;
    if (!NHWC.test(node.op) || rank === undefined) return null;
    const first = { perm: [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)] };
    const add: Node[] = [];
    const turned = (v: number, name: string): number => {
      const to = graph.addValue(`${node.name}.${name}`);
      add.push(nodeOf('Transpose', node, [v], to, first, name));
      return to;
    };
    const inputs = [
      turned(x, 'x'),
      node.op.endsWith('NhwcConv') ? turned(w, 'w') : w,
      bias,
      ...(z === null ? [] : [turned(z, 'z')]),
    ];
    const planes = graph.addValue(`${node.name}.planes`);
    add.push(nodeOf('com.microsoft.FusedConv', node, inputs, planes, node.attrs as Record<string, AttrValue>, 'conv'));
    add.push(
      nodeOf(
        'Transpose',
        node,
        [planes],
        node.outputs[0]!,
        { perm: [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1] },
        'y',
      ),
    );
    return { reason: `${node.name} is a convolution of planes`, remove: [node], add };
  },
};
const NHWC = /^com\.microsoft\.Nhwc(Fused)?Conv$/;
