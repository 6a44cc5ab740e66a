import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { type AttrSchema, defineOp, float, int, type Op, required, string } from './define.ts';

type Shaped = Pick<Fact, 'shape'> | null | undefined;
interface LinearAttrs {
  readonly kv_num_heads: number;
  readonly q_num_heads: number;
  readonly scale: number;
  readonly update_rule: string;
  readonly state_window?: number;
}
/** A call at known shapes. */
export interface LinearShape {
  readonly batch: number;
  readonly steps: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Heads of the output: the larger of both counts. */
  readonly outHeads: number;
  readonly size: number;
  readonly valueSize: number;
  readonly gated: boolean;
  readonly delta: boolean;
  /** Is the decay per element of a key, not per head? */
  readonly wideDecay: boolean;
  /** Has every head its own beta? */
  readonly wideBeta: boolean;
}

/**
 * Inputs in order: query, key, value, past_state, decay, beta. With `inverse` there may be more key heads than query
 * heads. @throws attribute_invalid, shape_mismatch, input_missing
 */
/** Sizes of a call; `inverse` is what com.microsoft's decay means. @throws shape_mismatch, attribute_invalid */
export function linearShape(inputs: readonly Shaped[], a: LinearAttrs, inverse: boolean): LinearShape {
  const [q, k, v] = [inputs[0]!.shape, inputs[1]!.shape, inputs[2]!.shape];
  const { q_num_heads: heads, kv_num_heads: kvHeads, update_rule: rule } = a;
  if (!['linear', 'gated', 'delta', 'gated_delta'].includes(rule))
    fail('attribute_invalid', `update_rule ${JSON.stringify(rule)} must be linear, gated, delta or gated_delta`);
  if (a.state_window) fail('attribute_invalid', `state_window ${a.state_window}: only a single state is supported`);
  if (heads < 1 || kvHeads < 1 || (heads % kvHeads !== 0 && !(inverse && kvHeads % heads === 0)))
    fail('attribute_invalid', `${heads} query heads cannot share ${kvHeads} key heads`);
  if (q.length !== 3 || k.length !== 3 || v.length !== 3)
    fail('shape_mismatch', `query [${q}], key [${k}] and value [${v}] must be of rank 3`);
  const [batch, steps] = [q[0]!, q[1]!];
  const size = q[2]! / heads;
  const valueSize = v[2]! / kvHeads;
  const expect = (what: string, got: Shaped, ...needs: (readonly number[])[]): void => {
    if (got && !needs.some((n) => String(n) === String(got.shape)))
      fail('shape_mismatch', `${what} has shape [${got.shape}], not [${needs.join('] or [')}]`);
  };
  if (!Number.isInteger(size) || !Number.isInteger(valueSize))
    fail('shape_mismatch', `query [${q}] and value [${v}] do not divide into ${heads} and ${kvHeads} heads`);
  expect('key', inputs[1], [batch, steps, kvHeads * size]);
  expect('value', inputs[2], [batch, steps, kvHeads * valueSize]);
  expect('past_state', inputs[3], [batch, kvHeads, size, valueSize]);
  const gated = rule.startsWith('gated');
  const delta = rule.endsWith('delta');
  if (gated && !inputs[4]) fail('input_missing', `update_rule ${rule} needs a decay`);
  if (delta && !inputs[5]) fail('input_missing', `update_rule ${rule} needs a beta`);
  expect('decay', inputs[4], [batch, steps, kvHeads], [batch, steps, kvHeads * size]);
  expect('beta', inputs[5], [batch, steps, kvHeads], [batch, steps, 1]);
  return {
    batch,
    steps,
    heads,
    kvHeads,
    outHeads: Math.max(heads, kvHeads),
    size,
    valueSize,
    gated,
    delta,
    wideDecay: inputs[4]?.shape[2] === kvHeads * size && size !== 1,
    wideBeta: inputs[5]?.shape[2] === kvHeads,
  };
}

