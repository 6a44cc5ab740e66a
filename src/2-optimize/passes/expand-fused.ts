import type { AttrValue, Node } from '../../core/graph.ts';
import { fromNumbers } from '../../core/numbers.ts';
import type { Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

const ACTIVATIONS: Readonly<Record<string, (params: readonly number[]) => { op: string; attrs: Record<string, AttrValue> } | null>> = {
  Relu: () => ({ op: 'Relu', attrs: {} }),
  Sigmoid: () => ({ op: 'Sigmoid', attrs: {} }),
  Tanh: () => ({ op: 'Tanh', attrs: {} }),
  LeakyRelu: ([alpha]) => ({ op: 'LeakyRelu', attrs: { alpha: alpha ?? 0.01 } }),
  Clip: ([min, max]) => ({ op: 'Clip', attrs: { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) } }),
  HardSigmoid: ([alpha, beta]) => ({ op: 'HardSigmoid', attrs: { alpha: alpha ?? 0.2, beta: beta ?? 0.5 } }),
};

/** com.microsoft.FusedConv as the convolution, sum and activation that it stands for: fusion puts them together again, for every device. */
export const expandFusedConv: Pass = {
  name: 'expand-fused-conv',
  exactness: 'exact',
  rewrite: (node, graph) => {
    if (node.op !== 'com.microsoft.FusedConv') return null;
    const { activation, activation_params, ...attrs } = node.attrs;
    const act = activation === undefined || activation === '' ? undefined : ACTIVATIONS[activation as string]?.((activation_params as readonly number[] | undefined) ?? []);
    if (act === null || (act === undefined && activation !== undefined && activation !== '')) return null;
    const y = node.outputs[0]!;
    const z = node.inputs[3] ?? null;
    const add: Node[] = [];
    const last = (op: string, name: string, inputs: readonly (number | null)[], attributes: Record<string, AttrValue>, isLast: boolean): number => {
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

/** ImageScaler as the product and sum that it is, at known shapes: fusion takes them in. */
export const expandImageScaler: Pass = {
  name: 'expand-image-scaler',
  exactness: 'reassociates',
  rewrite: (node, graph) => {
    const x = graph.fact(node.inputs[0]);
    if (node.op !== 'ImageScaler' || x === undefined) return null;
    const { scale, bias } = node.attrs as { readonly scale: number; readonly bias: readonly number[] };
    const by = graph.addValue(`${node.name}.scale`, fromNumbers(x.dtype, [], [scale]));
    if (bias.length === 0) return { reason: `${node.name} is a product`, remove: [node], add: [nodeOf('Mul', node, [node.inputs[0]!, by], node.outputs[0]!)] };
    const scaled = graph.addValue(`${node.name}.scaled`);
    const plus = graph.addValue(`${node.name}.bias`, fromNumbers(x.dtype, [bias.length, 1, 1], bias));
    return { reason: `${node.name} is a product and a sum`, remove: [node], add: [nodeOf('Mul', node, [node.inputs[0]!, by], scaled, {}, 'Mul'), nodeOf('Add', node, [scaled, plus], node.outputs[0]!, {}, 'Add')] };
  },
};
