/** Cases of attention and rotation. */
import type { DType } from '../src/core/dtype.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { type Case, int64, list } from './gpu-case.ts';

const rough = (dtype: DType, shape: readonly number[], scale = 1, seed = 0): Tensor =>
  fromNumbers(
    dtype,
    shape,
    Array.from(
      { length: sizeOf(shape) },
      (_, i) => (Math.round(Math.sin((i + seed) * 1.7 + 0.013 * (i + seed) * (i % 97)) * 64) / 64) * scale,
    ),
  );
const bools = (shape: readonly number[], every = 3): Tensor =>
  fromNumbers(
    'bool',
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => ((i * 7) % every ? 1 : 0)),
  );
const int32 = (...values: number[]): Tensor => fromNumbers('int32', [values.length], values);
const close = { rtol: 1e-4, atol: 2e-5 };
const coarse = (d: DType): { rtol: number; atol: number } =>
  d === 'float32' ? close : d === 'float16' ? { rtol: 4e-3, atol: 2e-3 } : { rtol: 3e-2, atol: 2e-2 };

const attention = (['float32', 'float16', 'bfloat16'] as const)
  .flatMap((d): Case[] => [
    {
      op: 'Attention',
      inputs: [rough(d, [2, 3, 5, 8]), rough(d, [2, 3, 7, 8], 1, 5), rough(d, [2, 3, 7, 8], 1, 9)],
      ...coarse(d),
    },
    {
      op: 'Attention',
      inputs: [
        rough(d, [1, 4, 3, 5]),
        rough(d, [1, 2, 6, 5], 1, 5),
        rough(d, [1, 2, 6, 3], 1, 9),
        rough(d, [1, 4, 3, 6]),
      ],
      outputs: 4,
      attrs: { qk_matmul_output_mode: 0, softcap: 2 },
      ...coarse(d),
    },
    {
      op: 'Attention',
      inputs: [
        rough(d, [2, 3, 24]),
        rough(d, [2, 4, 12], 1, 5),
        rough(d, [2, 4, 6], 1, 9),
        null,
        rough(d, [2, 2, 5, 6]),
        rough(d, [2, 2, 5, 3]),
      ],
      outputs: 3,
      attrs: { q_num_heads: 4, kv_num_heads: 2, is_causal: 1, scale: 0.3 },
      ...coarse(d),
    },
  ])
  .concat(
    ...[0, 1, 2, 3].map(
      (mode): Case => ({
        op: 'Attention',
        inputs: [
          rough('float32', [1, 2, 3, 4]),
          rough('float32', [1, 2, 5, 4], 1, 3),
          rough('float32', [1, 2, 5, 4]),
          bools([3, 5]),
        ],
        outputs: 4,
        attrs: { qk_matmul_output_mode: mode, softcap: 1.5, is_causal: 1 },
        ...close,
      }),
    ),
    {
      op: 'Attention',
      inputs: [
        rough('float32', [1, 1, 3, 4]),
        rough('float32', [1, 1, 5, 4]),
        rough('float32', [1, 1, 5, 4]),
        fromNumbers('bool', [3, 5], [0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1]),
      ],
      ...close,
    },
    {
      op: 'Attention',
      inputs: [
        rough('float32', [2, 1, 3, 4]),
        rough('float32', [2, 1, 9, 4]),
        rough('float32', [2, 1, 9, 4]),
        null,
        null,
        null,
        list(4, 7),
      ],
      attrs: { is_causal: 1 },
      ...close,
    },
    {
      op: 'Attention',
      inputs: [rough('float32', [1, 2, 9, 4]), rough('float32', [1, 2, 9, 4]), rough('float32', [1, 2, 9, 4])],
      attrs: { left_window_size: 2, right_window_size: 1 },
      ...close,
    },
    {
      op: 'Attention',
      inputs: [
        rough('float32', [1, 2, 3, 4]),
        rough('float32', [1, 2, 6, 4]),
        rough('float32', [1, 2, 6, 4]),
        fromNumbers(
          'float32',
          [3, 4],
          [0, -Infinity, 1, 2, 0, 0, -1e30, 0, -Infinity, -Infinity, -Infinity, -Infinity],
        ),
      ],
      ...close,
    },
  );

