/** com.microsoft's Attention, QAttention and MultiHeadAttention. Masks have a finite value here: a query with every key masked is not zeroed. */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { defineOp, float, int, ints, type Op, type OutFact, type RefCall, required } from './define.ts';
import { appendKeys, attend, type HeadLayout, headsFirst, type Heads, moveHeads, packedRows, type Scoring, takeHeads } from './attention-core.ts';
import { product, reals } from './matmul-product.ts';
import { single, singleOrPer } from './quantize-round.ts';
import { broadcastStrides } from './shapes.ts';
import { multiHeadWasm } from './wasm/attention.ts';

type Shape = readonly number[];
type Shaped = Pick<Fact, 'shape'> | null | undefined;
const REAL: readonly DType[] = ['float32', 'float16', 'bfloat16'];
/** What later tokens score under `unidirectional`: the least float32. */
const LOWEST = -3.4028234663852886e38;

// ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
/** The forms of a mask: raw masks have 0 for masked; indices say where the keys of an entry begin and end. @throws shape_mismatch */
export function maskForm(mask: Shape, h: Heads): 'ends' | 'ranges' | 'keys' | 'queries' | 'square' {
  const is = (...shape: number[]): boolean => String(mask) === String(shape);
  if (is(h.batch)) return 'ends';
  if (is(2 * h.batch)) return 'ranges';
  if (is(h.batch, h.keys)) return 'keys';
  if (is(h.batch, h.queries, h.keys)) return 'queries';
  if (mask.length === 4 && mask[0] === h.batch && mask[1] === 1 && mask[2] === mask[3] && mask[3]! >= h.keys) return 'square';
  return fail('shape_mismatch', `a mask of shape [${mask}] does not fit ${h.batch} entries of ${h.queries} queries and ${h.keys} keys`);
}

