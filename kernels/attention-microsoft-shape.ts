/** Shapes of com.microsoft's Attention, QAttention and MultiHeadAttention. */
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';
import type { Heads } from './attention-core.ts';
import type { Call } from './define.ts';

type Shape = readonly number[];
type Shaped = Pick<Fact, 'shape'> | null | undefined;

/**
 * The forms of a mask: raw masks have 0 for masked; indices say where the keys of an entry begin and end. @throws
 * shape_mismatch
 */
export function maskForm(mask: Shape, h: Heads): 'ends' | 'ranges' | 'keys' | 'queries' | 'square' {
  const is = (...shape: number[]): boolean => String(mask) === String(shape);
  if (is(h.batch)) return 'ends';
  if (is(2 * h.batch)) return 'ranges';
  if (is(h.batch, h.keys)) return 'keys';
  if (is(h.batch, h.queries, h.keys)) return 'queries';
  if (mask.length === 4 && mask[0] === h.batch && mask[1] === 1 && mask[2] === mask[3] && mask[3]! >= h.keys)
    return 'square';
  return fail(
    'shape_mismatch',
    `a mask of shape [${mask}] does not fit ${h.batch} entries of ${h.queries} queries and ${h.keys} keys`,
  );
}

/** @throws shape_mismatch */
export function checkBias(bias: Shaped, h: Heads): void {
  if (
    bias &&
    (bias.shape.length !== 4 ||
      ![1, h.batch].includes(bias.shape[0]!) ||
      ![1, h.heads].includes(bias.shape[1]!) ||
      bias.shape[2] !== h.queries ||
      bias.shape[3] !== h.keys)
  ) {
    fail('shape_mismatch', `attention_bias has shape [${bias.shape}], not [${[h.batch, h.heads, h.queries, h.keys]}]`);
  }
}

export interface ProjectedAttrs {
  readonly num_heads: number;
  readonly do_rotary: number;
  readonly past_present_share_buffer: number;
  readonly unidirectional: number;
  readonly mask_filter_value: number;
  readonly scale: number;
  readonly qkv_hidden_sizes?: Shape | undefined;
}
/** A call at known shapes: Q, K and V of `hidden`, `hidden` and the rest of `width` columns, projected from `input`. */
export interface ProjectedShape extends Heads {
  readonly past: number;
  readonly hidden: number;
  readonly width: number;
  readonly input: number;
  readonly output: Shape;
  readonly present: Shape;
}

/** @throws attribute_invalid, shape_mismatch */
export function projectedShape(
  x: Shape,
  w: Shape,
  bias: Shaped,
  mask: Shaped,
  past: Shaped,
  a: ProjectedAttrs,
): ProjectedShape {
  if (a.do_rotary || a.past_present_share_buffer)
    fail('attribute_invalid', 'do_rotary and past_present_share_buffer are not supported');
  if (a.num_heads < 1) fail('attribute_invalid', `num_heads ${a.num_heads} must be positive`);
  if (x.length !== 3 || w.length !== 2 || w[0] !== x[2])
    fail(
      'shape_mismatch',
      `input [${x}] and weights [${w}] do not fit; they must be [batch, steps, n] and [n, sizes of Q, K and V]`,
    );
  const sizes = a.qkv_hidden_sizes?.length ? a.qkv_hidden_sizes : [w[1]! / 3, w[1]! / 3, w[1]! / 3];
  if (sizes.length !== 3 || sizes[0] !== sizes[1] || sizes[0]! + sizes[1]! + sizes[2]! !== w[1])
    fail('attribute_invalid', `qkv_hidden_sizes [${sizes}] do not fit weights [${w}]`);
  const size = sizes[0]! / a.num_heads;
  const valueSize = sizes[2]! / a.num_heads;
  const [batch, queries] = [x[0]!, x[1]!];
  if (!Number.isInteger(size) || !Number.isInteger(valueSize))
    fail('shape_mismatch', `hidden sizes [${sizes}] do not divide into ${a.num_heads} heads`);
  if (bias && String(bias.shape) !== String([w[1]]))
    fail('shape_mismatch', `the bias has shape [${bias.shape}], not [${w[1]}]`);
  const length = past ? (past.shape[3] ?? 0) : 0;
  const keys = length + queries;
  if (past && (size !== valueSize || String(past.shape) !== String([2, batch, a.num_heads, length, size])))
    fail('shape_mismatch', `past has shape [${past.shape}], not [${[2, batch, a.num_heads, length, size]}]`);
  const s = {
    batch,
    heads: a.num_heads,
    kvHeads: a.num_heads,
    queries,
    keys,
    size,
    valueSize,
    past: length,
    hidden: sizes[0]!,
    width: w[1]!,
    input: x[2]!,
    output: [batch, queries, sizes[2]!],
    present: [2, batch, a.num_heads, keys, size],
  };
  if (mask) maskForm(mask.shape, s);
  return s;
}
/** The same of a call of com.microsoft.Attention. */
export const projectedOf = (call: Call<ProjectedAttrs>): ProjectedShape =>
  projectedShape(
    call.inputs[0]!.shape,
    call.inputs[1]!.shape,
    call.inputs[2],
    call.inputs[3],
    call.inputs[4],
    call.attrs,
  );

