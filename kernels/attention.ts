import { type DType, DTYPE_OF_ONNX } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { isTensor, sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, float, graphAttr, type InferCall, int, NUMERIC, type Op, type RefCall } from './define.ts';
import { appendKeys, attend, headsFirst, moveHeads, packedRows, softmaxRow, takeHeads } from './attention-core.ts';
import { groupQueryAttention } from './attention-grouped.ts';
import { headAttention } from './attention-heads.ts';
import { attentionShape, type AttentionShape } from './attention-shape.ts';
import { linearAttention } from './attention-linear.ts';
import { microsoftAttention } from './attention-microsoft.ts';
import { product, reals } from './matmul-product.ts';
import { broadcastStrides } from './shapes.ts';

type Shaped = Pick<Fact, 'shape'> | null | undefined;

/** Adds a mask tensor to rows of scores: false, -infinity and columns that a short mask lacks disable a key. */
function masker(mask: Tensor, s: AttentionShape): (row: Float64Array, b: number, head: number, i: number) => void {
  const v = numbers(mask);
  const last = mask.shape[mask.shape.length - 1]!;
  const columns = last === 1 && s.keys !== 1 ? s.keys : last;
  const strides = broadcastStrides(mask.shape, [s.batch, s.heads, s.queries, Math.max(columns, last)]);
  const bool = mask.dtype === 'bool';
  const step = strides[3]!;
  return (row, b, head, i) => {
    const at = b * strides[0]! + head * strides[1]! + i * strides[2]!;
    for (let j = 0; j < row.length; j++) {
      const m = j >= columns ? -Infinity : v[at + j * step]!;
      if (j >= columns || (bool ? m === 0 : m === -Infinity)) row[j] = -Infinity;
      else if (!bool) row[j]! += m;
    }
  };
}

const attention = defineOp({
  op: 'Attention',
  since: [23, 24, 25],
  inputs: ['Q: T1', 'K: T1', 'V: T2', 'attn_mask: U?', 'past_key: T1?', 'past_value: T2?', 'nonpad_kv_seqlen: int64?'],
  outputs: ['Y: T1', 'present_key: T1?', 'present_value: T2?', 'qk_matmul_output: T1?'],
  types: { T1: FLOAT, T2: FLOAT, U: [...NUMERIC, 'bool'] },
  attrs: {
    is_causal: int(0),
    kv_num_heads: int(),
    left_window_size: int(-1),
    q_num_heads: int(),
    qk_matmul_output_mode: int(0),
    right_window_size: int(-1),
    scale: float(),
    softcap: float(0),
    softmax_precision: int(),
  },
  infer: (call) => {
    const s = attentionShape([call.fact(0), call.fact(1), call.fact(2), ...call.inputs.slice(3)], call.attrs);
    const { dtype } = call.fact(0);
    const values = call.fact(2).dtype;
    return [
      { dtype, shape: s.output },
      { dtype, shape: [s.batch, s.kvHeads, s.keys, s.size] },
      { dtype: values, shape: [s.batch, s.kvHeads, s.keys, s.valueSize] },
      { dtype, shape: [s.batch, s.heads, s.queries, s.keys] },
    ];
  },
  reference: (call) => {
    const { attrs } = call;
    const qt = call.tensor(0);
    const vt = call.tensor(2);
    const mask = call.optional(3);
    const s = attentionShape(
      [0, 1, 2, 3, 4, 5, 6].map((i) => call.optional(i)),
      attrs,
    );
    const { batch, heads, kvHeads, queries, keys, size, valueSize } = s;
    const q = s.packed
      ? takeHeads(numbers(qt), packedRows(queries, heads * size, size), batch, queries, heads, size)
      : reals(qt);
    const extended = (i: number, width: number, past: Tensor | null): Float64Array | ReturnType<typeof reals> => {
      const t = call.tensor(i);
      const now = s.packed
        ? takeHeads(numbers(t), packedRows(s.incoming, kvHeads * width, width), batch, s.incoming, kvHeads, width)
        : reals(t);
      return past === null ? now : appendKeys(numbers(past), s.past, now, s.incoming, batch * kvHeads, width);
    };
    const k = extended(1, size, call.optional(4));
    const v = extended(2, valueSize, call.optional(5));
    const lengths = call.optional(6) === null ? null : integers(call.tensor(6));
    const masked = mask === null ? null : masker(mask, s);
    const mode = attrs.qk_matmul_output_mode;
    const seen = call.outputs > 3 ? new Float64Array(batch * heads * queries * keys) : null;
    const y = attend(s, q, k, v, {
      scale: attrs.scale ?? 1 / Math.sqrt(size),
      softcap: attrs.softcap,
      adjust: (row, b, head, i) => {
        masked?.(row, b, head, i);
        const position = i + (s.past > 0 ? s.past : lengths === null ? 0 : lengths[b]! - queries);
        const from = attrs.left_window_size < 0 ? 0 : position - attrs.left_window_size;
        const until = Math.min(
          lengths?.[b] ?? keys,
          attrs.is_causal ? position + 1 : keys,
          attrs.right_window_size < 0 ? keys : position + attrs.right_window_size + 1,
        );
        for (let j = 0; j < keys; j++) if (j < from || j >= until) row[j] = -Infinity;
      },
      observe:
        seen === null
          ? undefined
          : (stage, row, at) => {
              if (stage === mode) seen.set(row, at);
            },
    });
    const out = s.packed
      ? moveHeads(
          y,
          headsFirst(heads, queries, valueSize),
          new Float64Array(y.length),
          packedRows(queries, heads * valueSize, valueSize),
          batch,
          queries,
          heads,
          valueSize,
        )
      : y;
    return [
      fromNumbers(qt.dtype, s.output, out),
      call.outputs > 1 ? fromNumbers(qt.dtype, [batch, kvHeads, keys, size], k) : null,
      call.outputs > 2 ? fromNumbers(vt.dtype, [batch, kvHeads, keys, valueSize], v) : null,
      seen === null ? null : fromNumbers(qt.dtype, [batch, heads, queries, keys], seen),
    ];
  },
});

