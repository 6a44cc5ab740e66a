/**
 * Attention whose heads lie side by side in rows, perhaps queries, keys and values in one, normalised and rotated
 * before: what the optimizer makes of it.
 */
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import type { Heads } from './attention-core.ts';
import { defineOp, FLOAT, float, int, ints, NUMERIC, type Op, required } from './define.ts';
import { rotate } from './rotary-shape.ts';

export interface HeadAttrs {
  readonly heads: number;
  readonly kv_heads: number;
  readonly size: number;
  readonly value_size: number;
  /** Where in a row the first head of queries, keys and values lies. */
  readonly at: readonly number[];
  /** From one head to the next; by default they lie side by side. */
  readonly apart: readonly number[] | undefined;
  readonly scale: number;
  readonly softcap: number;
  /** Queries and keys are rotated, half by half, by the angles of inputs 6 and 7: neighbours instead if 1. */
  readonly interleaved: number;
  readonly epsilon: number;
  /** Query i sees `past` keys, and those that come in up to its own. */
  readonly is_causal: number;
}
export interface HeadShape extends Heads {
  readonly past: number;
  readonly incoming: number;
}
type Shaped = Pick<Fact, 'shape'> | null | undefined;

/** Elements from one head of queries (0), keys (1) or values (2) to the next. */
export const apart = (a: HeadAttrs, i: number): number => a.apart?.[i] ?? (i === 2 ? a.value_size : a.size);

/** @throws shape_mismatch */
export function headShape(inputs: readonly Shaped[], a: HeadAttrs): HeadShape {
  const rows = [0, 1, 2].map((i) => (inputs[i] ?? inputs[0])!.shape);
  const needs = (
    [
      [a.heads, a.size],
      [a.kv_heads, a.size],
      [a.kv_heads, a.value_size],
    ] as const
  ).map(([n, size], i) => (n - 1) * apart(a, i) + size);
  rows.forEach((r, i) => {
    if (r.length !== 3 || r[0] !== rows[0]![0] || (i > 0 && r[1] !== rows[1]![1]) || a.at[i]! + needs[i]! > r[2]!)
      fail('shape_mismatch', `rows of shape [${r}] do not hold ${needs[i]} elements from ${a.at[i]} on`);
  });
  const past = inputs[4]?.shape[2] ?? 0;
  const incoming = rows[1]![1]!;
  const [tall, wide] = [inputs[10]?.shape, inputs[11]?.shape];
  const queries = rows[0]![1]!;
  if (
    tall &&
    wide &&
    (tall[0]! * wide[0]! !== queries ||
      tall[1]! * wide[1]! !== past + incoming ||
      tall[2] !== a.size ||
      wide[2] !== a.size)
  )
    fail(
      'shape_mismatch',
      `positions [${tall}] and [${wide}] are not those of ${queries} queries and ${past + incoming} keys`,
    );
  return {
    batch: rows[0]![0]!,
    heads: a.heads,
    kvHeads: a.kv_heads,
    queries,
    past,
    incoming,
    keys: past + incoming,
    size: a.size,
    valueSize: a.value_size,
  };
}

/** Heads `count` of `size` elements, `step` apart from `at` on of each row, normalised and rotated, side by side. */
function prepared(
  t: Tensor,
  at: number,
  step: number,
  count: number,
  size: number,
  weights: Tensor | null,
  cos: Tensor | null,
  sin: Tensor | null,
  a: HeadAttrs,
): Tensor {
  const [batch, steps, width] = t.shape as [number, number, number];
  const from = numbers(t);
  const out = new Float64Array(batch * steps * count * size);
  for (let r = 0; r < batch * steps; r++)
    for (let h = 0; h < count; h++) {
      const to = (r * count + h) * size;
      for (let d = 0; d < size; d++) out[to + d] = from[r * width + at + h * step + d]!;
      if (weights !== null) {
        const w = numbers(weights);
        let sum = 0;
        for (let d = 0; d < size; d++) sum += out[to + d]! ** 2;
        const by = 1 / Math.sqrt(sum / size + a.epsilon);
        for (let d = 0; d < size; d++) out[to + d]! *= by * w[d]!;
      }
      if (cos !== null)
        rotate(out, to, 2 * cos.shape[2]!, numbers(cos), numbers(sin!), r * cos.shape[2]!, a.interleaved !== 0);
    }
  return fromNumbers(t.dtype, [batch, steps, count * size], out);
}

/**
 * What the positions of keys add to scores: queries times a vector for each of a key's and a query's rows, and one for
 * their columns. [batch, heads, queries, keys].
 */
