import { fail } from '../src/core/errors.ts';
import { fromNumbers, numbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { defineOp, FLOAT, float, int, type Op, type OutFact } from './define.ts';
import { spread } from './elementwise.ts';
import { fits, layer, vector } from './norm.ts';

/**
 * The embeddings of words, positions and segments, summed and normalised; and how many words of each row the mask
 * keeps.
 */
export const embedNorms: readonly Op[] = [
  defineOp({
    op: 'com.microsoft.EmbedLayerNormalization',
    since: [1],
    inputs: [
      'input_ids: int32',
      'segment_ids: int32?',
      'word_embedding: T',
      'position_embedding: T',
      'segment_embedding: T?',
      'gamma: T',
      'beta: T',
      'mask: int32?',
      'position_ids: int32?',
    ],
    outputs: ['output: T', 'mask_index: int32?', 'embedding_sum: T?'],
    types: { T: FLOAT },
    attrs: { epsilon: float(1e-12), mask_index_type: int(0) },
    infer: (call) => {
      const ids = call.fact(0).shape;
      if (ids.length !== 2) fail('shape_mismatch', `input_ids has shape [${ids}]; its rank must be 2`);
      const n = call.fact(2).shape[1]!;
      for (const [i, what] of [
        [2, 'word_embedding'],
        [3, 'position_embedding'],
        [4, 'segment_embedding'],
      ] as const) {
        const f = call.inputs[i];
        if (f && (f.shape.length !== 2 || f.shape[1] !== n || n === 0))
          fail('shape_mismatch', `${what} has shape [${f.shape}]; it must be [count, ${n}]`);
      }
      if (call.inputs[1] && !call.inputs[4]) fail('input_missing', 'segment_ids need segment_embedding');
      for (const [i, what] of [
        [1, 'segment_ids'],
        [7, 'mask'],
      ] as const)
        if (call.inputs[i] && String(call.inputs[i].shape) !== String(ids))
          fail('shape_mismatch', `${what} has shape [${call.inputs[i].shape}]; it must be [${ids}]`);
      fits(call.inputs[8], ids, 'position_ids');
      if (!call.inputs[8] && ids[1]! > call.fact(3).shape[0]!)
        fail('shape_mismatch', `${ids[1]} positions, but position_embedding has ${call.fact(3).shape[0]}`);
      vector(call.fact(5), n, 'gamma');
      vector(call.fact(6), n, 'beta');
      const { dtype } = call.fact(2);
      const out: OutFact = { dtype, shape: [...ids, n] };
      return [out, { dtype: 'int32' as const, shape: [ids[0]!] }, out].slice(0, call.outputs);
    },
    reference: (call) => {
      const ids = call.tensor(0);
      const [batch, length] = ids.shape as [number, number];
      const word = call.tensor(2);
      const n = word.shape[1]!;
      const shape = [batch, length, n];
      const sum = new Float64Array(sizeOf(shape));
      const add = (table: Tensor, rowOf: (i: number) => number, what: string): void => {
        const from = numbers(table);
        for (let i = 0; i < batch * length; i++) {
          const row = rowOf(i);
          if (row < 0 || row >= table.shape[0]!)
            fail('value_invalid', `${what} ${row} is outside a table of ${table.shape[0]}`);
          for (let k = 0; k < n; k++) sum[i * n + k]! += from[row * n + k]!;
        }
      };
      const [w, segments, places, mask] = [numbers(ids), call.optional(1), call.optional(8), call.optional(7)];
      const positions = places && spread(numbers(places), places.shape, ids.shape);
      add(word, (i) => w[i]!, 'input id');
      add(call.tensor(3), (i) => (positions ? positions[i]! : i % length), 'position id');
      if (segments) {
        const s = numbers(segments);
        add(call.tensor(4), (i) => s[i]!, 'segment id');
      }
      const { y } = layer(sum, shape, n, call.attrs.epsilon, true, call.tensor(5), call.tensor(6));
      const kept = new Float64Array(batch);
      if (mask) {
        const m = numbers(mask);
        for (let i = 0; i < batch * length; i++) if (m[i] === 1) kept[Math.floor(i / length)]! += 1;
      }
      return [
        fromNumbers(word.dtype, shape, y),
        fromNumbers('int32', [batch], kept),
        fromNumbers(word.dtype, shape, sum),
      ].slice(0, call.outputs);
    },
  }),
];
