/** Shapes of Attention and com.microsoft.GroupQueryAttention. */
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { sizeOf } from '../src/core/tensor.ts';
import type { Heads } from './attention-core.ts';

type Shape = readonly number[];
type Shaped = Pick<Fact, 'shape'> | null | undefined;

export interface AttentionAttrs {
  readonly is_causal: number;
  readonly kv_num_heads: number | undefined;
  readonly q_num_heads: number | undefined;
  readonly left_window_size: number;
  readonly right_window_size: number;
  readonly qk_matmul_output_mode: number;
  readonly scale: number | undefined;
  readonly softcap: number;
}
/** An Attention call at known shapes. */
export interface AttentionShape extends Heads {
  /** Q, K, V and Y are [batch, steps, heads * size]. */
  readonly packed: boolean;
  /** Keys in the cache and keys that come in; `keys` is their sum. */
  readonly past: number;
  readonly incoming: number;
  readonly output: Shape;
}

/**
 * Inputs in ONNX's order: Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen. @throws attribute_invalid,
 * shape_mismatch, input_missing
 */
export function attentionShape(inputs: readonly Shaped[], attrs: AttentionAttrs): AttentionShape {
  const [q, k, v] = [inputs[0]!.shape, inputs[1]!.shape, inputs[2]!.shape];
  const packed = q.length === 3;
  if ((q.length !== 3 && q.length !== 4) || k.length !== q.length || v.length !== q.length)
    fail('shape_mismatch', `Q [${q}], K [${k}] and V [${v}] must all be of rank 3 or all of rank 4`);
  const heads = packed ? (attrs.q_num_heads ?? 0) : q[1]!;
  const kvHeads = packed ? (attrs.kv_num_heads ?? 0) : k[1]!;
  if (heads < 1 || kvHeads < 1) fail('attribute_invalid', 'inputs of rank 3 need q_num_heads and kv_num_heads');
  if (heads % kvHeads !== 0) fail('attribute_invalid', `${heads} query heads cannot share ${kvHeads} key heads`);
  const size = packed ? q[2]! / heads : q[3]!;
  const valueSize = packed ? v[2]! / kvHeads : v[3]!;
  if (!Number.isInteger(size) || !Number.isInteger(valueSize))
    fail('shape_mismatch', `Q [${q}] and V [${v}] do not divide into ${heads} and ${kvHeads} heads`);
  const batch = q[0]!;
  const queries = packed ? q[1]! : q[2]!;
  const incoming = packed ? k[1]! : k[2]!;
  const expect = (what: string, got: Shaped, need: Shape): void => {
    if (got && String(got.shape) !== String(need))
      fail('shape_mismatch', `${what} has shape [${got.shape}], not [${need}]`);
  };
  expect('K', inputs[1], packed ? [batch, incoming, kvHeads * size] : [batch, kvHeads, incoming, size]);
  expect('V', inputs[2], packed ? [batch, incoming, kvHeads * valueSize] : [batch, kvHeads, incoming, valueSize]);
  const pastKey = inputs[4] ?? null;
  const pastValue = inputs[5] ?? null;
  if ((pastKey === null) !== (pastValue === null))
    fail('input_missing', 'past_key and past_value must be given together');
  const past = pastKey?.shape[2] ?? 0;
  const keys = past + incoming;
  expect('past_key', pastKey, [batch, kvHeads, past, size]);
  expect('past_value', pastValue, [batch, kvHeads, past, valueSize]);
  expect('nonpad_kv_seqlen', inputs[6], [batch]);
  if (inputs[6] && pastKey !== null)
    fail('attribute_invalid', 'nonpad_kv_seqlen and past_key cannot be given together');
  const mask = inputs[3]?.shape;
  if (mask) {
    const full = [batch, heads, queries, keys];
    const fits =
      mask.length >= 1 &&
      mask.length <= 4 &&
      mask.every((d, i) => {
        const to = full[4 - mask.length + i]!;
        return d === 1 || d === to || (i === mask.length - 1 && d < to);
      });
    if (!fits) fail('shape_mismatch', `attn_mask of shape [${mask}] does not broadcast to [${full}]`);
  }
  if (attrs.qk_matmul_output_mode < 0 || attrs.qk_matmul_output_mode > 3)
    fail('attribute_invalid', `qk_matmul_output_mode ${attrs.qk_matmul_output_mode} must be 0 to 3`);
  return {
    batch,
    heads,
    kvHeads,
    queries,
    keys,
    size,
    valueSize,
    packed,
    past,
    incoming,
    output: packed ? [batch, queries, heads * valueSize] : [batch, heads, queries, valueSize],
  };
}

