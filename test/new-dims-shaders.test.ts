/**
 * Which shaders a batch, a length or a size of image brings that was not there: on plans alone, for software adapters.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { equip } from '../kernels/operators.ts';
import type { Recipe } from '../src/2-optimize/optimize.ts';
import type { Fact } from '../src/core/graph.ts';
import { BASE_GPU } from '../src/core/plan.ts';
import { kernelsFor } from '../src/devices/index.ts';
import { loadGraph } from '../src/load.ts';
import { draft, segmentRequest } from '../src/runner.ts';

const FOLDER = resolve('../shared/data/models');

type Sizes = readonly number[];
/**
 * A model, the dims it leaves open, sizes of them one after another, and the most shaders that some of these make: by
 * default, and but for the first, none.
 */
type Case = readonly [
  model: string,
  names: readonly string[],
  sizes: readonly Sizes[],
  made?: Readonly<Record<string, number>>,
];

const PADDLE = ['p2o.DynamicDimension.0', 'p2o.DynamicDimension.1', 'p2o.DynamicDimension.2'];
const DECODER = ['batch', 'seq', 'past', 'total'];
const GENAI = ['batch_size', 'sequence_length', 'past_sequence_length', 'total_sequence_length'];
const lengths = (...list: readonly (readonly [batch: number, seq: number, past: number])[]): Sizes[] =>
  list.map(([batch, seq, past]) => [batch, seq, past, past + seq]);
const PROMPTS = lengths([1, 17, 0], [1, 16, 0], [1, 18, 0], [2, 16, 0], [3, 9, 0], [8, 33, 0], [1, 100, 0], [2, 3, 0]);
const STEPS = lengths([1, 1, 16], [1, 1, 17], [1, 1, 200], [2, 1, 16], [2, 1, 33], [2, 1, 7]);
const TEXTS = [
  [1, 16],
  [1, 17],
  [1, 3],
  [1, 128],
  [2, 16],
  [3, 9],
  [3, 41],
  [8, 17],
];
/**
 * Batches of images, of which a classifier makes one row each: kernels have tiles of one row, for one or two, and of
 * eight.
 */
const IMAGES = [[1], [2], [3], [4], [8], [20]];
const CLASSIFIER = { 3: 1 };