/** A MultiHeadAttention call at known shapes. */
export interface MultiShape extends Heads {
  /**
   * How Q, K and V come: three tensors, K and V in one, all in one, or keys and values with heads first (a finished
   * cache).
   */
  readonly form: 'separate' | 'packedKv' | 'packed' | 'cached';
  readonly past: number;
  readonly incoming: number;
}

/**
 * Inputs in order: query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value. @throws
 * attribute_invalid, shape_mismatch, input_missing
 */
export function multiShape(inputs: readonly Shaped[], a: { readonly num_heads: number }): MultiShape {
  const q = inputs[0]!.shape;
  const k = inputs[1]?.shape;
  const v = inputs[2]?.shape;
  const heads = a.num_heads;
  if (heads < 1) fail('attribute_invalid', `num_heads ${heads} must be positive`);
  const form =
    !k && !v && q.length === 5
      ? 'packed'
      : k && !v && k.length === 5
        ? 'packedKv'
        : k && v && k.length === 4 && v.length === 4
          ? 'cached'
          : k && v && k.length === 3 && v.length === 3
            ? 'separate'
            : fail(
                'shape_mismatch',
                `query [${q}], key ${k ? `[${k}]` : 'absent'} and value ${v ? `[${v}]` : 'absent'} are in no known form`,
              );
  if (form !== 'packed' && q.length !== 3) fail('shape_mismatch', `the query has shape [${q}]; it must be of rank 3`);
  const batch = q[0]!;
  const queries = q[1]!;
  const size = form === 'packed' ? q[4]! : q[2]! / heads;
  const incoming = form === 'packed' ? queries : form === 'cached' ? k![2]! : k![1]!;
  const valueSize =
    form === 'packed' ? size : form === 'packedKv' ? k![4]! : form === 'cached' ? v![3]! : v![2]! / heads;
  if (!Number.isInteger(size) || !Number.isInteger(valueSize))
    fail('shape_mismatch', `query [${q}] and value [${v ?? k}] do not divide into ${heads} heads`);
  const expect = (what: string, got: Shaped, need: Shape): void => {
    if (got && String(got.shape) !== String(need))
      fail('shape_mismatch', `${what} has shape [${got.shape}], not [${need}]`);
  };
  if (form === 'packed') expect('query', inputs[0], [batch, queries, heads, 3, size]);
  else if (form === 'packedKv') expect('key', inputs[1], [batch, incoming, heads, 2, size]);
  else {
    expect('key', inputs[1], form === 'cached' ? [batch, heads, incoming, size] : [batch, incoming, heads * size]);
    expect(
      'value',
      inputs[2],
      form === 'cached' ? [batch, heads, incoming, valueSize] : [batch, incoming, heads * valueSize],
    );
  }
  expect('the bias', inputs[3], [heads * (2 * size + valueSize)]);
  if (!inputs[6] !== !inputs[7]) fail('input_missing', 'past_key and past_value must be given together');
  const past = inputs[6]?.shape[2] ?? 0;
  if (past > 0 && form === 'cached')
    fail('shape_mismatch', 'a key with heads first is a finished cache and takes no past_key');
  expect('past_key', inputs[6], [batch, heads, past, size]);
  expect('past_value', inputs[7], [batch, heads, past, valueSize]);
  const s = {
    batch,
    heads,
    kvHeads: heads,
    queries,
    keys: past + incoming,
    size,
    valueSize,
    form,
    past,
    incoming,
  } as const;
  if (inputs[4]) maskForm(inputs[4].shape, s);
  checkBias(inputs[5], s);
  return s;
}
