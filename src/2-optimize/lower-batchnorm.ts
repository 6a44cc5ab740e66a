import { input, kindOf, x } from '../../kernels/expr.ts';
import { batchNormConstants } from './batchnorm.ts';
import type { Lowering } from './lowering.ts';

/** Batch normalisation with constant statistics is a multiplication and an addition. */
export const lowerBatchNorm: Lowering = (node, facts, addConstant) => {
  if (node.op !== 'BatchNormalization') return null;
  const fact = facts[node.inputs[0]!]!;
  const constants = batchNormConstants(
    node,
    fact.shape.length,
    node.inputs.slice(1, 5).map((v) => facts[v!]?.constant?.peek() ?? null),
  );
  if (constants === null || kindOf(fact.dtype) !== 'f32') return null;
  const inputs = [
    node.inputs[0]!,
    addConstant(`${node.name}.scale`, constants.scale),
    addConstant(`${node.name}.shift`, constants.shift),
  ];
  return { inputs, expr: x.add(x.mul(input(0, 'f32'), input(1, 'f32')), input(2, 'f32')), label: [node.op] };
};