/** Long enough for tiles and for splits. */
const tiled: Case[] = [
  ...(['float32', 'float16'] as const).flatMap((d): Case[] => [
    {
      op: 'Attention',
      inputs: [rough(d, [1, 4, 70, 32]), rough(d, [1, 2, 75, 32], 1, 5), rough(d, [1, 2, 75, 32], 1, 9)],
      attrs: { is_causal: 1 },
      ...coarse(d),
    },
    {
      op: 'Attention',
      inputs: [
        rough(d, [1, 8, 2, 16]),
        rough(d, [1, 2, 300, 16], 1, 5),
        rough(d, [1, 2, 300, 16], 1, 9),
        rough(d, [2, 300]),
      ],
      ...coarse(d),
    },
  ]),
  {
    op: 'Attention',
    inputs: [
      rough('float32', [2, 2, 17, 72]),
      rough('float32', [2, 2, 41, 72], 1, 5),
      rough('float32', [2, 2, 41, 20], 1, 9),
      bools([2, 1, 17, 41]),
    ],
    attrs: { softcap: 3 },
    ...close,
  },
  {
    op: 'Attention',
    inputs: [
      rough('float32', [1, 20, 256]),
      rough('float32', [1, 33, 256], 1, 5),
      rough('float32', [1, 33, 256], 1, 9),
    ],
    attrs: { q_num_heads: 1, kv_num_heads: 1, left_window_size: 6, right_window_size: 3 },
    ...close,
  },
  {
    op: 'Attention',
    inputs: [
      rough('float32', [2, 1, 12, 8]),
      rough('float32', [2, 1, 50, 8]),
      rough('float32', [2, 1, 50, 8]),
      null,
      null,
      null,
      list(30, 45),
    ],
    attrs: { is_causal: 1 },
    ...close,
  },
  {
    op: 'Attention',
    inputs: [
      rough('float32', [1, 2, 1, 64]),
      rough('float32', [1, 2, 20, 64], 1, 2),
      rough('float32', [1, 2, 20, 64], 1, 4),
      null,
      rough('float32', [1, 2, 500, 64], 1, 6),
      rough('float32', [1, 2, 500, 64], 1, 8),
    ],
    outputs: 3,
    attrs: { is_causal: 1 },
    ...close,
  },
];

