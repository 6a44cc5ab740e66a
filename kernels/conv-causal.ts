import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { defineOp, int, type Op, string } from './define.ts';
import { activation } from './rnn-activation.ts';

type Shape = readonly number[];
interface CausalAttrs {
  readonly activation: string;
  readonly dilation: number;
  readonly ndim: number;
  readonly channels_last: number;
  readonly state_window: number;
}

/**
 * Checks the shapes; the state holds the `length` positions before the next one. @throws attribute_invalid,
 * shape_mismatch
 */
function stateLength(x: Shape, w: Shape, bias: Shape | null, past: Shape | null, attrs: CausalAttrs): number {
  if (attrs.ndim !== 1 || attrs.channels_last !== 0 || attrs.state_window !== 0)
    fail(
      'attribute_invalid',
      `ndim ${attrs.ndim}, channels_last ${attrs.channels_last}, state_window ${attrs.state_window}: only one dim, channels first and a single state are supported`,
    );
  if (!['none', 'silu', 'swish'].includes(attrs.activation))
    fail('attribute_invalid', `activation ${JSON.stringify(attrs.activation)} must be none, silu or swish`);
  if (attrs.dilation < 1) fail('attribute_invalid', `dilation ${attrs.dilation} must be at least 1`);
  if (x.length !== 3) fail('shape_mismatch', `the input has shape [${x}]; it must be [N, C, L]`);
  if (w.length !== 3 || w[0] !== x[1] || w[1] !== 1 || w[2]! < 1)
    fail('shape_mismatch', `the weights have shape [${w}], not [${x[1]}, 1, k]`);
  if (bias !== null && String(bias) !== String([x[1]]))
    fail('shape_mismatch', `the bias has shape [${bias}], not [${x[1]}]`);
  const length = (w[2]! - 1) * attrs.dilation;
  if (past !== null && String(past) !== String([x[0], x[1], length]))
    fail('shape_mismatch', `past_state has shape [${past}], not [${[x[0], x[1], length]}]`);
  return length;
}

const family = (op: string, since: readonly number[]): Op =>
  defineOp({
    op,
    since,
    inputs: ['input: T', 'weight: T', 'bias: T?', 'past_state: T?'],
    outputs: ['output: T', 'present_state: T?'],
    types: { T: ['float32', 'float16', 'bfloat16'] },
    attrs: { activation: string('none'), dilation: int(1), ndim: int(1), channels_last: int(0), state_window: int(0) },
    infer: (call) => {
      const x = call.fact(0);
      const length = stateLength(
        x.shape,
        call.fact(1).shape,
        call.inputs[2]?.shape ?? null,
        call.inputs[3]?.shape ?? null,
        call.attrs,
      );
      return [
        { dtype: x.dtype, shape: x.shape },
        { dtype: x.dtype, shape: [x.shape[0]!, x.shape[1]!, length] },
      ];
    },
    reference: (call) => {
      const attrs = call.attrs;
      const x = call.tensor(0);
      const w = call.tensor(1);
      const bias = call.optional(2);
      const past = call.optional(3);
      const before = stateLength(x.shape, w.shape, bias?.shape ?? null, past?.shape ?? null, attrs);
      const [n, c, length] = x.shape as [number, number, number];
      const k = w.shape[2]!;
      const from = numbers(x);
      const weights = numbers(w);
      const b = bias === null ? null : numbers(bias);
      const held = past === null ? null : numbers(past);
      const act = attrs.activation === 'none' ? null : activation(attrs.activation);
      const y = new Float64Array(sizeOf(x.shape));
      const state = new Float64Array(n * c * before);
      const line = new Float64Array(before + length);
      for (let row = 0; row < n * c; row++) {
        for (let i = 0; i < before; i++) line[i] = held === null ? 0 : held[row * before + i]!;
        for (let i = 0; i < length; i++) line[before + i] = from[row * length + i]!;
        for (let i = 0; i < length; i++) {
          let sum = b === null ? 0 : b[row % c]!;
          for (let j = 0; j < k; j++) sum += weights[(row % c) * k + j]! * line[i + j * attrs.dilation]!;
          y[row * length + i] = act === null ? sum : act(sum);
        }
        state.set(line.subarray(length), row * before);
      }
      return [fromNumbers(x.dtype, x.shape, y), fromNumbers(x.dtype, [n, c, before], state)];
    },
  });

/** https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html, and com.microsoft's form of it. */
export const causalConv: readonly Op[] = [
  family('CausalConvWithState', [27]),
  family('com.microsoft.CausalConvWithState', [1]),
];