const family = (op: string, since: readonly number[], inverse: boolean, more: AttrSchema): Op =>
  defineOp({
    op,
    since,
    inputs: ['query: T', 'key: T', 'value: T', 'past_state: S?', 'decay: T?', 'beta: T?'],
    outputs: ['output: T', 'present_state: S?'],
    types: { T: ['float32', 'float16', 'bfloat16'], S: ['float32', 'float16', 'bfloat16'] },
    attrs: {
      chunk_size: int(64),
      kv_num_heads: required(int()),
      q_num_heads: required(int()),
      scale: float(0),
      update_rule: string('gated_delta'),
      ...more,
    },
    infer: (call) => {
      const s = linearShape(
        [call.fact(0), call.fact(1), call.fact(2), ...call.inputs.slice(3)],
        call.attrs as unknown as LinearAttrs,
        inverse,
      );
      return [
        { dtype: call.fact(0).dtype, shape: [s.batch, s.steps, s.outHeads * s.valueSize] },
        { dtype: call.inputs[3]?.dtype ?? call.fact(0).dtype, shape: [s.batch, s.kvHeads, s.size, s.valueSize] },
      ];
    },
    reference: (call) => {
      const attrs = call.attrs as unknown as LinearAttrs;
      const qt = call.tensor(0);
      const past = call.optional(3);
      const dt = call.optional(4);
      const bt = call.optional(5);
      const s = linearShape(
        [0, 1, 2, 3, 4, 5].map((i) => call.optional(i)),
        attrs,
        inverse,
      );
      const { batch, steps, heads, kvHeads, outHeads, size, valueSize: width } = s;
      const per = outHeads / kvHeads;
      const q = numbers(qt);
      const k = numbers(call.tensor(1));
      const v = numbers(call.tensor(2));
      const decay = dt === null ? null : numbers(dt);
      const beta = bt === null ? null : numbers(bt);
      const scale = attrs.scale || 1 / Math.sqrt(size);
      const state = past === null ? new Float64Array(batch * kvHeads * size * width) : new Float64Array(numbers(past));
      const y = new Float64Array(batch * steps * outHeads * width);
      const add = new Float64Array(width);
      for (let b = 0; b < batch; b++)
        for (let t = 0; t < steps; t++)
          for (let g = 0; g < kvHeads; g++) {
            const row = b * steps + t;
            const at = (b * kvHeads + g) * size * width;
            const kAt = (row * kvHeads + g) * size;
            const vAt = (row * kvHeads + g) * width;
            if (s.gated)
              for (let i = 0; i < size; i++) {
                const keep = Math.exp(decay![s.wideDecay ? kAt + i : row * kvHeads + g]!);
                for (let j = 0; j < width; j++) state[at + i * width + j]! *= keep;
              }
            for (let j = 0; j < width; j++) add[j] = v[vAt + j]!;
            if (s.delta) {
              for (let i = 0; i < size; i++)
                for (let j = 0; j < width; j++) add[j]! -= state[at + i * width + j]! * k[kAt + i]!;
              const rate = beta![s.wideBeta ? row * kvHeads + g : row]!;
              for (let j = 0; j < width; j++) add[j]! *= rate;
            }
            for (let i = 0; i < size; i++)
              for (let j = 0; j < width; j++) state[at + i * width + j]! += k[kAt + i]! * add[j]!;
            for (let h = g * per; h < (g + 1) * per; h++)
              for (let i = 0; i < size; i++) {
                const x = scale * q[(row * heads + Math.floor((h * heads) / outHeads)) * size + i]!;
                for (let j = 0; j < width; j++) y[(row * outHeads + h) * width + j]! += x * state[at + i * width + j]!;
              }
          }
      return [
        fromNumbers(qt.dtype, [batch, steps, outHeads * width], y),
        fromNumbers(past?.dtype ?? qt.dtype, [batch, kvHeads, size, width], state),
      ];
    },
  });

/** https://onnx.ai/onnx/operators/onnx__LinearAttention.html, and com.microsoft's form of it. */
export const linearAttention: readonly Op[] = [
  family('LinearAttention', [27], false, {}),
  family('com.microsoft.LinearAttention', [1], true, { state_window: int(0) }),
];
