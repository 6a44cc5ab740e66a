/** Operators that a GPU runs as others, or as one expression. */
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { BASE_GPU } from '../src/core/plan.ts';
import { planModel, Session, type Tensor, tensor } from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

interface Case { readonly nodes: readonly Json[]; readonly feeds: Readonly<Record<string, Tensor>>; readonly weights?: Readonly<Record<string, Tensor>>; readonly output?: readonly string[]; readonly dispatches?: number }
const contrib = { domain: 'com.microsoft' };
const f32 = (shape: readonly number[], seed = 1): Tensor => tensor('float32', shape, noise(shape.reduce((n, d) => n * d, 1), seed));
const i32 = (shape: readonly number[], most: number): Tensor => tensor('int32', shape, Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => (i * 7 + 3) % most));
const bytes = (shape: readonly number[], seed = 1): Tensor => tensor('uint8', shape, Uint8Array.from(noise(shape.reduce((n, d) => n * d, 1), seed), (v) => (v + 1) * 127));
const one = (v: number): Tensor => tensor('float32', [], [v]), zero = (v: number): Tensor => tensor('uint8', [], [v]);

const tables = { words: f32([11, 8]), places: f32([6, 8], 2), types: f32([2, 8], 3), gamma: f32([8], 4), beta: f32([8], 5) };
const embed = (inputs: string, outputs: string[]): Json[] => [node('EmbedLayerNormalization', inputs.split(' ').map((n) => (n === '-' ? '' : n)), outputs, { epsilon: { float: 1e-5 } }, contrib)];
const five = { s: one(0.031), z: zero(131), t: one(0.057), u: zero(119) };
const cases: Readonly<Record<string, Case>> = {
  'embeddings of words and places': { nodes: embed('ids - words places - gamma beta', ['y']), weights: tables, feeds: { ids: i32([2, 5], 11) }, dispatches: 3 },
  'embeddings with segments, a mask and a sum': { nodes: embed('ids seg words places types gamma beta mask', ['y', 'n', 's']), weights: tables, feeds: { ids: i32([2, 5], 11), seg: i32([2, 5], 2), mask: i32([2, 5], 2) }, output: ['y', 'n', 's'] },
  'embeddings of given places': { nodes: embed('ids seg words places types gamma beta - at', ['y', 'n']), weights: tables, feeds: { ids: i32([2, 5], 11), seg: i32([2, 5], 2), at: i32([1, 5], 6) }, output: ['y', 'n'] },
  'a sum of bytes': { nodes: [node('QLinearAdd', ['a', 's', 'z', 'b', 't', 'u', 't', 'z'], ['y'], {}, contrib)], weights: five, feeds: { a: bytes([3, 4, 5]), b: bytes([5], 2) }, dispatches: 1 },
  'a product of bytes, its sigmoid and leaky relu': {
    nodes: [node('QLinearMul', ['a', 's', 'z', 'b', 't', 'u', 't', ''], ['p'], {}, contrib), node('QLinearSigmoid', ['p', 't', '', 's', 'z'], ['q'], {}, contrib), node('QLinearLeakyRelu', ['q', 's', 'z', 't', 'u'], ['y'], { alpha: { float: 0.2 } }, contrib)],
    weights: five, feeds: { a: bytes([3, 40]), b: bytes([3, 1], 2) }, dispatches: 2,
  },
  'bytes of one tensor or another': { nodes: [node('QLinearWhere', ['c', 'a', 's', 'z', 'b', 't', 'u', 't', 'u'], ['y'], {}, contrib)], weights: five, feeds: { c: tensor('bool', [2, 1, 5], [true, false, true, true, false, false, true, false, true, false]), a: bytes([2, 4, 5]), b: bytes([4, 1], 2) }, dispatches: 1 },
  'whole powers': { nodes: [node('Pow', ['a', 'b'], ['y'])], feeds: { a: tensor('int32', [5], [2, -3, 7, 0, 1]), b: tensor('int32', [5], [10, 3, -1, 0, -5]) }, dispatches: 1 },
};
describe.each(['webgpu', 'wasm'] as const)('on %s', (device) => {
  it.each(Object.entries(cases))('%s', async (_, { nodes, feeds, weights = {}, output = ['y'], dispatches }) => {
    const model = encode({ input: Object.entries(feeds).map(([n, t]) => port(n, t.shape, t.dtype)), output: output.map((name) => ({ name })), initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)), node: nodes }, 18);
    await using session = await Session.load(model, { device, strict: true, dims: {} });
    await using plain = await Session.load(model, { device: 'reference', optimize: false });
    const [got, want] = [await session.run(feeds), await plain.run(feeds)];
    for (const [name, value] of Object.entries(want)) {
      // Where a quotient lies between two bytes either may be taken.
      const { mismatch } = compareValues(got[name]!, value, { rtol: 1e-4, atol: 1e-5, integers: (value as Tensor).dtype === 'uint8' ? 1 : 0 }, name);
      if (mismatch !== null) expect.fail(mismatchText(mismatch));
    }
    if (device === 'webgpu' && dispatches) expect((await planModel(model, { caps: BASE_GPU })).plan.steps.length).toBe(dispatches);
  });
});
