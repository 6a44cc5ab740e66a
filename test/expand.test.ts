/** Operators that a GPU runs as others, or as one expression. */
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { BASE_GPU } from '../src/core/plan.ts';
import { planModel, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

interface Case {
  readonly nodes: readonly Json[];
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly weights?: Readonly<Record<string, Tensor>>;
  readonly output?: readonly string[];
  readonly dispatches?: number;
}
const contrib = { domain: 'com.microsoft' };
const ml = { domain: 'ai.onnx.ml' };
const training = { domain: 'ai.onnx.preview.training' };
const f32 = (shape: readonly number[], seed = 1): Tensor =>
  tensor(
    'float32',
    shape,
    noise(
      shape.reduce((n, d) => n * d, 1),
      seed,
    ),
  );
const i32 = (shape: readonly number[], most: number): Tensor =>
  tensor(
    'int32',
    shape,
    Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => (i * 7 + 3) % most),
  );
const bytes = (shape: readonly number[], seed = 1): Tensor =>
  tensor(
    'uint8',
    shape,
    Uint8Array.from(
      noise(
        shape.reduce((n, d) => n * d, 1),
        seed,
      ),
      (v) => (v + 1) * 127,
    ),
  );
const one = (v: number): Tensor => tensor('float32', [], [v]);
const zero = (v: number): Tensor => tensor('uint8', [], [v]);