const mha = (['float32', 'float16'] as const).flatMap((d): Case[] => [
  {
    op: 'com.microsoft.MultiHeadAttention',
    inputs: [rough(d, [2, 3, 8]), rough(d, [2, 5, 8], 1, 3), rough(d, [2, 5, 12], 1, 7), rough(d, [28])],
    attrs: { num_heads: 2 },
    outputs: 4,
    ...coarse(d),
  },
  {
    op: 'com.microsoft.MultiHeadAttention',
    inputs: [rough(d, [2, 3, 2, 3, 4])],
    attrs: { num_heads: 2, unidirectional: 1 },
    ...coarse(d),
  },
  {
    op: 'com.microsoft.MultiHeadAttention',
    inputs: [rough(d, [1, 3, 8]), rough(d, [1, 5, 2, 2, 4], 1, 3), null, null, int32(4)],
    attrs: { num_heads: 2 },
    ...coarse(d),
  },
  {
    op: 'com.microsoft.MultiHeadAttention',
    inputs: [
      rough(d, [1, 3, 8]),
      rough(d, [1, 2, 6, 4], 1, 3),
      rough(d, [1, 2, 6, 4], 1, 3),
      null,
      null,
      rough(d, [1, 1, 3, 6]),
    ],
    attrs: { num_heads: 2 },
    ...coarse(d),
  },
  {
    op: 'com.microsoft.MultiHeadAttention',
    inputs: [
      rough(d, [2, 2, 8]),
      rough(d, [2, 2, 8], 1, 3),
      rough(d, [2, 2, 8], 1, 7),
      rough(d, [24]),
      fromNumbers('int32', [2, 6], [1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0]),
      null,
      rough(d, [2, 2, 4, 4]),
      rough(d, [2, 2, 4, 4]),
    ],
    attrs: { num_heads: 2, mask_filter_value: -1e4 },
    outputs: 3,
    ...coarse(d),
  },
]);
const projected: Case[] = [
  {
    op: 'com.microsoft.Attention',
    inputs: [rough('float32', [2, 3, 6]), rough('float32', [6, 24], 0.5), rough('float32', [24])],
    attrs: { num_heads: 2 },
    ...close,
  },
  {
    op: 'com.microsoft.Attention',
    inputs: [
      rough('float32', [2, 3, 6]),
      rough('float32', [6, 24], 0.5),
      rough('float32', [24]),
      fromNumbers('int32', [4], [6, 7, 1, 0]),
      rough('float32', [2, 2, 2, 5, 4]),
    ],
    outputs: 2,
    attrs: { num_heads: 2, unidirectional: 1 },
    ...close,
  },
  {
    op: 'com.microsoft.Attention',
    inputs: [
      rough('float16', [1, 3, 6]),
      rough('float16', [6, 20], 0.5),
      rough('float16', [20]),
      fromNumbers('int32', [1, 1, 4, 4], [1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1]),
    ],
    attrs: { num_heads: 2, qkv_hidden_sizes: [8, 8, 4] },
    ...coarse('float16'),
  },
  {
    op: 'com.microsoft.Attention',
    inputs: [rough('float32', [1, 70, 64]), rough('float32', [64, 192], 0.2), null],
    attrs: { num_heads: 2 },
    known: [1],
    ...close,
  },
];
const grouped = (['float32', 'float16'] as const).flatMap((d): Case[] => {
  const caches = [rough(d, [9, 4], 1, 2), rough(d, [9, 4], 1, 4)];
  const rest = (total: number, lengths: number[]): Tensor[] => [int32(...lengths.map((n) => n - 1)), int32(total)];
  const base = { op: 'com.microsoft.GroupQueryAttention', known: [6], outputs: 3, ...coarse(d) } as const;
  return [
    {
      ...base,
      inputs: [
        rough(d, [2, 3, 32]),
        rough(d, [2, 3, 16], 1, 3),
        rough(d, [2, 3, 16], 1, 7),
        null,
        null,
        ...rest(3, [3, 2]),
      ],
      attrs: { num_heads: 4, kv_num_heads: 2 },
    },
    {
      ...base,
      inputs: [
        rough(d, [2, 1, 32]),
        rough(d, [2, 1, 16], 1, 3),
        rough(d, [2, 1, 16], 1, 7),
        rough(d, [2, 2, 6, 8]),
        rough(d, [2, 2, 6, 8]),
        ...rest(6, [6, 4]),
        ...caches,
      ],
      attrs: { num_heads: 4, kv_num_heads: 2, do_rotary: 1, local_window_size: 3 },
    },
    {
      ...base,
      inputs: [
        rough(d, [1, 2, 64]),
        null,
        null,
        rough(d, [1, 2, 4, 8]),
        rough(d, [1, 2, 4, 8]),
        ...rest(6, [6]),
        ...caches,
        int64([1, 2], [4, 7]),
      ],
      attrs: { num_heads: 4, kv_num_heads: 2, do_rotary: 1, rotary_interleaved: 1, softcap: 5 },
    },
    {
      ...base,
      inputs: [
        rough(d, [1, 1, 16]),
        rough(d, [1, 1, 8], 1, 3),
        rough(d, [1, 1, 8], 1, 7),
        rough(d, [1, 1, 5, 8]),
        rough(d, [1, 1, 5, 8]),
        ...rest(3, [3]),
        null,
        null,
        null,
        rough(d, [1, 2, 1, 3]),
        rough(d, [2]),
      ],
      outputs: 4,
      attrs: { num_heads: 2, kv_num_heads: 1 },
    },
    {
      ...base,
      inputs: [
        rough(d, [1, 3, 16]),
        rough(d, [1, 3, 8], 1, 3),
        rough(d, [1, 3, 8], 1, 7),
        null,
        null,
        ...rest(3, [3]),
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        rough(d, [8]),
        rough(d, [8]),
      ],
      attrs: { num_heads: 2, kv_num_heads: 1, smooth_softmax: 1 },
    },
    {
      ...base,
      inputs: [
        rough(d, [2, 1, 32]),
        rough(d, [2, 1, 8], 1, 3),
        rough(d, [2, 1, 8], 1, 7),
        rough(d, [2, 1, 200, 8]),
        rough(d, [2, 1, 200, 8]),
        ...rest(150, [150, 131]),
        null,
        null,
        null,
        null,
        rough(d, [4]),
      ],
      attrs: { num_heads: 4, kv_num_heads: 1 },
    },
    {
      ...base,
      inputs: [
        rough(d, [1, 40, 32]),
        rough(d, [1, 40, 8], 1, 3),
        rough(d, [1, 40, 8], 1, 7),
        null,
        null,
        ...rest(40, [40]),
        null,
        null,
        null,
        null,
        rough(d, [4]),
      ],
      attrs: { num_heads: 4, kv_num_heads: 1, local_window_size: 9 },
    },
  ];
});
/** Rows that hold queries, keys and values, apart and together, with all that may be done before. */
const heads = (['float32', 'float16'] as const).flatMap((d): Case[] => {
  const base = { op: 'sardonyx.HeadAttention', ...coarse(d) } as const;
  const angles = [rough(d, [2, 3, 2], 1, 2), rough(d, [2, 3, 2], 1, 4)];
  const a = { heads: 4, kv_heads: 2, size: 4, value_size: 4, scale: 0.5, epsilon: 1e-5 };
  const caches = [rough(d, [2, 2, 5, 4], 1, 11), rough(d, [2, 2, 5, 4], 1, 13)];
  return [
    { ...base, inputs: [rough(d, [2, 3, 40]), null, null], attrs: { ...a, at: [4, 20, 28] } },
    {
      ...base,
      inputs: [
        rough(d, [2, 3, 32]),
        null,
        null,
        bools([3, 8]),
        ...caches,
        ...angles,
        rough(d, [4]),
        rough(d, [4], 1, 3),
      ],
      outputs: 3,
      attrs: { ...a, at: [0, 16, 24], softcap: 2 },
    },
    {
      ...base,
      inputs: [rough(d, [2, 3, 16]), rough(d, [2, 3, 9], 1, 3), rough(d, [2, 3, 8], 1, 5), null, null, null, ...angles],
      outputs: 3,
      attrs: { ...a, at: [0, 1, 0], interleaved: 1 },
    },
    {
      ...base,
      inputs: [rough(d, [2, 3, 41]), null, null],
      attrs: { ...a, at: [1, 5, 9], apart: [12, 20, 12], is_causal: 1 },
    },
    {
      ...base,
      inputs: [rough(d, [2, 3, 32]), null, null, null, ...caches],
      outputs: 3,
      attrs: { ...a, at: [0, 16, 24], is_causal: 1 },
    },
    {
      ...base,
      inputs: [
        rough(d, [2, 6, 32]),
        rough(d, [2, 8, 16], 1, 3),
        rough(d, [2, 8, 16], 1, 5),
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        rough(d, [2, 4, 4], 1, 4),
        rough(d, [3, 2, 4], 1, 6),
      ],
      attrs: { ...a, heads: 2, kv_heads: 2, at: [0, 8, 7] },
    },
    {
      ...base,
      inputs: [rough(d, [1, 2, 12]), rough(d, [1, 7, 12], 1, 3), rough(d, [1, 7, 20], 1, 5), rough(d, [1, 1, 2, 7])],
      attrs: { ...a, heads: 3, kv_heads: 3, size: 3, value_size: 6, at: [3, 0, 1] },
    },
  ];
});
const rotary = (['float32', 'float16'] as const).flatMap((d): Case[] => [
  {
    op: 'RotaryEmbedding',
    inputs: [
      rough(d, [2, 3, 4, 8]),
      rough(d, [10, 4]),
      rough(d, [10, 4], 1, 3),
      int64([2, 4], [0, 1, 2, 3, 9, 8, 7, 6]),
    ],
    ...coarse(d),
  },
  {
    op: 'RotaryEmbedding',
    inputs: [rough(d, [2, 3, 24]), rough(d, [2, 3, 2]), rough(d, [2, 3, 2], 1, 3)],
    attrs: { num_heads: 4, rotary_embedding_dim: 4, interleaved: 1 },
    ...coarse(d),
  },
  {
    op: 'RotaryEmbedding',
    inputs: [rough(d, [1, 3, 10]), rough(d, [9, 1]), rough(d, [9, 1], 1, 3), list(2)],
    attrs: { num_heads: 5, scale: 0.5 },
    ...coarse(d),
  },
]);

export const ATTENTION: Readonly<Record<string, readonly Case[]>> = {
  attention,
  'attention in tiles': tiled,
  MultiHeadAttention: mha,
  'projected attention': projected,
  GroupQueryAttention: grouped,
  'attention of heads in rows': heads,
  rotation: rotary,
};
