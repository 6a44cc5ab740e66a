/**
 * What derivatives need beside ONNX's operators, and the operator that asks for them. `src/2-optimize/gradient.ts`
 * writes the derivatives out.
 */
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { defineOp, FLOAT, type Op, required, string, strings } from './define.ts';
import { broadcast, broadcastStrides, eachOffset } from './shapes.ts';

/** https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Gradient.html */
const gradient: Op = defineOp({
  op: 'ai.onnx.preview.training.Gradient',
  since: [1],
  inputs: ['Inputs: any*'],
  outputs: ['Outputs: any*'],
  types: { T: FLOAT },
  attrs: { xs: required(strings()), zs: strings(), y: required(string()) },
  infer: () => fail('internal', 'a Gradient that was not written out'),
  reference: () => fail('internal', 'a Gradient that was not written out'),
});

/** Ones of the shape and type of X. */
const onesLike: Op = defineOp({
  op: 'sardonyx.OnesLike',
  since: [1],
  inputs: ['X: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: {},
  shapeOnly: true,
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: call.fact(0).shape }],
  reference: (call) => {
    const { dtype, shape } = call.tensor(0);
    return [fromNumbers(dtype, shape, new Float64Array(sizeOf(shape)).fill(1))];
  },
});

/**
 * X summed over the dims along which a tensor of `like`'s shape was broadcast to X's: the derivative of broadcasting.
 */
const sumTo: Op = defineOp({
  op: 'sardonyx.SumTo',
  since: [1],
  inputs: ['X: T', 'like: T'],
  outputs: ['Y: T'],
  types: { T: FLOAT },
  attrs: {},
  infer: (call) => {
    const [x, like] = [call.fact(0), call.fact(1)];
    if (String(broadcast(x.shape, like.shape)) !== String(x.shape))
      fail('shape_mismatch', `[${like.shape}] does not broadcast to [${x.shape}]`);
    return [{ dtype: x.dtype, shape: like.shape }];
  },
  reference: (call) => {
    const [x, { shape }] = [call.tensor(0), call.tensor(1)];
    const from = numbers(x);
    const to = new Float64Array(sizeOf(shape));
    eachOffset(x.shape, broadcastStrides(shape, x.shape), (i, o) => {
      to[o]! += from[i]!;
    });
    return [fromNumbers(x.dtype, shape, to)];
  },
});

export const gradients: readonly Op[] = [gradient, onesLike, sumTo];
