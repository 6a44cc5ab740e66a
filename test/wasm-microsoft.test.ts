import { describe, test } from 'vitest';
import { ops } from '../kernels/index.ts';
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { agree, CAPS, SHARED, source } from './wasm-device.ts';

const op = (name: string) => ops.get(`com.microsoft.${name}`)!;
const caps = (n: number) => (n % 5 === 0 ? SHARED : CAPS[n % CAPS.length]!);
const tolerance = (d: DType) =>
  d === 'float32'
    ? { atol: 2e-4, rtol: 1e-4 }
    : d === 'float16'
      ? { atol: 4e-3, rtol: 4e-3 }
      : { atol: 3e-2, rtol: 2e-2 };
const s = source();
const bits = (...shape: number[]): Tensor =>
  fromNumbers(
    'int32',
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => s.int(0, 1)),
  );
/**
 * Rows in which the first key is seen: scores of rows that are masked whole are as large as the mask, and mean nothing.
 */
const seen = (...shape: number[]): Tensor => {
  const t = bits(...shape);
  const keys = shape.at(-1)!;
  return fromNumbers(
    'int32',
    shape,
    Array.from(t.data as Int32Array, (v, i) => (i % keys ? v : 1)),
  );
};
/** A mask in each form that the operators take. */
function mask(form: number, batch: number, queries: number, keys: number): Tensor | null {
  switch (form) {
    case 0:
      return fromNumbers(
        'int32',
        [batch],
        Array.from({ length: batch }, () => s.int(1, keys)),
      );
    case 1:
      return fromNumbers(
        'int32',
        [2 * batch],
        [...Array.from({ length: batch }, () => s.int(1, keys)), ...new Array<number>(batch).fill(0)],
      );
    case 2:
      return seen(batch, keys);
    case 3:
      return seen(batch, queries, keys);
    case 4:
      return seen(batch, 1, keys + 2, keys + 2);
    default:
      return null;
  }
}

describe('attention', () => {
  test('Attention projects, and takes every mask and a cache', async () => {
    for (let n = 0; n < 120; n++) {
      const [batch, heads, queries, size, width, past] = [
        s.int(1, 3),
        s.int(1, 3),
        s.pick([1, 3, 4, 5, 13]),
        s.pick([1, 4, 5, 8]),
        s.pick([1, 3, 8, 17]),
        n % 3 ? 0 : s.int(1, 6),
      ];
      const valueSize = past || n % 4 ? size : s.int(1, 7);
      const columns = heads * (2 * size + valueSize);
      const keys = past + queries;
      const d = n % 6 ? ('float32' as const) : s.pick(['float16', 'bfloat16'] as const);
      const bias = s.int(0, 2) ? null : s.tensor(d, [s.pick([1, batch]), s.pick([1, heads]), queries, keys]);
      const constants = s.int(0, 1) ? [1] : [];
      await agree(
        op('Attention'),
        {
          inputs: [
            s.tensor(d, [batch, queries, width], 1),
            s.tensor(d, [width, columns], 1),
            n % 5 ? s.tensor(d, [columns]) : null,
            mask(s.int(0, 7), batch, queries, keys),
            past ? s.tensor(d, [2, batch, heads, past, size]) : null,
            bias,
          ],
          attrs: {
            num_heads: heads,
            unidirectional: s.int(0, 1),
            ...(valueSize === size ? {} : { qkv_hidden_sizes: [heads * size, heads * size, heads * valueSize] }),
            ...(n % 7 ? {} : { scale: 0.4 }),
          },
          outputs: past || (valueSize === size && s.int(0, 1)) ? 2 : 1,
          constants,
          caps: caps(n),
          ...tolerance(d),
        },
        `trial ${n}`,
      );
    }
  });
  test('MultiHeadAttention takes packed heads, biases and every mask', async () => {
    for (let n = 0; n < 120; n++) {
      const form = s.pick(['separate', 'packedKv', 'packed', 'cached']);
      const [batch, heads, queries, size] = [s.int(1, 2), s.int(1, 3), s.pick([1, 3, 5, 9]), s.pick([1, 4, 5, 8])];
      const incoming = form === 'packed' ? queries : s.int(1, 9);
      const valueSize = form === 'packed' || form === 'packedKv' ? size : s.int(1, 9);
      const past = form === 'cached' || n % 3 ? 0 : s.int(1, 5);
      const keys = past + incoming;
      const d = n % 6 ? ('float32' as const) : s.pick(['float16', 'bfloat16'] as const);
      const t = (...shape: number[]): Tensor => s.tensor(d, shape, 1);
      const [q, k, v] =
        form === 'packed'
          ? [t(batch, queries, heads, 3, size), null, null]
          : form === 'packedKv'
            ? [t(batch, queries, heads * size), t(batch, incoming, heads, 2, size), null]
            : form === 'cached'
              ? [t(batch, queries, heads * size), t(batch, heads, incoming, size), t(batch, heads, incoming, valueSize)]
              : [
                  t(batch, queries, heads * size),
                  t(batch, incoming, heads * size),
                  t(batch, incoming, heads * valueSize),
                ];
      await agree(
        op('MultiHeadAttention'),
        {
          inputs: [
            q,
            k,
            v,
            s.int(0, 1) ? t(heads * (2 * size + valueSize)) : null,
            mask(s.pick([0, 1, 2, 3, 9]), batch, queries, keys),
            s.int(0, 2) ? null : t(s.pick([1, batch]), s.pick([1, heads]), queries, keys),
            ...(past ? [t(batch, heads, past, size), t(batch, heads, past, valueSize)] : []),
          ],
          attrs: {
            num_heads: heads,
            unidirectional: s.int(0, 1),
            mask_filter_value: s.pick([-10000, -3.4028234663852886e38]),
          },
          outputs: s.pick([1, 3]),
          caps: caps(n),
          ...tolerance(d),
        },
        `trial ${n}, ${form}`,
      );
    }
  });
});

describe('EmbedLayerNormalization', () => {
  const ids = (count: number, ...shape: number[]): Tensor =>
    fromNumbers(
      'int32',
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => s.int(0, count - 1)),
    );
  test('with and without segments, positions, mask and the sum', async () => {
    for (let n = 0; n < 60; n++) {
      const [batch, steps, width, words, places] = [
        s.int(1, 3),
        s.int(1, 5),
        s.pick([2, 3, 4, 7, 9, 33]),
        s.int(1, 9),
        s.int(5, 8),
      ];
      const d = s.pick(['float32', 'float16', 'bfloat16'] as const);
      const segmented = s.int(0, 1) === 1;
      await agree(
        op('EmbedLayerNormalization'),
        {
          inputs: [
            ids(words, batch, steps),
            segmented ? ids(2, batch, steps) : null,
            s.tensor(d, [words, width]),
            s.tensor(d, [places, width]),
            segmented ? s.tensor(d, [2, width]) : null,
            s.tensor(d, [width]),
            s.tensor(d, [width]),
            s.int(0, 1) ? bits(batch, steps) : null,
            s.pick([null, ids(places, batch, steps), ids(places, 1, steps)]),
          ],
          outputs: s.int(1, 3),
          attrs: { epsilon: 0.01 },
          caps: caps(n),
          ...tolerance(d),
        },
        `trial ${n}`,
      );
    }
  });
});