// ── GroupQueryAttention ─────────────────────────────────────────────────────────────────────────────────────────────
export interface GroupedAttrs {
  readonly num_heads: number;
  readonly kv_num_heads: number;
  readonly do_rotary: number;
  readonly causal: number;
  readonly local_window_size: number;
  readonly sliding_window_cache: number;
  readonly k_quant_type: string;
  readonly v_quant_type: string;
}
/** A GroupQueryAttention call at known shapes; `keys` is the length of the present caches. */
export interface GroupedShape extends Heads {
  /** Query holds Q, K and V side by side. */
  readonly packed: boolean;
  /** Length of the past caches. */
  readonly cache: number;
  /** Longest sequence of the batch, old and new tokens together. */
  readonly total: number;
  /** Elements of a head that the caches of cosines and sines rotate. */
  readonly turned: number;
}

/**
 * Inputs in order: query, key, value, past_key, past_value, seqlens_k, total_sequence_length, cos_cache, sin_cache,
 * position_ids, attention_bias, head_sink. @throws attribute_invalid, shape_mismatch, input_missing
 */
export function groupedShape(inputs: readonly Shaped[], a: GroupedAttrs, total: number): GroupedShape {
  const q = inputs[0]!.shape;
  const { num_heads: heads, kv_num_heads: kvHeads } = a;
  if (heads < 1 || kvHeads < 1 || heads % kvHeads !== 0)
    fail('attribute_invalid', `${heads} query heads cannot share ${kvHeads} key heads`);
  if (a.sliding_window_cache) fail('attribute_invalid', 'sliding_window_cache is not supported');
  if (a.k_quant_type !== 'NONE' || a.v_quant_type !== 'NONE')
    fail(
      'attribute_invalid',
      `k_quant_type ${a.k_quant_type} and v_quant_type ${a.v_quant_type}: quantised caches are not supported`,
    );
  if (!a.causal && a.local_window_size !== -1) fail('attribute_invalid', 'local_window_size needs causal attention');
  if (q.length !== 3) fail('shape_mismatch', `the query has shape [${q}]; it must be of rank 3`);
  const [batch, queries] = [q[0]!, q[1]!];
  const packed = !inputs[1];
  if (packed !== !inputs[2]) fail('input_missing', 'key and value must be given together');
  const size = q[2]! / (packed ? heads + 2 * kvHeads : heads);
  if (!Number.isInteger(size))
    fail(
      'shape_mismatch',
      `a query of shape [${q}] does not divide into ${heads} heads${packed ? ` and twice ${kvHeads}` : ''}`,
    );
  const expect = (what: string, got: Shaped, need: Shape): void => {
    if (got && String(got.shape) !== String(need))
      fail('shape_mismatch', `${what} has shape [${got.shape}], not [${need}]`);
  };
  expect('key', inputs[1], [batch, queries, kvHeads * size]);
  expect('value', inputs[2], [batch, queries, kvHeads * size]);
  if (!inputs[3] !== !inputs[4]) fail('input_missing', 'past_key and past_value must be given together');
  const cache = inputs[3]?.shape[2] ?? 0;
  expect('past_key', inputs[3], [batch, kvHeads, cache, size]);
  expect('past_value', inputs[4], [batch, kvHeads, cache, size]);
  if (sizeOf(inputs[5]!.shape) !== batch)
    fail('shape_mismatch', `seqlens_k has shape [${inputs[5]!.shape}], not [${batch}]`);
  if (total < queries)
    fail('value_invalid', `total_sequence_length ${total} is less than the ${queries} tokens of the query`);
  const cos = inputs[7]?.shape;
  const turned = cos ? 2 * cos[1]! : 0;
  if (a.do_rotary && (!cos || !inputs[8])) fail('input_missing', 'do_rotary needs cos_cache and sin_cache');
  if (cos && (cos.length !== 2 || turned > size))
    fail('shape_mismatch', `cos_cache has shape [${cos}]; it must be [positions, ${size / 2}]`);
  if (cos) expect('sin_cache', inputs[8], cos);
  expect('position_ids', inputs[9], [batch, queries]);
  const bias = inputs[10]?.shape;
  if (
    bias &&
    (bias.length !== 4 ||
      (bias[0] !== 1 && bias[0] !== batch) ||
      (bias[1] !== 1 && bias[1] !== heads) ||
      bias[2] !== queries ||
      bias[3]! < total)
  )
    fail('shape_mismatch', `attention_bias has shape [${bias}], not [${[batch, heads, queries, total]}]`);
  expect('head_sink', inputs[11], [heads]);
  expect('q_norm_weight', inputs[14], [size]);
  expect('k_norm_weight', inputs[15], [size]);
  if (!inputs[14] !== !inputs[15]) fail('input_missing', 'q_norm_weight and k_norm_weight must be given together');
  return {
    batch,
    heads,
    kvHeads,
    queries,
    keys: Math.max(cache, total),
    size,
    valueSize: size,
    packed,
    cache,
    total,
    turned,
  };
}