const tables = {
  words: f32([11, 8]),
  places: f32([6, 8], 2),
  types: f32([2, 8], 3),
  gamma: f32([8], 4),
  beta: f32([8], 5),
};
const embed = (inputs: string, outputs: string[]): Json[] => [
  node(
    'EmbedLayerNormalization',
    inputs.split(' ').map((n) => (n === '-' ? '' : n)),
    outputs,
    { epsilon: { float: 1e-5 } },
    contrib,
  ),
];
const five = { s: one(0.031), z: zero(131), t: one(0.057), u: zero(119) };
const cases: Readonly<Record<string, Case>> = {
  'embeddings of words and places': {
    nodes: embed('ids - words places - gamma beta', ['y']),
    weights: tables,
    feeds: { ids: i32([2, 5], 11) },
    dispatches: 3,
  },
  'embeddings with segments, a mask and a sum': {
    nodes: embed('ids seg words places types gamma beta mask', ['y', 'n', 's']),
    weights: tables,
    feeds: { ids: i32([2, 5], 11), seg: i32([2, 5], 2), mask: i32([2, 5], 2) },
    output: ['y', 'n', 's'],
  },
  'embeddings of given places': {
    nodes: embed('ids seg words places types gamma beta - at', ['y', 'n']),
    weights: tables,
    feeds: { ids: i32([2, 5], 11), seg: i32([2, 5], 2), at: i32([1, 5], 6) },
    output: ['y', 'n'],
  },
  'a sum of bytes': {
    nodes: [node('QLinearAdd', ['a', 's', 'z', 'b', 't', 'u', 't', 'z'], ['y'], {}, contrib)],
    weights: five,
    feeds: { a: bytes([3, 4, 5]), b: bytes([5], 2) },
    dispatches: 1,
  },
  'a product of bytes, its sigmoid and leaky relu': {
    nodes: [
      node('QLinearMul', ['a', 's', 'z', 'b', 't', 'u', 't', ''], ['p'], {}, contrib),
      node('QLinearSigmoid', ['p', 't', '', 's', 'z'], ['q'], {}, contrib),
      node('QLinearLeakyRelu', ['q', 's', 'z', 't', 'u'], ['y'], { alpha: { float: 0.2 } }, contrib),
    ],
    weights: five,
    feeds: { a: bytes([3, 40]), b: bytes([3, 1], 2) },
    dispatches: 2,
  },
  'bytes of one tensor or another': {
    nodes: [node('QLinearWhere', ['c', 'a', 's', 'z', 'b', 't', 'u', 't', 'u'], ['y'], {}, contrib)],
    weights: five,
    feeds: {
      c: tensor('bool', [2, 1, 5], [true, false, true, true, false, false, true, false, true, false]),
      a: bytes([2, 4, 5]),
      b: bytes([4, 1], 2),
    },
    dispatches: 1,
  },
  'the softmax of bytes': {
    nodes: [node('QLinearSoftmax', ['a', 's', 'z', 't', 'u'], ['y'], { opset: 13, axis: 1 }, contrib)],
    weights: { ...five, t: one(1 / 256), u: zero(0) },
    feeds: { a: bytes([3, 40]) },
  },
  'means of bytes': {
    nodes: [
      node('QLinearReduceMean', ['a', 's', 'z', 't', 'u'], ['m'], { axes: [2, 3] }, contrib),
      node('QLinearGlobalAveragePool', ['a', 's', 'z', 't', ''], ['n'], { channels_last: 1 }, contrib),
      node(
        'QLinearAveragePool',
        ['a', 's', 'z', 't', 'u'],
        ['p'],
        { kernel_shape: [2, 3], pads: [0, 1, 1, 1], strides: [2, 1] },
        contrib,
      ),
    ],
    weights: five,
    feeds: { a: bytes([2, 3, 5, 7]) },
    output: ['m', 'n', 'p'],
  },
  'bytes of two scales, joined': {
    nodes: [node('QLinearConcat', ['s', 'z', 'a', 't', 'u', 'b', 's', 'z'], ['y'], { axis: 1 }, contrib)],
    weights: five,
    feeds: { a: bytes([2, 3, 5]), b: bytes([2, 4, 5], 2) },
  },
  'norms of groups, channels last': {
    nodes: [
      node('GroupNorm', ['x', 'g', 'h'], ['a'], { groups: 2, activation: 1 }, contrib),
      node('SkipGroupNorm', ['x', 'g', 'h', 'k', 'h'], ['b', 'c'], { groups: 3, activation: 0 }, contrib),
      node('SkipGroupNorm', ['v', 'g', 'h', 'k'], ['d'], { groups: 1, activation: 1, channels_last: 0 }, contrib),
    ],
    weights: { g: f32([6], 4), h: f32([6], 5) },
    feeds: { x: f32([2, 5, 3, 6]), k: f32([2, 6], 2), v: f32([2, 6, 3, 5], 3) },
    output: ['a', 'b', 'c', 'd'],
  },
  'a mean and variance': {
    nodes: [
      node('MeanVarianceNormalization', ['x'], ['a']),
      node('MeanVarianceNormalization', ['x'], ['b'], { axes: [-1, 1] }),
    ],
    feeds: { x: f32([3, 4, 5, 2]) },
    output: ['a', 'b'],
  },
  'one half and the gelu of the other': {
    nodes: [node('BiasSplitGelu', ['x', 'h'], ['y'], {}, contrib)],
    weights: { h: f32([10], 5) },
    feeds: { x: f32([2, 3, 10]) },
  },
  'convolutions with channels last': {
    nodes: [
      node('NhwcConv', ['x', 'w', 'h'], ['y'], { pads: [1, 1, 1, 1] }, contrib),
      node('NhwcFusedConv', ['x', 'v', 'h', 'y'], ['z'], { pads: [1, 0, 1, 2], activation: 'Relu' }, contrib),
    ],
    weights: { w: f32([5, 3, 3, 4], 2), v: f32([5, 4, 3, 3], 3), h: f32([5], 4) },
    feeds: { x: f32([2, 6, 7, 4]) },
    output: ['y', 'z'],
  },
  'a batch norm that learns': {
    nodes: [
      node('BatchNormalization', ['x', 'g', 'h', 'm', 'v'], ['y', 'p', 'q'], {
        training_mode: 1,
        momentum: { float: 0.8 },
      }),
    ],
    weights: { g: f32([3], 4), h: f32([3], 5) },
    feeds: { x: f32([4, 3, 5]), m: f32([3], 6), v: f32([3], 7) },
    output: ['y', 'p', 'q'],
  },
  'features, scaled and chosen': {
    nodes: [
      node(
        'Scaler',
        ['x'],
        ['a'],
        { offset: { floats: [0.5, -1, 2, 0.25, 0] }, scale: { floats: [2, 3, 0.5, 1, -1] } },
        ml,
      ),
      node('Binarizer', ['x'], ['b'], { threshold: { float: 0.1 } }, ml),
      node('Binarizer', ['i'], ['c'], { threshold: { float: 2.5 } }, ml),
      node('Normalizer', ['x'], ['d'], { norm: 'L2' }, ml),
      node('Normalizer', ['i'], ['e'], { norm: 'MAX' }, ml),
      node('ArrayFeatureExtractor', ['x', 'at'], ['f'], {}, ml),
      node('OneHotEncoder', ['i'], ['g'], { cats_int64s: [3, 0, 5] }, ml),
      node('FeatureVectorizer', ['x', 'i'], ['h'], { inputdimensions: [5, 4] }, ml),
      node('Imputer', ['i'], ['j'], { replaced_value_int64: 3, imputed_value_int64s: [7, 8, 9, 10] }, ml),
      node(
        'LinearRegressor',
        ['x'],
        ['k'],
        { coefficients: { floats: Array.from(noise(10, 9)) }, intercepts: { floats: [0.5, -1] }, targets: 2 },
        ml,
      ),
    ],
    weights: { at: tensor('int64', [1, 3], [4, 0, 2]) },
    feeds: { x: f32([3, 5]), i: i32([3, 4], 6) },
    output: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k'],
  },
  'steps of descent': {
    nodes: [
      node(
        'Momentum',
        ['r', 't', 'x', 'w', 'g', 'd', 'v', 'u'],
        ['a', 'b', 'c', 'e'],
        { alpha: { float: 0.9 }, beta: { float: 0.7 }, mode: 'nesterov', norm_coefficient: { float: 0.01 } },
        training,
      ),
      node(
        'Adagrad',
        ['r', 't', 'x', 'g', 's'],
        ['f', 'h'],
        { decay_factor: { float: 0.1 }, epsilon: { float: 1e-3 } },
        training,
      ),
      node(
        'Adam',
        ['r', 't', 'x', 'g', 'v', 's'],
        ['i', 'j', 'k'],
        { norm_coefficient_post: { float: 0.1 } },
        training,
      ),
    ],
    feeds: {
      r: one(0.1),
      t: tensor('int64', [], [3]),
      x: f32([2, 3]),
      w: f32([4], 2),
      g: f32([2, 3], 3),
      d: f32([4], 4),
      v: f32([2, 3], 5),
      u: f32([4], 6),
      s: tensor('float32', [2, 3], noise(6, 7).map(Math.abs)),
    },
    output: ['a', 'b', 'c', 'e', 'f', 'h', 'i', 'j', 'k'],
  },
  'whole powers': {
    nodes: [node('Pow', ['a', 'b'], ['y'])],
    feeds: { a: tensor('int32', [5], [2, -3, 7, 0, 1]), b: tensor('int32', [5], [10, 3, -1, 0, -5]) },
    dispatches: 1,
  },
};
describe.each(['webgpu', 'wasm'] as const)('on %s', (device) => {
  it.each(Object.entries(cases))('%s', async (_, { nodes, feeds, weights = {}, output = ['y'], dispatches }) => {
    const model = encode(
      {
        input: Object.entries(feeds).map(([n, t]) => port(n, t.shape, t.dtype)),
        output: output.map((name) => ({ name })),
        initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
        node: nodes,
      },
      18,
    );
    await using session = await Session.load(model, { device, strict: true, dims: {} });
    await using plain = await Session.load(model, { device: 'reference', optimize: false });
    const [got, want] = [await session.run(feeds), await plain.run(feeds)];
    for (const [name, value] of Object.entries(want)) {
      // Where a quotient lies between two bytes either may be taken.
      const { mismatch } = compareValues(
        got[name]!,
        value,
        { rtol: 1e-4, atol: 1e-5, integers: (value as Tensor).dtype === 'uint8' ? 1 : 0 },
        name,
      );
      if (mismatch !== null) expect.fail(mismatchText(mismatch));
    }
    if (device === 'webgpu' && dispatches)
      expect((await planModel(model, { caps: BASE_GPU })).plan.steps.length).toBe(dispatches);
  });
});
