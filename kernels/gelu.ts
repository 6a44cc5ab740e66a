import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { geluEx, geluTanhEx, swishEx } from './activation.ts';
import { defineOp, FLOAT, float, type InferCall, type Op, type OutFact } from './define.ts';
import { pointwise, unary } from './elementwise.ts';
import { x } from './expr.ts';
import { broadcasting } from './shapes.ts';
import { gelu, geluTanh, sigmoid } from './special.ts';

const REAL: readonly DType[] = FLOAT;

/** The output is like X; the bias is its last dim's. */
function biased(call: InferCall): OutFact[] {
  const { dtype, shape } = call.fact(0);
  const bias = call.inputs[1] ?? null;
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== shape.at(-1)))
    fail('shape_mismatch', `a bias of shape [${bias.shape}] does not fit the last dim of [${shape}]`);
  return [{ dtype, shape }];
}

const biasGelu = (op: string, optional: boolean, f: (v: number) => number, map: typeof geluEx): Op =>
  defineOp({
    op,
    since: [1],
    inputs: ['X: T', `bias: T${optional ? '?' : ''}`],
    outputs: ['Y: T'],
    types: { T: REAL },
    attrs: {},
    infer: biased,
    map: ([v, bias]) => map(bias ? x.add(v!, bias) : v!),
    reference: (call) => {
      const t = call.tensor(0);
      const bias = call.optional(1);
      return [pointwise({ float: (v, b) => f(b === undefined ? v! : v! + b) }, bias ? [t, bias] : [t], t.dtype)];
    },
  });

const halves = (call: InferCall): { dtype: DType; shape: number[]; bias: Fact } => {
  const { dtype, shape } = call.fact(0);
  if (shape.length !== 3 || shape[2]! % 2 !== 0)
    fail('shape_mismatch', `X has shape [${shape}]; it must be of rank 3 with an even last dim`);
  biased(call);
  return { dtype, shape: [shape[0]!, shape[1]!, shape[2]! / 2], bias: call.fact(1) };
};
/** GEGLU: the biased input's first half times the GELU of its second. */
const biasSplitGelu: Op = defineOp({
  op: 'com.microsoft.BiasSplitGelu',
  since: [1],
  inputs: ['X: T', 'bias: T'],
  outputs: ['Y: T'],
  types: { T: REAL },
  attrs: {},
  infer: (call) => {
    const { dtype, shape } = halves(call);
    return [{ dtype, shape }];
  },
  reference: (call) => {
    const t = call.tensor(0);
    const [from, bias] = [numbers(t), numbers(call.tensor(1))];
    const half = t.shape.at(-1)! / 2;
    const shape = [...t.shape.slice(0, -1), half];
    const at = (i: number, side: number): number => {
      const k = (i % half) + side * half;
      return from[Math.floor(i / half) * 2 * half + k]! + bias[k]!;
    };
    return [
      fromNumbers(
        t.dtype,
        shape,
        Float64Array.from({ length: sizeOf(shape) }, (_, i) => at(i, 0) * gelu(at(i, 1))),
      ),
    ];
  },
});

/** https://onnx.ai/onnx/operators/onnx__SwiGLU.html */
const swiGlu: Op = defineOp({
  op: 'SwiGLU',
  since: [28],
  inputs: ['A: T', 'B: T'],
  outputs: ['Y: T'],
  types: { T: REAL },
  attrs: { alpha: float(1) },
  infer: broadcasting(),
  map: ([a, b], { alpha }) => x.mul(swishEx(a!, alpha), b!),
  reference: (call) => {
    const t = call.tensor(0);
    const { alpha } = call.attrs;
    return [pointwise({ float: (a, b) => a! * sigmoid(alpha * a!) * b! }, [t, call.tensor(1)], t.dtype)];
  },
});

/** Gated and biased activations: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
export const gelus: readonly Op[] = [
  unary({ op: 'com.microsoft.Gelu', since: [1], types: REAL, scalar: () => ({ float: gelu }), map: (v) => geluEx(v) }),
  unary({
    op: 'com.microsoft.QuickGelu',
    since: [1],
    types: REAL,
    attrs: { alpha: float(1.7020000219345093) },
    scalar: ({ alpha }) => ({ float: (v) => v * sigmoid(alpha * v) }),
    map: (v, { alpha }) => swishEx(v, alpha),
  }),
  biasGelu('com.microsoft.FastGelu', true, geluTanh, geluTanhEx),
  biasGelu('com.microsoft.BiasGelu', false, gelu, geluEx),
  biasSplitGelu,
  swiGlu,
];