// ── FlexAttention ───────────────────────────────────────────────────────────────────────────────────────────────────
/** Sizes of a FlexAttention. */
export function flexShape(inputs: readonly Shaped[]): AttentionShape {
  if (inputs[0]!.shape.length !== 4) fail('shape_mismatch', `Q has shape [${inputs[0]!.shape}]; it must be of rank 4`);
  return attentionShape(inputs, {
    is_causal: 0,
    kv_num_heads: undefined,
    q_num_heads: undefined,
    left_window_size: -1,
    right_window_size: -1,
    qk_matmul_output_mode: 0,
    scale: undefined,
    softcap: 0,
  });
}
function precisionOf(code: number | undefined, dtype: DType): DType {
  const precision = code === undefined ? (dtype === 'float64' ? 'float64' : 'float32') : DTYPE_OF_ONNX[code];
  return precision !== undefined && FLOAT.includes(precision)
    ? precision
    : fail('attribute_invalid', `softmax_precision ${code} is no float type`);
}

/** The bodies see scores and probabilities as one tensor [batch, heads, queries, keys] of the softmax's precision. */
const flexAttention = defineOp({
  op: 'ai.onnx.preview.FlexAttention',
  since: [1],
  inputs: ['Q: T1', 'K: T1', 'V: T1'],
  outputs: ['Y: T1'],
  types: { T1: FLOAT },
  attrs: { prob_mod: graphAttr(), scale: float(), score_mod: graphAttr(), softmax_precision: int() },
  dynamic: (attrs) => attrs.score_mod !== undefined || attrs.prob_mod !== undefined, // bodies run in the session
  infer: (call: InferCall) => {
    precisionOf(call.attrs.softmax_precision, call.fact(0).dtype);
    return [{ dtype: call.fact(0).dtype, shape: flexShape([call.fact(0), call.fact(1), call.fact(2)]).output }];
  },
  reference: async (call: RefCall) => {
    const qt = call.tensor(0);
    const s = flexShape([0, 1, 2].map((i) => call.tensor(i)));
    const dtype = precisionOf(call.attrs.softmax_precision, qt.dtype);
    const q = reals(qt);
    const k = reals(call.tensor(1));
    const v = reals(call.tensor(2));
    const per = s.heads / s.kvHeads;
    const grid = s.queries * s.keys;
    const shape = [s.batch, s.heads, s.queries, s.keys];
    const scores = new Float64Array(sizeOf(shape));
    for (let h = 0; h < s.batch * s.heads; h++) {
      product(
        { data: scores, at: h * grid, row: s.keys, col: 1 },
        { data: q, at: h * s.queries * s.size, row: s.size, col: 1 },
        { data: k, at: Math.floor(h / per) * s.keys * s.size, row: 1, col: s.size },
        s.queries,
        s.keys,
        s.size,
      );
    }
    const scale = call.attrs.scale ?? 1 / Math.sqrt(s.size);
    const through = async (body: typeof call.attrs.score_mod, values: Float64Array): Promise<Float64Array> => {
      if (body === undefined) return values;
      const [out] = await call.run(body, [fromNumbers(dtype, shape, values)]);
      if (out === undefined || !isTensor(out) || String(out.shape) !== String(shape))
        fail('shape_mismatch', `a body must return a tensor of shape [${shape}]`);
      return new Float64Array(numbers(out));
    };
    const modified = await through(
      call.attrs.score_mod,
      scores.map((x) => x * scale),
    );
    for (let r = 0; r < s.batch * s.heads * s.queries; r++) softmaxRow(modified.subarray(r * s.keys, (r + 1) * s.keys));
    const p = await through(call.attrs.prob_mod, modified);
    const y = new Float64Array(sizeOf(s.output));
    for (let h = 0; h < s.batch * s.heads; h++) {
      product(
        { data: y, at: h * s.queries * s.valueSize, row: s.valueSize, col: 1 },
        { data: p, at: h * grid, row: s.keys, col: 1 },
        { data: v, at: Math.floor(h / per) * s.keys * s.valueSize, row: s.valueSize, col: 1 },
        s.queries,
        s.valueSize,
        s.keys,
      );
    }
    return [fromNumbers(qt.dtype, s.output, y)];
  },
});

/**
 * https://onnx.ai/onnx/operators/onnx__Attention.html and what is related to it; com.microsoft's: ContribOperators.md
 * of onnxruntime.
 */
export const attentions: readonly Op[] = [
  attention,
  headAttention(attention),
  flexAttention,
  ...linearAttention,
  ...microsoftAttention,
  groupQueryAttention,
];