function positions(rows: Tensor, tall: Tensor, wide: Tensor, a: HeadAttrs): Tensor {
  const [batch, queries] = rows.shape as [number, number];
  const [q, r, c] = [rows, tall, wide].map(numbers) as [ArrayLike<number>, ArrayLike<number>, ArrayLike<number>];
  const [high, across] = [tall.shape[1]!, wide.shape[1]!];
  const out = new Float64Array(batch * a.heads * queries * high * across);
  const dot = (at: number, t: ArrayLike<number>, from: number): number => {
    let sum = 0;
    for (let d = 0; d < a.size; d++) sum += q[at + d]! * t[from + d]!;
    return sum;
  };
  for (let n = 0, o = 0; n < batch * a.heads * queries; n++) {
    const i = n % queries;
    const h = Math.floor(n / queries) % a.heads;
    const at = ((Math.floor(n / queries / a.heads) * queries + i) * a.heads + h) * a.size;
    const row = Math.floor(i / wide.shape[0]!);
    const column = i % wide.shape[0]!;
    const byColumn = Array.from({ length: across }, (_, k) => dot(at, c, (column * across + k) * a.size));
    for (let y = 0; y < high; y++) {
      const byRow = dot(at, r, (row * high + y) * a.size);
      for (const v of byColumn) out[o++] = byRow + v;
    }
  }
  return fromNumbers('float32', [batch, a.heads, queries, high * across], out);
}

/** `attention` computes what is behind the preparation. Not an operator of ONNX: a rewrite makes it. */
export const headAttention = (attention: Op): Op =>
  defineOp({
    op: 'sardonyx.HeadAttention',
    since: [1],
    /**
     * Keys or values that are left out lie in the rows of the queries. `rows` [query rows, key rows, size] and
     * `columns` [query columns, key columns, size] are vectors of relative positions in a plane, instead of a mask.
     */
    inputs: [
      'queries: T',
      'keys: T?',
      'values: T?',
      'mask: U?',
      'past_key: T?',
      'past_value: T?',
      'cos: T?',
      'sin: T?',
      'query_weights: T?',
      'key_weights: T?',
      'rows: T?',
      'columns: T?',
    ],
    outputs: ['Y: T', 'present_key: T?', 'present_value: T?'],
    types: { T: FLOAT, U: [...NUMERIC, 'bool'] },
    attrs: {
      heads: required(int()),
      kv_heads: required(int()),
      size: required(int()),
      value_size: required(int()),
      at: required(ints()),
      apart: ints(),
      scale: required(float()),
      softcap: float(0),
      interleaved: int(0),
      epsilon: float(0),
      is_causal: int(0),
    },
    infer: (call) => {
      const s = headShape(call.inputs, call.attrs as HeadAttrs);
      const { dtype } = call.fact(0);
      return [
        { dtype, shape: [s.batch, s.queries, s.heads * s.valueSize] },
        { dtype, shape: [s.batch, s.kvHeads, s.keys, s.size] },
        { dtype, shape: [s.batch, s.kvHeads, s.keys, s.valueSize] },
      ];
    },
    reference: (call) => {
      const a = call.attrs as HeadAttrs;
      const [cos, sin] = [call.optional(6), call.optional(7)];
      const parts = [
        prepared(call.tensor(0), a.at[0]!, apart(a, 0), a.heads, a.size, call.optional(8), cos, sin, a),
        prepared(
          call.optional(1) ?? call.tensor(0),
          a.at[1]!,
          apart(a, 1),
          a.kv_heads,
          a.size,
          call.optional(9),
          cos,
          sin,
          a,
        ),
        prepared(
          call.optional(2) ?? call.tensor(0),
          a.at[2]!,
          apart(a, 2),
          a.kv_heads,
          a.value_size,
          null,
          null,
          null,
          a,
        ),
      ];
      const [tall, wide] = [call.optional(10), call.optional(11)];
      const inputs = [
        ...parts,
        tall && wide ? positions(parts[0]!, tall, wide, a) : call.optional(3),
        call.optional(4),
        call.optional(5),
        null,
      ];
      return attention.reference({
        ...call,
        inputs,
        attrs: {
          is_causal: a.is_causal,
          q_num_heads: a.heads,
          kv_num_heads: a.kv_heads,
          left_window_size: -1,
          right_window_size: -1,
          qk_matmul_output_mode: 0,
          scale: a.scale,
          softcap: a.softcap,
        },
        tensor: (i) => inputs[i]!,
        optional: (i) => inputs[i] ?? null,
      });
    },
  });
