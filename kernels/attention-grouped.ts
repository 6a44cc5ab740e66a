import { fail } from '../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { defineOp, float, int, required, string } from './define.ts';
import { attend, headsFirst, moveHeads, packedRows, takeHeads } from './attention-core.ts';
import { groupedShape } from './attention-shape.ts';
import { positionIn, rotate } from './rotary-shape.ts';
import { broadcastStrides } from './shapes.ts';

/** Divides each run of `size` elements by its root mean square and multiplies it by the weights. */
function normaliseHeads(x: Float64Array, size: number, weights: Tensor | null, epsilon: number): void {
  if (weights === null) return;
  const w = numbers(weights);
  for (let at = 0; at < x.length; at += size) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += x[at + i]! ** 2;
    const by = 1 / Math.sqrt(sum / size + epsilon);
    for (let i = 0; i < size; i++) x[at + i]! *= by * w[i]!;
  }
}

/**
 * Entry b of the batch has seen seqlens_k[b] + 1 tokens after the step; its new keys follow its old ones in the caches.
 * At the first prompt (no token is old) shorter entries are padded on the right.
 */
export const groupQueryAttention = defineOp({
  op: 'com.microsoft.GroupQueryAttention',
  since: [1],
  inputs: [
    'query: T',
    'key: T?',
    'value: T?',
    'past_key: T?',
    'past_value: T?',
    'seqlens_k: int32',
    'total_sequence_length: int32',
    'cos_cache: T?',
    'sin_cache: T?',
    'position_ids: int64?',
    'attention_bias: T?',
    'head_sink: T?',
    'k_scale: float32?',
    'v_scale: float32?',
    'q_norm_weight: T?',
    'k_norm_weight: T?',
  ],
  outputs: ['output: T', 'present_key: T?', 'present_value: T?', 'output_qk: T?'],
  types: { T: ['float32', 'float16', 'bfloat16'] },
  attrs: {
    causal: int(1),
    do_rotary: int(0),
    k_quant_type: string('NONE'),
    kv_cache_bit_width: int(8),
    kv_num_heads: required(int()),
    local_window_size: int(-1),
    num_heads: required(int()),
    qk_norm_epsilon: float(1e-6),
    qk_output: int(0),
    rotary_interleaved: int(0),
    scale: float(0),
    sliding_window_cache: int(0),
    smooth_softmax: int(0),
    softcap: float(0),
    v_quant_type: string('NONE'),
  },
  infer: (call) => {
    const s = groupedShape(call.inputs, call.attrs, integers(call.value(6))[0] ?? 0);
    const { dtype } = call.fact(0);
    const cache = [s.batch, s.kvHeads, s.keys, s.size];
    return [
      { dtype, shape: [s.batch, s.queries, s.heads * s.size] },
      { dtype, shape: cache },
      { dtype, shape: cache },
      { dtype, shape: [s.batch, s.heads, s.queries, s.total] },
    ];
  },
  reference: (call) => {
    const { attrs } = call;
    const qt = call.tensor(0);
    const lengths = integers(call.tensor(5)).map((n) => n + 1);
    const s = groupedShape(
      Array.from({ length: 16 }, (_, i) => call.optional(i)),
      attrs,
      integers(call.tensor(6))[0] ?? 0,
    );
    const { batch, heads, kvHeads, queries, keys, size, total } = s;
    const prompt = queries === total;
    const width = qt.shape[2]!;
    const past = lengths.map((n, b) => {
      const old = prompt ? 0 : n - queries;
      if (n < 1 || n > total || old < 0 || old > s.cache)
        fail(
          'value_invalid',
          `seqlens_k names ${n} tokens for entry ${b}, of which ${old} are old; the cache holds ${s.cache} and the longest has ${total}`,
        );
      return old;
    });
    const q = takeHeads(numbers(qt), packedRows(queries, width, size), batch, queries, heads, size);
    const incoming = (i: number, at: number): Float64Array =>
      s.packed
        ? takeHeads(numbers(qt), packedRows(queries, width, size, at * size), batch, queries, kvHeads, size)
        : takeHeads(numbers(call.tensor(i)), packedRows(queries, kvHeads * size, size), batch, queries, kvHeads, size);
    const newK = incoming(1, heads);
    const newV = incoming(2, heads + kvHeads);
    normaliseHeads(q, size, call.optional(14), attrs.qk_norm_epsilon);
    normaliseHeads(newK, size, call.optional(15), attrs.qk_norm_epsilon);
    if (attrs.do_rotary) {
      const cos = numbers(call.tensor(7));
      const sin = numbers(call.tensor(8));
      const ids = call.optional(9) === null ? null : integers(call.tensor(9));
      const rows = call.tensor(7).shape[0]!;
      for (let b = 0; b < batch; b++)
        for (let i = 0; i < queries; i++) {
          const angle = (positionIn(ids === null ? past[b]! + i : ids[b * queries + i]!, rows) * s.turned) / 2;
          for (let h = 0; h < heads; h++)
            rotate(
              q,
              ((b * heads + h) * queries + i) * size,
              s.turned,
              cos,
              sin,
              angle,
              attrs.rotary_interleaved !== 0,
            );
          for (let h = 0; h < kvHeads; h++)
            rotate(
              newK,
              ((b * kvHeads + h) * queries + i) * size,
              s.turned,
              cos,
              sin,
              angle,
              attrs.rotary_interleaved !== 0,
            );
        }
    }
    const cached = (old: Tensor | null, now: Float64Array): Float64Array => {
      const out = new Float64Array(batch * kvHeads * keys * size);
      const from = old === null ? null : numbers(old);
      for (let r = 0; r < batch * kvHeads; r++) {
        const n = past[Math.floor(r / kvHeads)]!;
        const shared = s.cache === keys ? s.cache : n; // a shared buffer keeps what it holds beyond
        if (from !== null)
          for (let i = 0; i < shared * size; i++) out[r * keys * size + i] = from[r * s.cache * size + i]!;
        out.set(now.subarray(r * queries * size, (r + 1) * queries * size), (r * keys + n) * size);
      }
      return out;
    };
    const k = cached(call.optional(3), newK);
    const v = cached(call.optional(4), newV);
    const biasT = call.optional(10);
    const bias = biasT === null ? null : numbers(biasT);
    const strides = biasT === null ? [] : broadcastStrides(biasT.shape, [batch, heads, queries, biasT.shape[3]!]);
    const sinks = call.optional(11) === null ? null : numbers(call.tensor(11));
    const seen = call.outputs > 3 ? new Float64Array(batch * heads * queries * total) : null;
    const stage = attrs.qk_output === 2 ? 3 : 2;
    const y = attend(s, q, k, v, {
      scale: attrs.scale || 1 / Math.sqrt(size),
      softcap: attrs.softcap,
      sink: sinks !== null ? (h) => sinks[h]! : attrs.smooth_softmax > 0 ? () => 0 : undefined,
      adjust: (row, b, h, i) => {
        const position = past[b]! + i;
        const until = attrs.causal ? position + 1 : Math.max(lengths[b]!, 1);
        const from = attrs.local_window_size > 0 ? position + 1 - attrs.local_window_size : 0;
        const at = bias === null ? 0 : b * strides[0]! + h * strides[1]! + i * strides[2]!;
        for (let j = 0; j < keys; j++) {
          if (j < from || j >= until) row[j] = -Infinity;
          else if (bias !== null) row[j]! += bias[at + j]!;
        }
      },
      observe:
        seen === null
          ? undefined
          : (st, row, at) => {
              if (st === stage) seen.set(row.subarray(0, total), (at / keys) * total);
            },
    });
    const dtype = qt.dtype;
    const cacheShape = [batch, kvHeads, keys, size];
    return [
      fromNumbers(
        dtype,
        [batch, queries, heads * size],
        moveHeads(
          y,
          headsFirst(heads, queries, size),
          new Float64Array(y.length),
          packedRows(queries, heads * size, size),
          batch,
          queries,
          heads,
          size,
        ),
      ),
      call.outputs > 1 ? fromNumbers(dtype, cacheShape, k) : null,
      call.outputs > 2 ? fromNumbers(dtype, cacheShape, v) : null,
      seen === null ? null : fromNumbers(dtype, [batch, heads, queries, total], seen),
    ];
  },
});
