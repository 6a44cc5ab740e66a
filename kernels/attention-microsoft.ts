/**
 * com.microsoft's Attention, QAttention and MultiHeadAttention. Masks have a finite value here: a query with every key
 * masked is not zeroed.
 */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { defineOp, float, int, ints, type Op, type OutFact, type RefCall, required } from './define.ts';
import {
  appendKeys,
  attend,
  type HeadLayout,
  headsFirst,
  type Heads,
  moveHeads,
  packedRows,
  type Scoring,
  takeHeads,
} from './attention-core.ts';
import {
  checkBias,
  maskForm,
  multiShape,
  type ProjectedAttrs,
  projectedShape,
  type ProjectedShape,
} from './attention-microsoft-shape.ts';
import { product, reals } from './matmul-product.ts';
import { single, singleOrPer } from './quantize-round.ts';
import { broadcastStrides } from './shapes.ts';

const REAL: readonly DType[] = ['float32', 'float16', 'bfloat16'];
/** What later tokens score under `unidirectional`: the least float32. */
const LOWEST = -3.4028234663852886e38;

// ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
/** Adds mask and attention bias to rows of scores; `past` keys precede the first query. */
function adjuster(
  mask: Tensor | null,
  bias: Tensor | null,
  h: Heads,
  past: number,
  attrs: { readonly mask_filter_value: number; readonly unidirectional: number },
): Scoring['adjust'] {
  if (mask === null && bias === null && !attrs.unidirectional) return undefined;
  const m = mask === null ? null : numbers(mask);
  const form = mask === null ? null : maskForm(mask.shape, h);
  const side = mask?.shape[3] ?? 0;
  const extra = bias === null ? null : numbers(bias);
  const strides = bias === null ? [] : broadcastStrides(bias.shape, [h.batch, h.heads, h.queries, h.keys]);
  const masked = (b: number, i: number, j: number): boolean => {
    switch (form) {
      case 'ends':
        return j >= m![b]!;
      case 'ranges':
        return j >= m![b]! || j < m![h.batch + b]!;
      case 'keys':
        return !(m![b * h.keys + j]! > 0);
      case 'queries':
        return !(m![(b * h.queries + i) * h.keys + j]! > 0);
      case 'square':
        return !(m![(b * side + past + i) * side + j]! > 0);
      case null:
        return false;
    }
  };
  return (row, b, head, i) => {
    for (let j = 0; j < h.keys; j++) {
      if (masked(b, i, j)) row[j]! += attrs.mask_filter_value;
      if (extra !== null) row[j]! += extra[b * strides[0]! + head * strides[1]! + i * strides[2]! + j * strides[3]!]!;
      if (attrs.unidirectional && j > past + i) row[j] = LOWEST;
    }
  };
}

// ── Attention and QAttention: the projection is part of them ────────────────────────────────────────────────────────
const projectedFacts = (s: ProjectedShape, dtype: DType): OutFact[] => [
  { dtype, shape: s.output },
  { dtype, shape: s.present },
];

/** `qkv` is the projected input [batch, steps, Q | K | V]. */
function projected(
  call: RefCall,
  s: ProjectedShape,
  qkv: Float64Array,
  dtype: DType,
  mask: Tensor | null,
  past: Tensor | null,
  bias: Tensor | null,
  a: ProjectedAttrs,
): readonly (Tensor | null)[] {
  const { batch, heads, queries, keys, size, valueSize } = s;
  const take = (at: number, width: number): Float64Array =>
    takeHeads(qkv, packedRows(queries, s.width, width, at), batch, queries, heads, width);
  const q = take(0, size);
  const old = past === null ? null : new Float64Array(numbers(past));
  const half = batch * heads * s.past * size;
  const extend = (now: Float64Array, which: 0 | 1, width: number): Float64Array =>
    old === null
      ? now
      : appendKeys(old.subarray(which * half, (which + 1) * half), s.past, now, queries, batch * heads, width);
  const k = extend(take(s.hidden, size), 0, size);
  const v = extend(take(2 * s.hidden, valueSize), 1, valueSize);
  const y = attend(s, q, k, v, { scale: a.scale || 1 / Math.sqrt(size), adjust: adjuster(mask, bias, s, s.past, a) });
  const out = moveHeads(
    y,
    headsFirst(heads, queries, valueSize),
    new Float64Array(y.length),
    packedRows(queries, heads * valueSize, valueSize),
    batch,
    queries,
    heads,
    valueSize,
  );
  let present: Tensor | null = null;
  if (call.outputs > 1) {
    if (size !== valueSize)
      fail('shape_mismatch', `present cannot hold keys of ${size} and values of ${valueSize} elements`);
    const both = new Float64Array(2 * batch * heads * keys * size);
    both.set(k);
    both.set(v, k.length);
    present = fromNumbers(dtype, s.present, both);
  }
  return [fromNumbers(dtype, s.output, out), present];
}