/** Adds mask and attention bias to rows of scores; `past` keys precede the first query. */
function adjuster(mask: Tensor | null, bias: Tensor | null, h: Heads, past: number, attrs: { readonly mask_filter_value: number; readonly unidirectional: number }): Scoring['adjust'] {
  if (mask === null && bias === null && !attrs.unidirectional) return undefined;
  const m = mask === null ? null : numbers(mask), form = mask === null ? null : maskForm(mask.shape, h), side = mask?.shape[3] ?? 0;
  const extra = bias === null ? null : numbers(bias), strides = bias === null ? [] : broadcastStrides(bias.shape, [h.batch, h.heads, h.queries, h.keys]);
  const masked = (b: number, i: number, j: number): boolean => {
    switch (form) {
      case 'ends': return j >= m![b]!;
      case 'ranges': return j >= m![b]! || j < m![h.batch + b]!;
      case 'keys': return !(m![b * h.keys + j]! > 0);
      case 'queries': return !(m![(b * h.queries + i) * h.keys + j]! > 0);
      case 'square': return !(m![(b * side + past + i) * side + j]! > 0);
      case null: return false;
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
function checkBias(bias: Shaped, h: Heads): void {
  if (bias && (bias.shape.length !== 4 || ![1, h.batch].includes(bias.shape[0]!) || ![1, h.heads].includes(bias.shape[1]!) || bias.shape[2] !== h.queries || bias.shape[3] !== h.keys)) {
    fail('shape_mismatch', `attention_bias has shape [${bias.shape}], not [${[h.batch, h.heads, h.queries, h.keys]}]`);
  }
}

// ── Attention and QAttention: the projection is part of them ────────────────────────────────────────────────────────
interface ProjectedAttrs { readonly num_heads: number; readonly do_rotary: number; readonly past_present_share_buffer: number; readonly unidirectional: number; readonly mask_filter_value: number; readonly scale: number; readonly qkv_hidden_sizes?: Shape | undefined }
interface ProjectedShape extends Heads { readonly past: number; readonly hidden: number; readonly width: number; readonly input: number; readonly output: Shape; readonly present: Shape }

function projectedShape(x: Shape, w: Shape, bias: Shaped, mask: Shaped, past: Shaped, a: ProjectedAttrs): ProjectedShape {
  if (a.do_rotary || a.past_present_share_buffer) fail('attribute_invalid', 'do_rotary and past_present_share_buffer are not supported');
  if (a.num_heads < 1) fail('attribute_invalid', `num_heads ${a.num_heads} must be positive`);
  if (x.length !== 3 || w.length !== 2 || w[0] !== x[2]) fail('shape_mismatch', `input [${x}] and weights [${w}] do not fit; they must be [batch, steps, n] and [n, sizes of Q, K and V]`);
  const sizes = a.qkv_hidden_sizes?.length ? a.qkv_hidden_sizes : [w[1]! / 3, w[1]! / 3, w[1]! / 3];
  if (sizes.length !== 3 || sizes[0] !== sizes[1] || sizes[0]! + sizes[1]! + sizes[2]! !== w[1]) fail('attribute_invalid', `qkv_hidden_sizes [${sizes}] do not fit weights [${w}]`);
  const size = sizes[0]! / a.num_heads, valueSize = sizes[2]! / a.num_heads, [batch, queries] = [x[0]!, x[1]!];
  if (!Number.isInteger(size) || !Number.isInteger(valueSize)) fail('shape_mismatch', `hidden sizes [${sizes}] do not divide into ${a.num_heads} heads`);
  if (bias && String(bias.shape) !== String([w[1]])) fail('shape_mismatch', `the bias has shape [${bias.shape}], not [${w[1]}]`);
  const length = past ? past.shape[3] ?? 0 : 0, keys = length + queries;
  if (past && (size !== valueSize || String(past.shape) !== String([2, batch, a.num_heads, length, size]))) fail('shape_mismatch', `past has shape [${past.shape}], not [${[2, batch, a.num_heads, length, size]}]`);
  const s = { batch, heads: a.num_heads, kvHeads: a.num_heads, queries, keys, size, valueSize, past: length, hidden: sizes[0]!, width: w[1]!, input: x[2]!, output: [batch, queries, sizes[2]!], present: [2, batch, a.num_heads, keys, size] };
  if (mask) maskForm(mask.shape, s);
  return s;
}
const projectedFacts = (s: ProjectedShape, dtype: DType): OutFact[] => [{ dtype, shape: s.output }, { dtype, shape: s.present }];

/** `qkv` is the projected input [batch, steps, Q | K | V]. */
function projected(call: RefCall, s: ProjectedShape, qkv: Float64Array, dtype: DType, mask: Tensor | null, past: Tensor | null, bias: Tensor | null, a: ProjectedAttrs): readonly (Tensor | null)[] {
  const { batch, heads, queries, keys, size, valueSize } = s;
  const take = (at: number, width: number): Float64Array => takeHeads(qkv, packedRows(queries, s.width, width, at), batch, queries, heads, width);
  const q = take(0, size), old = past === null ? null : new Float64Array(numbers(past)), half = batch * heads * s.past * size;
  const extend = (now: Float64Array, which: 0 | 1, width: number): Float64Array => (old === null ? now : appendKeys(old.subarray(which * half, (which + 1) * half), s.past, now, queries, batch * heads, width));
  const k = extend(take(s.hidden, size), 0, size), v = extend(take(2 * s.hidden, valueSize), 1, valueSize);
  const y = attend(s, q, k, v, { scale: a.scale || 1 / Math.sqrt(size), adjust: adjuster(mask, bias, s, s.past, a) });
  const out = moveHeads(y, headsFirst(heads, queries, valueSize), new Float64Array(y.length), packedRows(queries, heads * valueSize, valueSize), batch, queries, heads, valueSize);
  let present: Tensor | null = null;
  if (call.outputs > 1) {
    if (size !== valueSize) fail('shape_mismatch', `present cannot hold keys of ${size} and values of ${valueSize} elements`);
    const both = new Float64Array(2 * batch * heads * keys * size);
    both.set(k);
    both.set(v, k.length);
    present = fromNumbers(dtype, s.present, both);
  }
  return [fromNumbers(dtype, s.output, out), present];
}

const projectedAttrs = { do_rotary: int(0), mask_filter_value: float(-10000), num_heads: required(int()), past_present_share_buffer: int(0), scale: float(0), unidirectional: int(0) };

const attention = defineOp({
  op: 'com.microsoft.Attention', since: [1], inputs: ['input: T', 'weights: T', 'bias: T?', 'mask_index: int32?', 'past: T?', 'attention_bias: T?', 'past_sequence_length: int32?'], outputs: ['output: T', 'present: T?'],
  types: { T: REAL }, attrs: { ...projectedAttrs, qkv_hidden_sizes: ints(), rotary_embedding_dim: int(0) },
  infer: (call) => {
    const s = projectedShape(call.fact(0).shape, call.fact(1).shape, call.inputs[2], call.inputs[3], call.inputs[4], call.attrs);
    checkBias(call.inputs[5], s);
    return projectedFacts(s, call.fact(0).dtype);
  },
  reference: (call) => {
    const x = call.tensor(0), w = call.tensor(1), bias = call.optional(2), mask = call.optional(3), past = call.optional(4);
    const s = projectedShape(x.shape, w.shape, bias, mask, past, call.attrs), rows = s.batch * s.queries;
    const qkv = new Float64Array(rows * s.width);
    product({ data: qkv, at: 0, row: s.width, col: 1 }, { data: reals(x), at: 0, row: s.input, col: 1 }, { data: reals(w), at: 0, row: s.width, col: 1 }, rows, s.width, s.input);
    if (bias !== null) for (let i = 0, v = numbers(bias); i < qkv.length; i++) qkv[i]! += v[i % s.width]!;
    return projected(call, s, qkv, x.dtype, mask, past, call.optional(5), call.attrs);
  },
});

const qattention = defineOp({
  op: 'com.microsoft.QAttention', since: [1], inputs: ['input: T1', 'weight: T2', 'bias: T3', 'input_scale: T3', 'weight_scale: T3', 'mask_index: int32?', 'input_zero_point: T1?', 'weight_zero_point: T2?', 'past: T3?'], outputs: ['output: T3', 'present: T3?'],
  types: { T1: ['int8', 'uint8'], T2: ['int8', 'uint8'], T3: ['float32', 'float16'] }, attrs: projectedAttrs,
  infer: (call) => {
    const w = call.fact(1).shape, s = projectedShape(call.fact(0).shape, w, call.fact(2), call.inputs[5], call.inputs[8], call.attrs);
    single(call.fact(3).shape, 'input_scale');
    singleOrPer(call.fact(4).shape, w[1]!, 'weight_scale');
    if (call.inputs[6]) single(call.inputs[6].shape, 'input_zero_point');
    if (call.inputs[7]) singleOrPer(call.inputs[7].shape, w[1]!, 'weight_zero_point');
    return projectedFacts(s, call.fact(2).dtype);
  },
  reference: (call) => {
    const x = call.tensor(0), w = call.tensor(1), bias = call.tensor(2), mask = call.optional(5), past = call.optional(8);
    const s = projectedShape(x.shape, w.shape, bias, mask, past, call.attrs), rows = s.batch * s.queries;
    const xz = call.optional(6) === null ? 0 : numbers(call.tensor(6))[0]!, wz = call.optional(7) === null ? null : numbers(call.tensor(7));
    const a = new Float64Array(numbers(x)).map((v) => v - xz), b = new Float64Array(numbers(w)).map((v, i) => v - (wz === null ? 0 : wz[wz.length === 1 ? 0 : i % s.width]!));
    const qkv = new Float64Array(rows * s.width), xs = numbers(call.tensor(3))[0]!, ws = numbers(call.tensor(4)), add = numbers(bias);
    product({ data: qkv, at: 0, row: s.width, col: 1 }, { data: a, at: 0, row: s.input, col: 1 }, { data: b, at: 0, row: s.width, col: 1 }, rows, s.width, s.input);
    for (let i = 0; i < qkv.length; i++) qkv[i] = qkv[i]! * xs * ws[ws.length === 1 ? 0 : i % s.width]! + add[i % s.width]!;
    return projected(call, s, qkv, bias.dtype, mask, past, null, call.attrs);
  },
});

// ── MultiHeadAttention ──────────────────────────────────────────────────────────────────────────────────────────────
interface MultiShape extends Heads {
  /** How Q, K and V come: three tensors, K and V in one, all in one, or keys and values with heads first (a finished cache). */
  readonly form: 'separate' | 'packedKv' | 'packed' | 'cached';
  readonly past: number;
  readonly incoming: number;
}

/** Inputs in order: query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value. @throws attribute_invalid, shape_mismatch, input_missing */
function multiShape(inputs: readonly Shaped[], a: { readonly num_heads: number }): MultiShape {
  const q = inputs[0]!.shape, k = inputs[1]?.shape, v = inputs[2]?.shape, heads = a.num_heads;
  if (heads < 1) fail('attribute_invalid', `num_heads ${heads} must be positive`);
  const form = !k && !v && q.length === 5 ? 'packed' : k && !v && k.length === 5 ? 'packedKv' : k && v && k.length === 4 && v.length === 4 ? 'cached' : k && v && k.length === 3 && v.length === 3 ? 'separate'
    : fail('shape_mismatch', `query [${q}], key ${k ? `[${k}]` : 'absent'} and value ${v ? `[${v}]` : 'absent'} are in no known form`);
  if (form !== 'packed' && q.length !== 3) fail('shape_mismatch', `the query has shape [${q}]; it must be of rank 3`);
  const batch = q[0]!, queries = q[1]!, size = form === 'packed' ? q[4]! : q[2]! / heads;
  const incoming = form === 'packed' ? queries : form === 'cached' ? k![2]! : k![1]!;
  const valueSize = form === 'packed' ? size : form === 'packedKv' ? k![4]! : form === 'cached' ? v![3]! : v![2]! / heads;
  if (!Number.isInteger(size) || !Number.isInteger(valueSize)) fail('shape_mismatch', `query [${q}] and value [${v ?? k}] do not divide into ${heads} heads`);
  const expect = (what: string, got: Shaped, need: Shape): void => {
    if (got && String(got.shape) !== String(need)) fail('shape_mismatch', `${what} has shape [${got.shape}], not [${need}]`);
  };
  if (form === 'packed') expect('query', inputs[0], [batch, queries, heads, 3, size]);
  else if (form === 'packedKv') expect('key', inputs[1], [batch, incoming, heads, 2, size]);
  else {
    expect('key', inputs[1], form === 'cached' ? [batch, heads, incoming, size] : [batch, incoming, heads * size]);
    expect('value', inputs[2], form === 'cached' ? [batch, heads, incoming, valueSize] : [batch, incoming, heads * valueSize]);
  }
  expect('the bias', inputs[3], [heads * (2 * size + valueSize)]);
  if (!inputs[6] !== !inputs[7]) fail('input_missing', 'past_key and past_value must be given together');
  const past = inputs[6]?.shape[2] ?? 0;
  if (past > 0 && form === 'cached') fail('shape_mismatch', 'a key with heads first is a finished cache and takes no past_key');
  expect('past_key', inputs[6], [batch, heads, past, size]);
  expect('past_value', inputs[7], [batch, heads, past, valueSize]);
  const s = { batch, heads, kvHeads: heads, queries, keys: past + incoming, size, valueSize, form, past, incoming } as const;
  if (inputs[4]) maskForm(inputs[4].shape, s);
  checkBias(inputs[5], s);
  return s;
}

const multiHeadAttention = defineOp({
  op: 'com.microsoft.MultiHeadAttention', since: [1],
  inputs: ['query: T', 'key: T?', 'value: T?', 'bias: T?', 'key_padding_mask: int32?', 'attention_bias: T?', 'past_key: T?', 'past_value: T?', 'past_sequence_length: int32?', 'cache_indirection: int32?'],
  outputs: ['output: T', 'present_key: T?', 'present_value: T?', 'qk: T?'], types: { T: REAL }, attrs: { mask_filter_value: float(-10000), num_heads: required(int()), scale: float(0), unidirectional: int(0) },
  wasm: multiHeadWasm,
  infer: (call) => {
    if (call.inputs[8] || call.inputs[9]) fail('attribute_invalid', 'past_sequence_length and cache_indirection (shared buffers) are not supported');
    const s = multiShape(call.inputs, call.attrs), { dtype } = call.fact(0);
    return [
      { dtype, shape: [s.batch, s.queries, s.heads * s.valueSize] }, { dtype, shape: [s.batch, s.heads, s.keys, s.size] },
      { dtype, shape: [s.batch, s.heads, s.keys, s.valueSize] }, { dtype, shape: [s.batch, s.heads, s.queries, s.keys] },
    ];
  },
  reference: (call) => {
    const { attrs } = call, qt = call.tensor(0), kt = call.optional(1), biasT = call.optional(3);
    const s = multiShape([0, 1, 2, 3, 4, 5, 6, 7].map((i) => call.optional(i)), attrs);
    const { batch, heads, queries, incoming, keys, size, valueSize, form } = s, bias = biasT === null ? null : numbers(biasT);
    // Parts of a packed tensor [batch, steps, heads, parts, size] lie side by side within a head.
    const within = (steps: number, parts: number, part: number): HeadLayout => ({ at: part * size, batch: steps * heads * parts * size, step: heads * parts * size, head: parts * size });
    const [source, layout] = {
      separate: [[qt, kt, call.optional(2)], [packedRows(queries, heads * size, size), packedRows(incoming, heads * size, size), packedRows(incoming, heads * valueSize, valueSize)]],
      packedKv: [[qt, kt, kt], [packedRows(queries, heads * size, size), within(incoming, 2, 0), within(incoming, 2, 1)]],
      packed: [[qt, qt, qt], [within(queries, 3, 0), within(queries, 3, 1), within(queries, 3, 2)]],
      cached: [[qt, kt, call.optional(2)], [packedRows(queries, heads * size, size), headsFirst(heads, incoming, size), headsFirst(heads, incoming, valueSize)]],
    }[form] as [Tensor[], HeadLayout[]];
    const part = (i: 0 | 1 | 2): Float64Array => {
      const steps = i === 0 ? queries : incoming, width = i === 2 ? valueSize : size, x = takeHeads(numbers(source[i]!), layout[i]!, batch, steps, heads, width);
      if (bias !== null && (i === 0 || form !== 'cached')) for (let at = 0; at < x.length; at++) x[at]! += bias[i * heads * size + (Math.floor(at / (steps * width)) % heads) * width + (at % width)]!;
      return x;
    };
    const extend = (i: 1 | 2, width: number): Float64Array => (call.optional(i + 5) === null ? part(i) : appendKeys(numbers(call.tensor(i + 5)), s.past, part(i), incoming, batch * heads, width));
    const k = extend(1, size), v = extend(2, valueSize), seen = call.outputs > 3 ? new Float64Array(batch * heads * queries * keys) : null;
    const y = attend(s, part(0), k, v, {
      scale: attrs.scale || 1 / Math.sqrt(size), adjust: adjuster(call.optional(4), call.optional(5), s, s.past, attrs),
      observe: seen === null ? undefined : (stage, row, at) => { if (stage === 3) seen.set(row, at); },
    });
    const out = moveHeads(y, headsFirst(heads, queries, valueSize), new Float64Array(y.length), packedRows(queries, heads * valueSize, valueSize), batch, queries, heads, valueSize);
    return [
      fromNumbers(qt.dtype, [batch, queries, heads * valueSize], out),
      call.outputs > 1 ? fromNumbers(qt.dtype, [batch, heads, keys, size], k) : null, call.outputs > 2 ? fromNumbers(qt.dtype, [batch, heads, keys, valueSize], v) : null,
      seen === null ? null : fromNumbers(qt.dtype, [batch, heads, queries, keys], seen),
    ];
  },
});

/** ContribOperators.md of onnxruntime. */
export const microsoftAttention: readonly Op[] = [attention, qattention, multiHeadAttention];
