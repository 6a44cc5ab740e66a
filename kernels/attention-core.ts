/** Scaled dot-product attention on plain arrays: the arithmetic that every reference of the family shares. */
import type { Reals } from './matmul-product.ts';
import { product } from './matmul-product.ts';

export interface Heads {
  readonly batch: number;
  readonly heads: number;
  /** Heads of keys and values; a divisor of `heads`. */
  readonly kvHeads: number;
  readonly queries: number;
  readonly keys: number;
  /** Elements of a query or key, and of a value. */
  readonly size: number;
  readonly valueSize: number;
}

/** What happens between the two products. Rows are the scores of one query over all keys. */
export interface Scoring {
  readonly scale: number;
  /** Scores s become softcap * tanh(s / softcap); 0 means not. */
  readonly softcap?: number;
  /** Adds biases to, and masks with -Infinity in, the row of query i. */
  readonly adjust?: ((row: Float64Array, batch: number, head: number, i: number) => void) | undefined;
  /** A logit per head that takes part in the softmax's sum only. */
  readonly sink?: ((head: number) => number) | undefined;
  /** Sees rows at stage 0: scaled products, 1: after softcap, 2: after `adjust`, 3: probabilities. */
  readonly observe?: ((stage: 0 | 1 | 2 | 3, row: Float64Array, at: number) => void) | undefined;
}

/**
 * q [batch, heads, queries, size], k [batch, kvHeads, keys, size], v [batch, kvHeads, keys, valueSize] to [batch,
 * heads, queries, valueSize]. A query with every key masked gets zeros; masked keys and values are never touched,
 * whatever they hold.
 */
export function attend(h: Heads, q: Reals, k: Reals, v: Reals, scoring: Scoring): Float64Array {
  const { queries, keys, size, valueSize } = h;
  const per = h.heads / h.kvHeads;
  const y = new Float64Array(h.batch * h.heads * queries * valueSize);
  const scores = new Float64Array(queries * keys);
  for (let b = 0; b < h.batch; b++)
    for (let head = 0; head < h.heads; head++) {
      const kv = b * h.kvHeads + Math.floor(head / per);
      const first = (b * h.heads + head) * queries;
      scores.fill(0);
      product(
        { data: scores, at: 0, row: keys, col: 1 },
        { data: q, at: first * size, row: size, col: 1 },
        { data: k, at: kv * keys * size, row: 1, col: size },
        queries,
        keys,
        size,
      );
      for (let i = 0; i < queries; i++) {
        const row = scores.subarray(i * keys, (i + 1) * keys);
        const at = (first + i) * keys;
        scoreRow(row, scoring, b, head, i, at);
        for (let j = 0, to = (first + i) * valueSize; j < keys; j++) {
          const p = row[j]!;
          if (p === 0) continue;
          for (let d = 0, from = (kv * keys + j) * valueSize; d < valueSize; d++) y[to + d]! += p * v[from + d]!;
        }
      }
    }
  return y;
}

function scoreRow(
  row: Float64Array,
  { scale, softcap = 0, adjust, sink, observe }: Scoring,
  b: number,
  head: number,
  i: number,
  at: number,
): void {
  for (let j = 0; j < row.length; j++) row[j]! *= scale;
  observe?.(0, row, at);
  if (softcap !== 0) for (let j = 0; j < row.length; j++) row[j] = softcap * Math.tanh(row[j]! / softcap);
  observe?.(1, row, at);
  adjust?.(row, b, head, i);
  observe?.(2, row, at);
  softmaxRow(row, sink?.(head));
  observe?.(3, row, at);
}

/** In place; `sink` is a further logit of the sum. All masked gives zeros. */
export function softmaxRow(row: Float64Array, sink?: number): void {
  let top = sink ?? -Infinity;
  for (let j = 0; j < row.length; j++) top = Math.max(top, row[j]!);
  if (top === -Infinity) {
    row.fill(0);
    return;
  }
  let sum = sink === undefined ? 0 : Math.exp(sink - top);
  for (let j = 0; j < row.length; j++) sum += row[j] = Math.exp(row[j]! - top);
  for (let j = 0; j < row.length; j++) row[j]! /= sum;
}

/** Where element (batch, i, head, d) of a tensor lies: `at + batch * b + step * i + head * h + d`. */
export interface HeadLayout {
  readonly at: number;
  readonly batch: number;
  readonly step: number;
  readonly head: number;
}
/** Of a tensor [batch, steps, heads * size] whose rows are `width` elements and hold the heads from `at` on. */
export const packedRows = (steps: number, width: number, size: number, at = 0): HeadLayout => ({
  at,
  batch: steps * width,
  step: width,
  head: size,
});
/** Of a tensor [batch, heads, steps, size]. */
export const headsFirst = (heads: number, steps: number, size: number): HeadLayout => ({
  at: 0,
  batch: heads * steps * size,
  step: size,
  head: steps * size,
});

/** Copies heads from `from`, laid out by `a`, to `to`, laid out by `b`. */
export function moveHeads(
  from: ArrayLike<number>,
  a: HeadLayout,
  to: Float64Array,
  b: HeadLayout,
  batch: number,
  steps: number,
  heads: number,
  size: number,
): Float64Array {
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < steps; i++) {
        const source = a.at + n * a.batch + i * a.step + h * a.head;
        const target = b.at + n * b.batch + i * b.step + h * b.head;
        for (let d = 0; d < size; d++) to[target + d] = from[source + d]!;
      }
  return to;
}
/** The heads as a new array [batch, heads, steps, size]. */
export const takeHeads = (
  from: ArrayLike<number>,
  a: HeadLayout,
  batch: number,
  steps: number,
  heads: number,
  size: number,
): Float64Array =>
  moveHeads(
    from,
    a,
    new Float64Array(batch * heads * steps * size),
    headsFirst(heads, steps, size),
    batch,
    steps,
    heads,
    size,
  );

/** [batch, heads, past, size] followed by [batch, heads, more, size]. */
export function appendKeys(
  past: ArrayLike<number>,
  pastSteps: number,
  more: ArrayLike<number>,
  steps: number,
  rows: number,
  size: number,
): Float64Array {
  const out = new Float64Array(rows * (pastSteps + steps) * size);
  const a = pastSteps * size;
  const b = steps * size;
  for (let r = 0, o = 0; r < rows; r++) {
    for (let i = 0; i < a; i++) out[o++] = past[r * a + i]!;
    for (let i = 0; i < b; i++) out[o++] = more[r * b + i]!;
  }
  return out;
}
