import type { AttrValue, Node } from '../../core/graph.ts';
import { fromNumbers } from '../../core/numbers.ts';
import type { Pass } from '../rewrite.ts';
import { nodeOf } from './patterns.ts';

/** What an activation by name and parameters is as a node. */
export const ACTIVATIONS: Readonly<
  Record<string, (params: readonly number[]) => { op: string; attrs: Record<string, AttrValue> } | null>
> = {
  Relu: () => ({ op: 'Relu', attrs: {} }),
  Sigmoid: () => ({ op: 'Sigmoid', attrs: {} }),
  Tanh: () => ({ op: 'Tanh', attrs: {} }),
  LeakyRelu: ([alpha]) => ({ op: 'LeakyRelu', attrs: { alpha: alpha ?? 0.01 } }),
  Clip: ([min, max]) => ({
    op: 'Clip',
    attrs: { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) },
  }),
  HardSigmoid: ([alpha, beta]) => ({ op: 'HardSigmoid', attrs: { alpha: alpha ?? 0.2, beta: beta ?? 0.5 } }),
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
    if (bias.length === 0)
      return {
        reason: `${node.name} is a product`,
        remove: [node],
        add: [nodeOf('Mul', node, [node.inputs[0]!, by], node.outputs[0]!)],
      };
    const scaled = graph.addValue(`${node.name}.scaled`);
    const plus = graph.addValue(`${node.name}.bias`, fromNumbers(x.dtype, [bias.length, 1, 1], bias));
    return {
      reason: `${node.name} is a product and a sum`,
      remove: [node],
      add: [
        nodeOf('Mul', node, [node.inputs[0]!, by], scaled, {}, 'Mul'),
        nodeOf('Add', node, [scaled, plus], node.outputs[0]!, {}, 'Add'),
      ],
    };
  },
};

/** com.microsoft.FusedGemm as the product and activation that it stands for. */
export const expandFusedGemm: Pass = {
  name: 'expand-fused-gemm',
  exactness: 'exact',
  roots: ({ op }) => op === 'com.microsoft.FusedGemm',
  rewrite: (node, graph) => {
    const {
      activation,
      activation_alpha: alpha,
      activation_beta: beta,
      activation_gamma: _,
      ...attrs
    } = node.attrs as Readonly<Record<string, AttrValue | undefined>>;
    const given = [alpha, beta].filter((v): v is number => typeof v === 'number');
    const act = activation ? ACTIVATIONS[activation as string]?.(given) : null;
    if (act === undefined || (given.length > 0 && alpha === undefined)) return null;
    if (act === null)
      return {
        reason: `${node.name} has no activation`,
        remove: [node],
        add: [{ ...node, op: 'Gemm', attrs: attrs as Node['attrs'] }],
      };
    const y = graph.addValue(`${node.name}.product`);
    return {
      reason: `${node.name} is a product with its activation`,
      remove: [node],
      add: [
        { ...node, op: 'Gemm', attrs: attrs as Node['attrs'], outputs: [y] },
        nodeOf(act.op, node, [y], node.outputs[0]!, act.attrs, act.op),
      ],
    };
  },
};

/**
 * com.microsoft.MatMulIntegerToFloat and DynamicQuantizeMatMul as an integer product and what scales it, where each
 * side has one scale, or B one of each column.
 */
export const expandIntegerProduct: Pass = {
  name: 'expand-integer-product',
  exactness: 'reassociates',
  roots: ({ op }) => op === 'com.microsoft.MatMulIntegerToFloat' || op === 'com.microsoft.DynamicQuantizeMatMul',
  rewrite: (node, graph) => {
    const dynamic = node.op.endsWith('DynamicQuantizeMatMul');
    const [a, b] = node.inputs as [number, number];
    const value = (name: string): number => graph.addValue(`${node.name}.${name}`);
    const add: Node[] = [];
    const [bScale, aZero, bZero, bias] = dynamic
      ? [node.inputs[2]!, null, node.inputs[3] ?? null, node.inputs[4] ?? null]
      : [node.inputs[3]!, node.inputs[4] ?? null, node.inputs[5] ?? null, node.inputs[6] ?? null];
    const right = graph.fact(b);
    const single = (v: number | null): boolean => v === null || graph.fact(v)?.shape.every((d) => d === 1) === true;
    const column = (v: number | null): boolean =>
      single(v) || (graph.fact(v)?.shape.length === 1 && right?.shape.length === 2);
    if (
      right === undefined ||
      (graph.fact(a)?.shape.length ?? 0) < 2 ||
      graph.fact(bScale)?.dtype !== 'float32' ||
      !column(bScale) ||
      !column(bZero) ||
      !single(aZero) ||
      (!dynamic && !single(node.inputs[2]!))
    )
      return null;
    let [q, aScale, zero] = [a, node.inputs[2]!, aZero];
    if (dynamic) {
      [q, aScale, zero] = [value('bytes'), value('scale'), value('zero')];
      add.push({
        ...nodeOf('DynamicQuantizeLinear', node, [a], q, {}, 'DynamicQuantizeLinear'),
        outputs: [q, aScale, zero],
      });
    }
    const [sums, floats, scale] = [value('sums'), value('floats'), value('scales')];
    const y = node.outputs[0]!;
    const product = bias === null ? y : value('product');
    add.push(
      nodeOf('MatMulInteger', node, [q, b, zero, bZero], sums, {}, 'MatMulInteger'),
      nodeOf('Cast', node, [sums], floats, { to: 1, saturate: 1, round_mode: 'up', clamp_nibbles: 0 }, 'Cast'),
      nodeOf('Mul', node, [aScale, bScale], scale, {}, 'scales'),
      nodeOf('Mul', node, [floats, scale], product, {}, 'Mul'),
      ...(bias === null ? [] : [nodeOf('Add', node, [product, bias], y, {}, 'Add')]),
    );
    return { reason: `${node.name} is an integer product, scaled`, remove: [node], add };
  },
};
