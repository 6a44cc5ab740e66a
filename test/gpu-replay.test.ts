import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { planModel, Session, tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const models = resolve(import.meta.dirname, '../../shared/data/models');

/**
 * [model, dims, other dims]: of one class, so that the same kernels serve both (a dim of 1 broadcasts in another way
 * than a longer one, and few rows are multiplied in other tiles than many).
 */
const CASES: readonly (readonly [string, Readonly<Record<string, number>>, Readonly<Record<string, number>>])[] = [
  ['gpt2-mini-synth', { batch: 1, seq: 1, total: 17, past: 16 }, { batch: 1, seq: 1, total: 23, past: 22 }],
  [
    'ppocrv4-rec',
    { 'p2o.DynamicDimension.0': 1, 'p2o.DynamicDimension.1': 320 },
    { 'p2o.DynamicDimension.0': 1, 'p2o.DynamicDimension.1': 384 },
  ],
  ['openseeface-lm0', { batch_size: 4 }, { batch_size: 5 }],
  ['oww-embedding', { unk__314: 2 }, { unk__314: 5 }],
];

describe('a new shape', () => {
  it.each(CASES.filter(([name]) => existsSync(resolve(models, name))))(
    'of %s needs no new shader',
    async (name, dims, others) => {
      const source = resolve(models, name, 'model.onnx');
      const { plan } = await planModel(source, { device: 'webgpu', dims });
      const known = new Set(plan.shaders.map((s) => s.code));
      const next = (await planModel(source, { device: 'webgpu', dims: others })).plan;
      expect(next.shaders.filter((s) => !known.has(s.code)).map((s) => s.name)).toEqual([]);
    },
  );
});

it('replaying a plan costs some microseconds a dispatch', { timeout: 30_000 }, async () => {
  const { device } = await requestGpuDevice({ allowSoftware: true });
  const LENGTH = 500;
  const model = encode({
    input: [port('x', [4, 4])],
    output: [port('y', [4, 4])],
    initializer: [initializer('W', tensor('float32', [4, 4], noise(16)))],
    node: Array.from({ length: LENGTH }, (_, i) =>
      node('MatMul', [i === 0 ? 'x' : `m${i}`, 'W'], [i === LENGTH - 1 ? 'y' : `m${i + 1}`]),
    ),
  });
  await using session = await Session.load(model, { device });
  const x = tensor('float32', [4, 4], noise(16));
  const submit = device.queue.submit;
  let submitted = 0;
  device.queue.submit = (buffers) => {
    const answer = submit.call(device.queue, buffers);
    submitted = performance.now();
    return answer;
  };
  let best = Infinity;
  try {
    for (let i = 0; i < 20; i++) {
      const start = performance.now();
      await session.run({ x });
      best = Math.min(best, (1000 * (submitted - start)) / LENGTH);
    }
  } finally {
    device.queue.submit = submit;
  }
  expect(session.plan!.steps.filter((s) => s.run === 'gpu')).toHaveLength(LENGTH);
  expect(best, 'microseconds from the call to the end of its submit').toBeLessThan(8); // 2.5 on an idle core
});