const CASES: readonly Case[] = [
  ['openseeface-lm0', ['batch_size'], IMAGES],
  ['openseeface-det', ['batch_size'], IMAGES],
  ['oww-embedding', ['unk__314'], IMAGES],
  ['super-resolution-10', ['batch_size'], [[1], [2], [5]]],
  ['whisper-mini-enc-synth', ['b'], IMAGES],
  ['mobilenetv2-synth', ['b'], IMAGES, CLASSIFIER],
  ['mobilenetv2-qdq-synth', ['b'], IMAGES, CLASSIFIER],
  ['convnext-mini-synth', ['b'], IMAGES, CLASSIFIER],
  ['squeezenet-winml', ['None'], IMAGES, CLASSIFIER],
  [
    'wav2vec2-mini-synth',
    ['b', 'n'],
    [
      [1, 3200],
      [1, 3300],
      [2, 3200],
      [3, 5000],
      [1, 16000],
      [8, 16000],
    ],
  ],
  [
    'silero-vad-16k-op15',
    ['batch', 'sequence'],
    [
      [1, 512],
      [2, 512],
      [3, 512],
    ],
  ],
  [
    'silero-vad-half',
    ['batch', 'sequence'],
    [
      [1, 512],
      [2, 512],
      [3, 512],
    ],
  ],
  // Channels of which four does not divide the pixels: pointwise convolutions, and what scales whole channels, read and
  // store those one by one.
  [
    'ppocr-cls',
    PADDLE,
    [
      [1, 48, 192],
      [2, 48, 192],
      [1, 48, 200],
      [3, 48, 192],
      [8, 48, 320],
      [8, 48, 337],
      [1, 48, 345],
    ],
    { '3,48,192': 1, '8,48,337': 5 },
  ],
  [
    'ppocrv4-rec',
    PADDLE.slice(0, 2),
    [
      [1, 320],
      [1, 384],
      [1, 640],
      [1, 337],
      [2, 320],
      [3, 345],
      [8, 640],
    ],
    { '1,337': 3 },
  ],
  [
    'ppocrv4-det',
    PADDLE,
    [
      [1, 320, 320],
      [1, 640, 640],
      [2, 320, 320],
      [8, 640, 320],
      [1, 352, 352],
      [1, 352, 320],
      [3, 416, 352],
    ],
    { '1,352,352': 5 },
  ],
  ['bert-mini-synth', ['batch', 'seq'], TEXTS],
  ['t5-mini-enc-synth', ['b', 's'], TEXTS],
  [
    'bert-mini-synth',
    ['batch', 'seq'],
    [
      [1, 1],
      [2, 1],
    ],
  ],
  [
    't5-mini-enc-synth',
    ['b', 's'],
    [
      [1, 1],
      [2, 1],
    ],
  ],
  // Positions are written out for each text; its pooler and classifier have a row for each.
  [
    'ort-bert-toy',
    ['batch', 'max_seq_len_in_batch'],
    [
      [1, 16],
      [1, 17],
      [2, 16],
      [3, 16],
      [8, 40],
    ],
    { '2,16': 1, '3,16': 2 },
  ],
  // Of one text, a transpose is a view and the numbers of rows are one that is known; as many logits as texts squared,
  // of which four may divide rows.
  [
    'clip-mini-synth',
    ['tb', 's', 'ib'],
    [
      [1, 16, 1],
      [1, 17, 1],
      [2, 16, 2],
      [3, 16, 3],
      [7, 9, 7],
      [4, 16, 4],
      [8, 33, 8],
    ],
    { '2,16,2': 2, '3,16,3': 2, '4,16,4': 1 },
  ],
  ['genai-tiny-gpt2-fp32', ['batch_size', 'seq_len', 'past_seq_len', 'total_seq_len'], PROMPTS],
  ['genai-tiny-gpt2-fp32', ['batch_size', 'seq_len', 'past_seq_len', 'total_seq_len'], STEPS],
  ...['gpt2-mini-synth', 'qwen3-mini-synth', 'stories260k-hf-op17', 'stories260k-int8dyn'].flatMap((model): Case[] => [
    [model, DECODER, PROMPTS],
    [model, DECODER, STEPS],
  ]),
  ...['stories260k-gqa-fp32', 'stories260k-gqa-fp16', 'stories260k-gqa-int4', 'genai-tiny-lfm2'].map(
    (model): Case => [model, GENAI, PROMPTS],
  ),
  ['stories260k-gqa-fp32', GENAI, STEPS],
  ['stories260k-gqa-fp16', GENAI, STEPS],
  // Weights of 4 bits are widened for one, two, four or eight rows at once: a quarter faster than with fewer tiles.
  [
    'stories260k-gqa-int4',
    GENAI,
    lengths([1, 1, 16], [1, 1, 17], [2, 1, 16], [2, 1, 33], [3, 1, 16], [4, 1, 5], [5, 1, 5], [8, 1, 9]),
    { '2,1,16,17': 5, '3,1,16,17': 5, '5,1,5,6': 5 },
  ],
];

describe.skipIf(!existsSync(FOLDER))('shaders of new dims', () => {
  for (const [model, names, sizes, made = {}] of CASES)
    it(`${model} makes no shader that was not there for other ${names.join(', ')} than ${sizes[0]}${Object.entries(made)
      .map(([at, n]) => `, but ${n} for ${at}`)
      .join('')}`, async () => {
      const {
        model: { graph },
        definitions,
        sets,
        rules,
      } = await loadGraph(resolve(FOLDER, model, 'model.onnx'), {});
      const ops = equip(definitions, await kernelsFor('webgpu', sets));
      const caps = { ...BASE_GPU, software: true };
      const recipes: Recipe[] = [];
      const known = new Set<string>();
      for (const [n, list] of sizes.entries()) {
        const facts = new Map(
          graph.inputs.map((v): [number, Fact] => {
            const { dtype, shape } = graph.values[v]!.declared!;
            return [v, { dtype, shape: shape!.map((d) => (typeof d === 'number' ? d : list[names.indexOf(d!)]!)) }];
          }),
        );
        // As a session plans: each time the way of the last.
        const { plan } = draft(
          segmentRequest(
            { nodes: graph.nodes, values: graph.values, facts, opaque: new Set(), outputs: graph.outputs },
            ops,
            rules,
            caps,
            undefined,
            recipes,
          ),
          model,
          ops,
          caps,
        );
        const before = known.size;
        for (const { code } of plan.shaders) known.add(code);
        if (n > 0) expect([list, known.size - before]).toEqual([list, made[String(list)] ?? 0]);
      }
    });
});
