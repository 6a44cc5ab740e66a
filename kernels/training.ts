import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import {
  type AttrSchema,
  defineOp,
  float,
  type InferCall,
  type Op,
  type OutFact,
  type RefCall,
  required,
  string,
} from './define.ts';

/**
 * One parameter's step: the numbers of the parameter, its gradient and its states; gives the new parameter and states.
 */
type Update = (
  rate: number,
  count: number,
  x: number,
  gradient: number,
  states: readonly number[],
  attrs: any,
) => readonly number[];

/** How many parameters the inputs R, T, X…, G…, state 1…, … hold, each kind in a run of its own. */
function countOf(inputs: number, states: number): number {
  const count = (inputs - 2) / (2 + states);
  if (!Number.isInteger(count) || count < 1)
    fail('shape_mismatch', `${inputs} inputs are not R, T and ${2 + states} tensors for each parameter`);
  return count;
}

const optimizer = <A extends AttrSchema>(
  name: string,
  states: number,
  attrs: A,
  update: Update,
  check: (attrs: any) => void = () => undefined,
): Op =>
  defineOp<AttrSchema>({
    op: `ai.onnx.preview.training.${name}`,
    since: [1],
    inputs: ['R: T1', 'T: int64', 'inputs: T3*'],
    outputs: ['outputs: T3*'],
    types: { T1: ['float32', 'float64'], T3: ['float32', 'float64'] },
    attrs,
    infer: (call: InferCall) => {
      check(call.attrs);
      const count = countOf(call.inputs.length, states);
      for (const i of [0, 1])
        if (sizeOf(call.fact(i).shape) !== 1)
          fail('shape_mismatch', `${i === 0 ? 'R' : 'T'} must be one number, not of shape [${call.fact(i).shape}]`);
      const out: OutFact[] = [];
      for (let s = 0; s < 1 + states; s++)
        for (let k = 0; k < count; k++) {
          const { dtype, shape } = call.fact(2 + k);
          for (let part = 1; part < 2 + states; part++)
            if (String(call.fact(2 + part * count + k).shape) !== String(shape))
              fail(
                'shape_mismatch',
                `parameter ${k} has shape [${shape}], its gradient or state [${call.fact(2 + part * count + k).shape}]`,
              );
          out.push({ dtype, shape });
        }
      return out.slice(0, call.outputs);
    },
    reference: (call: RefCall) => {
      const count = countOf(call.inputs.length, states);
      const [rate, steps] = [numbers(call.tensor(0))[0]!, numbers(call.tensor(1))[0]!];
      const out = new Array<Tensor>(count * (1 + states));
      for (let k = 0; k < count; k++) {
        const t = call.tensor(2 + k);
        const [x, g, ...kept] = Array.from({ length: 2 + states }, (_, part) =>
          numbers(call.tensor(2 + part * count + k)),
        ) as [ArrayLike<number>, ArrayLike<number>, ...ArrayLike<number>[]];
        const results = Array.from(x, (v, i) =>
          update(
            rate,
            steps,
            v,
            g[i]!,
            kept.map((s) => s[i]!),
            call.attrs,
          ),
        );
        for (let s = 0; s < 1 + states; s++)
          out[s * count + k] = fromNumbers(
            t.dtype,
            t.shape,
            results.map((r) => r[s]!),
          );
      }
      return out;
    },
  });

/** Steps of gradient descent: https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html and its like */
export const optimizers: readonly Op[] = [
  optimizer(
    'Adagrad',
    1,
    { decay_factor: float(0), epsilon: float(1e-6), norm_coefficient: float(0) },
    (rate, count, x, g, [h], a) => {
      const gradient = a.norm_coefficient * x + g;
      const square = h! + gradient ** 2;
      return [x - ((rate / (1 + count * a.decay_factor)) * gradient) / (Math.sqrt(square) + a.epsilon), square];
    },
  ),
  optimizer(
    'Adam',
    2,
    {
      alpha: float(0.9),
      beta: float(0.999),
      epsilon: float(1e-6),
      norm_coefficient: float(0),
      norm_coefficient_post: float(0),
    },
    (rate, count, x, g, [v, h], a) => {
      const gradient = a.norm_coefficient * x + g;
      const mean = a.alpha * v! + (1 - a.alpha) * gradient;
      const square = a.beta * h! + (1 - a.beta) * gradient ** 2;
      const adjusted = count > 0 ? (rate * Math.sqrt(1 - a.beta ** count)) / (1 - a.alpha ** count) : rate;
      return [(1 - a.norm_coefficient_post) * (x - (adjusted * mean) / (Math.sqrt(square) + a.epsilon)), mean, square];
    },
  ),
  optimizer(
    'Momentum',
    1,
    {
      alpha: required(float()),
      beta: required(float()),
      mode: required(string()),
      norm_coefficient: required(float()),
    },
    (rate, count, x, g, [v], a) => {
      const gradient = a.norm_coefficient * x + g;
      const velocity = a.alpha * v! + (count > 0 ? a.beta : 1) * gradient;
      return [x - rate * (a.mode === 'nesterov' ? gradient + a.alpha * velocity : velocity), velocity];
    },
    ({ mode }) => {
      if (mode !== 'nesterov' && mode !== 'standard')
        fail('attribute_invalid', `mode must be nesterov or standard, not ${JSON.stringify(mode)}`);
    },
  ),
];
