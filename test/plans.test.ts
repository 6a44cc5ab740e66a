import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseValue } from '../src/1-parse/values.ts';
import { findCases } from '../src/cli/cases.ts';
import { isTensor } from '../src/core/tensor.ts';
import { planModel, printPlan, Session, summarize, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const data = resolve(import.meta.dirname, '../../shared/data/models');
const cases = existsSync(data) ? findCases(data) : [];

/** Sizes of free dims, from a model's recorded inputs. */
async function dimsOf(model: string, inputs: readonly string[]): Promise<Record<string, number>> {
  await using session = await Session.load(model, { device: 'reference' });
  const dims: Record<string, number> = {};
  session.inputs.forEach((p, i) => {
    const value = inputs[i] === undefined ? null : parseValue(readFileSync(inputs[i]!));
    if (value !== null && isTensor(value))
      p.shape?.forEach((d, k) => {
        if (typeof d !== 'number') dims[d ?? `${p.name}.${k}`] = value.shape[k]!;
      });
  });
  return dims;
}

/** A small net with a bit of everything; its plans are goldens. */
const net = encode({
  input: [port('image', ['n', 3, 9, 9])],
  output: [port('scores', ['n', 5])],
  initializer: [
    initializer('w1', tensor('float32', [8, 3, 3, 3], noise(216, 1))),
    initializer('b1', tensor('float32', [8], noise(8, 2))),
    initializer('w2', tensor('float32', [8, 1, 3, 3], noise(72, 3))),
    initializer('w3', tensor('float32', [8, 8, 1, 1], noise(64, 4))),
    initializer('w4', tensor('float32', [8, 5], noise(40, 5))),
    initializer('shape', tensor('int64', [2], [0, -1])),
    initializer('six', tensor('float32', [], [6])),
    initializer('zero', tensor('float32', [], [0])),
  ],
  node: [
    node('Conv', ['image', 'w1', 'b1'], ['c1'], { pads: [1, 1, 1, 1], strides: [2, 2] }),
    node('Clip', ['c1', 'zero', 'six'], ['r1']),
    node('Conv', ['r1', 'w2'], ['c2'], { pads: [1, 1, 1, 1], group: 8 }),
    node('HardSwish', ['c2'], ['h2']),
    node('Conv', ['h2', 'w3'], ['c3']),
    node('Add', ['c3', 'r1'], ['s3']),
    node('MaxPool', ['s3'], ['p3'], { kernel_shape: [2, 2] }),
    node('GlobalAveragePool', ['p3'], ['g']),
    node('Reshape', ['g', 'shape'], ['f']),
    node('MatMul', ['f', 'w4'], ['m']),
    node('Softmax', ['m'], ['scores']),
  ],
});

describe('plans of a small net', () => {
  it.each(['webgpu', 'wasm', 'reference'] as const)('on %s are as they were', async (device) => {
    const { plan } = await planModel(net, { device, dims: { n: 2 } });
    const text = `${printPlan(plan)}shaders  ${plan.shaders.map((s) => `${s.name} ${createHash('sha256').update(s.code).digest('hex').slice(0, 12)}`).join(', ') || 'none'}\n`;
    const file = resolve(import.meta.dirname, `golden/small-net.${device}.txt`);
    if (process.env.UPDATE_GOLDENS) {
      mkdirSync(resolve(file, '..'), { recursive: true });
      writeFileSync(file, text);
    }
    expect(text).toBe(readFileSync(file, 'utf8'));
  });
});

describe.skipIf(cases.length === 0)('plans of recorded models', () => {
  const ratios: { name: string; ratio: number; dispatches: number; pipelines: number }[] = [];
  it.each(cases.map((c) => [c.name, c] as const))('%s', async (name, one) => {
    const dims = await dimsOf(one.model, one.sets[0]!.inputs ?? []);
    const first = await planModel(one.model, { device: 'webgpu', dims });
    const again = await planModel(one.model, { device: 'webgpu', dims });
    expect(JSON.stringify(again.plan) === JSON.stringify(first.plan), 'two plans differ').toBe(true);
    const s = summarize(first.plan);
    if (s.lowerBoundBytes > 0)
      ratios.push({ name, ratio: s.peakBytes / s.lowerBoundBytes, dispatches: s.dispatches, pipelines: s.pipelines });
  });
  it('need little more memory than the lower bound', () => {
    const sorted = [...ratios].sort((a, b) => a.ratio - b.ratio);
    console.log(
      sorted
        .map((r) => `${r.name.padEnd(28)} ${r.ratio.toFixed(3)}  ${r.dispatches} dispatches, ${r.pipelines} pipelines`)
        .join('\n'),
    );
    expect(sorted[Math.floor(sorted.length / 2)]!.ratio).toBeLessThanOrEqual(1.15);
    expect(sorted.at(-1)!.ratio).toBeLessThanOrEqual(1.2);
  });
});