const projectedAttrs = {
  do_rotary: int(0),
  mask_filter_value: float(-10000),
  num_heads: required(int()),
  past_present_share_buffer: int(0),
  scale: float(0),
  unidirectional: int(0),
};

const attention = defineOp({
  op: 'com.microsoft.Attention',
  since: [1],
  inputs: [
    'input: T',
    'weights: T',
    'bias: T?',
    'mask_index: int32?',
    'past: T?',
    'attention_bias: T?',
    'past_sequence_length: int32?',
  ],
  outputs: ['output: T', 'present: T?'],
  types: { T: REAL },
  attrs: { ...projectedAttrs, qkv_hidden_sizes: ints(), rotary_embedding_dim: int(0) },
  infer: (call) => {
    const s = projectedShape(
      call.fact(0).shape,
      call.fact(1).shape,
      call.inputs[2],
      call.inputs[3],
      call.inputs[4],
      call.attrs,
    );
    checkBias(call.inputs[5], s);
    return projectedFacts(s, call.fact(0).dtype);
  },
  reference: (call) => {
    const x = call.tensor(0);
    const w = call.tensor(1);
    const bias = call.optional(2);
    const mask = call.optional(3);
    const past = call.optional(4);
    const s = projectedShape(x.shape, w.shape, bias, mask, past, call.attrs);
    const rows = s.batch * s.queries;
    const qkv = new Float64Array(rows * s.width);
    product(
      { data: qkv, at: 0, row: s.width, col: 1 },
      { data: reals(x), at: 0, row: s.input, col: 1 },
      { data: reals(w), at: 0, row: s.width, col: 1 },
      rows,
      s.width,
      s.input,
    );
    if (bias !== null) for (let i = 0, v = numbers(bias); i < qkv.length; i++) qkv[i]! += v[i % s.width]!;
    return projected(call, s, qkv, x.dtype, mask, past, call.optional(5), call.attrs);
  },
});

const qattention = defineOp({
  op: 'com.microsoft.QAttention',
  since: [1],
  inputs: [
    'input: T1',
    'weight: T2',
    'bias: T3',
    'input_scale: T3',
    'weight_scale: T3',
    'mask_index: int32?',
    'input_zero_point: T1?',
    'weight_zero_point: T2?',
    'past: T3?',
  ],
  outputs: ['output: T3', 'present: T3?'],
  types: { T1: ['int8', 'uint8'], T2: ['int8', 'uint8'], T3: ['float32', 'float16'] },
  attrs: projectedAttrs,
  infer: (call) => {
    const w = call.fact(1).shape;
    const s = projectedShape(call.fact(0).shape, w, call.fact(2), call.inputs[5], call.inputs[8], call.attrs);
    single(call.fact(3).shape, 'input_scale');
    singleOrPer(call.fact(4).shape, w[1]!, 'weight_scale');
    if (call.inputs[6]) single(call.inputs[6].shape, 'input_zero_point');
    if (call.inputs[7]) singleOrPer(call.inputs[7].shape, w[1]!, 'weight_zero_point');
    return projectedFacts(s, call.fact(2).dtype);
  },
  reference: (call) => {
    const x = call.tensor(0);
    const w = call.tensor(1);
    const bias = call.tensor(2);
    const mask = call.optional(5);
    const past = call.optional(8);
    const s = projectedShape(x.shape, w.shape, bias, mask, past, call.attrs);
    const rows = s.batch * s.queries;
    const xz = call.optional(6) === null ? 0 : numbers(call.tensor(6))[0]!;
    const wz = call.optional(7) === null ? null : numbers(call.tensor(7));
    const a = new Float64Array(numbers(x)).map((v) => v - xz);
    const b = new Float64Array(numbers(w)).map(
      (v, i) => v - (wz === null ? 0 : wz[wz.length === 1 ? 0 : i % s.width]!),
    );
    const qkv = new Float64Array(rows * s.width);
    const xs = numbers(call.tensor(3))[0]!;
    const ws = numbers(call.tensor(4));
    const add = numbers(bias);
    product(
      { data: qkv, at: 0, row: s.width, col: 1 },
      { data: a, at: 0, row: s.input, col: 1 },
      { data: b, at: 0, row: s.width, col: 1 },
      rows,
      s.width,
      s.input,
    );
    for (let i = 0; i < qkv.length; i++)
      qkv[i] = qkv[i]! * xs * ws[ws.length === 1 ? 0 : i % s.width]! + add[i % s.width]!;
    return projected(call, s, qkv, bias.dtype, mask, past, null, call.attrs);
  },
});

