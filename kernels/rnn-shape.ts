/** Shapes and attributes of LSTM, GRU and RNN, checked and resolved: what their kernels on every backend start from. */
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { float, floats, int, string, strings } from './define.ts';
import { activation, activationUses } from './rnn-activation.ts';

export const rnnAttrs = {
  activation_alpha: floats(),
  activation_beta: floats(),
  activations: strings(),
  clip: float(),
  direction: string('forward'),
  hidden_size: int(),
  layout: int(0),
};
export interface RnnAttrs {
  readonly activation_alpha?: readonly number[] | undefined;
  readonly activation_beta?: readonly number[] | undefined;
  readonly activations?: readonly string[] | undefined;
  readonly clip?: number | undefined;
  readonly direction: string;
  readonly hidden_size?: number | undefined;
  readonly layout: number;
}

export interface ActivationSpec {
  readonly name: string;
  readonly alpha: number | undefined;
  readonly beta: number | undefined;
}
export interface RnnShape {
  readonly steps: number;
  readonly batch: number;
  readonly input: number;
  readonly hidden: number;
  /** One entry per direction: is it reversed? */
  readonly reversed: readonly boolean[];
  /** Activations of each direction. */
  readonly activations: readonly (readonly ActivationSpec[])[];
  /** Shape of Y, and of Y_h and Y_c. */
  readonly y: readonly number[];
  readonly state: readonly number[];
}

type Shaped = Pick<Fact, 'shape'> | null | undefined;

/**
 * `gates` matrices in W and R, stored transposed ([directions, in, gates * hidden]) if `transposed`. Inputs as ONNX orders them:
 * X, W, R, B, sequence_lens, initial_h and, for an LSTM, initial_c and P. @throws attribute_invalid, shape_mismatch
 */
export function rnnShape(
  inputs: readonly Shaped[],
  attrs: RnnAttrs,
  gates: number,
  defaults: readonly string[],
  transposed = false,
): RnnShape {
  const x = inputs[0]?.shape ?? [];
  const w = inputs[1]?.shape ?? [];
  const r = inputs[2]?.shape ?? [];
  if (!['forward', 'reverse', 'bidirectional'].includes(attrs.direction))
    fail('attribute_invalid', `direction ${JSON.stringify(attrs.direction)} must be forward, reverse or bidirectional`);
  if (attrs.layout !== 0 && attrs.layout !== 1) fail('attribute_invalid', `layout ${attrs.layout} must be 0 or 1`);
  if (x.length !== 3 || w.length !== 3 || r.length !== 3)
    fail('shape_mismatch', `X [${x}], W [${w}] and R [${r}] must be of rank 3`);
  const [steps, batch] = attrs.layout === 0 ? [x[0]!, x[1]!] : [x[1]!, x[0]!];
  const input = x[2]!;
  const reversed = attrs.direction === 'bidirectional' ? [false, true] : [attrs.direction === 'reverse'];
  const n = reversed.length;
  const hidden = transposed ? r[1]! : r[2]!;
  if (attrs.hidden_size !== undefined && attrs.hidden_size !== hidden)
    fail('attribute_invalid', `hidden_size ${attrs.hidden_size} is not that of R [${r}]`);
  const expect = (what: string, got: Shaped, need: readonly number[]): void => {
    if (got && String(got.shape) !== String(need))
      fail('shape_mismatch', `${what} has shape [${got.shape}], not [${need}]`);
  };
  expect('W', inputs[1], transposed ? [n, input, gates * hidden] : [n, gates * hidden, input]);
  expect('R', inputs[2], transposed ? [n, hidden, gates * hidden] : [n, gates * hidden, hidden]);
  expect('B', inputs[3], [n, 2 * gates * hidden]);
  expect('sequence_lens', inputs[4], [batch]);
  const state = attrs.layout === 0 ? [n, batch, hidden] : [batch, n, hidden];
  expect('initial_h', inputs[5], state);
  expect('initial_c', inputs[6], state);
  expect('P', inputs[7], [n, 3 * hidden]);
  return {
    steps,
    batch,
    input,
    hidden,
    reversed,
    activations: activationsOf(attrs, n, defaults),
    state,
    y: attrs.layout === 0 ? [steps, n, batch, hidden] : [batch, steps, n, hidden],
  };
}

/** Lists of alpha and beta have entries only for the functions that use them, in order. */
function activationsOf(attrs: RnnAttrs, directions: number, defaults: readonly string[]): ActivationSpec[][] {
  const names = attrs.activations?.length
    ? attrs.activations
    : Array.from({ length: directions }, () => defaults).flat();
  if (names.length !== directions * defaults.length)
    fail('attribute_invalid', `activations [${names}] must have ${directions * defaults.length} entries`);
  const alphas = [...(attrs.activation_alpha ?? [])];
  const betas = [...(attrs.activation_beta ?? [])];
  const all = names.map((name): ActivationSpec => {
    activation(name);
    const [alpha, beta] = activationUses(name);
    return { name, alpha: alpha ? alphas.shift() : undefined, beta: beta ? betas.shift() : undefined };
  });
  return Array.from({ length: directions }, (_, d) => all.slice(d * defaults.length, (d + 1) * defaults.length));
}