// ── MultiHeadAttention ──────────────────────────────────────────────────────────────────────────────────────────────
const multiHeadAttention = defineOp({
  op: 'com.microsoft.MultiHeadAttention',
  since: [1],
  inputs: [
    'query: T',
    'key: T?',
    'value: T?',
    'bias: T?',
    'key_padding_mask: int32?',
    'attention_bias: T?',
    'past_key: T?',
    'past_value: T?',
    'past_sequence_length: int32?',
    'cache_indirection: int32?',
  ],
  outputs: ['output: T', 'present_key: T?', 'present_value: T?', 'qk: T?'],
  types: { T: REAL },
  attrs: { mask_filter_value: float(-10000), num_heads: required(int()), scale: float(0), unidirectional: int(0) },
  infer: (call) => {
    if (call.inputs[8] || call.inputs[9])
      fail('attribute_invalid', 'past_sequence_length and cache_indirection (shared buffers) are not supported');
    const s = multiShape(call.inputs, call.attrs);
    const { dtype } = call.fact(0);
    return [
      { dtype, shape: [s.batch, s.queries, s.heads * s.valueSize] },
      { dtype, shape: [s.batch, s.heads, s.keys, s.size] },
      { dtype, shape: [s.batch, s.heads, s.keys, s.valueSize] },
      { dtype, shape: [s.batch, s.heads, s.queries, s.keys] },
    ];
  },
  reference: (call) => {
    const { attrs } = call;
    const qt = call.tensor(0);
    const kt = call.optional(1);
    const biasT = call.optional(3);
    const s = multiShape(
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.optional(i)),
      attrs,
    );
    const { batch, heads, queries, incoming, keys, size, valueSize, form } = s;
    const bias = biasT === null ? null : numbers(biasT);
    // Parts of a packed tensor [batch, steps, heads, parts, size] lie side by side within a head.
    const within = (steps: number, parts: number, part: number): HeadLayout => ({
      at: part * size,
      batch: steps * heads * parts * size,
      step: heads * parts * size,
      head: parts * size,
    });
    const [source, layout] = {
      separate: [
        [qt, kt, call.optional(2)],
        [
          packedRows(queries, heads * size, size),
          packedRows(incoming, heads * size, size),
          packedRows(incoming, heads * valueSize, valueSize),
        ],
      ],
      packedKv: [
        [qt, kt, kt],
        [packedRows(queries, heads * size, size), within(incoming, 2, 0), within(incoming, 2, 1)],
      ],
      packed: [
        [qt, qt, qt],
        [within(queries, 3, 0), within(queries, 3, 1), within(queries, 3, 2)],
      ],
      cached: [
        [qt, kt, call.optional(2)],
        [
          packedRows(queries, heads * size, size),
          headsFirst(heads, incoming, size),
          headsFirst(heads, incoming, valueSize),
        ],
      ],
    }[form] as [Tensor[], HeadLayout[]];
    const part = (i: 0 | 1 | 2): Float64Array => {
      const steps = i === 0 ? queries : incoming;
      const width = i === 2 ? valueSize : size;
      const x = takeHeads(numbers(source[i]!), layout[i]!, batch, steps, heads, width);
      if (bias !== null && (i === 0 || form !== 'cached'))
        for (let at = 0; at < x.length; at++)
          x[at]! += bias[i * heads * size + (Math.floor(at / (steps * width)) % heads) * width + (at % width)]!;
      return x;
    };
    const extend = (i: 1 | 2, width: number): Float64Array =>
      call.optional(i + 5) === null
        ? part(i)
        : appendKeys(numbers(call.tensor(i + 5)), s.past, part(i), incoming, batch * heads, width);
    const k = extend(1, size);
    const v = extend(2, valueSize);
    const seen = call.outputs > 3 ? new Float64Array(batch * heads * queries * keys) : null;
    const y = attend(s, part(0), k, v, {
      scale: attrs.scale || 1 / Math.sqrt(size),
      adjust: adjuster(call.optional(4), call.optional(5), s, s.past, attrs),
      observe:
        seen === null
          ? undefined
          : (stage, row, at) => {
              if (stage === 3) seen.set(row, at);
            },
    });
    const out = moveHeads(
      y,
      headsFirst(heads, queries, valueSize),
      new Float64Array(y.length),
      packedRows(queries, heads * valueSize, valueSize),
      batch,
      queries,
      heads,
      valueSize,
    );
    return [
      fromNumbers(qt.dtype, [batch, queries, heads * valueSize], out),
      call.outputs > 1 ? fromNumbers(qt.dtype, [batch, heads, keys, size], k) : null,
      call.outputs > 2 ? fromNumbers(qt.dtype, [batch, heads, keys, valueSize], v) : null,
      seen === null ? null : fromNumbers(qt.dtype, [batch, heads, queries, keys], seen),
    ];
  },
});

/** ContribOperators.md of onnxruntime. */
export const microsoftAttention: readonly Op[] = [attention, qattention, multiHeadAttention];
