import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { compareValues, mismatchText, MODEL_TOLERANCE } from '../src/cli/compare.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { boundShape, randomInput, seeded } from '../src/cli/inputs.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor } from '../src/core/tensor.ts';
import { Session, tensor } from '../src/index.ts';
import { compile } from '../src/plan.ts';
import { CompiledModel } from '../src/run.ts';

const models = resolve(import.meta.dirname, '../../shared/data/models');
const onnx = (name: string): string =>
  join(models, name, readdirSync(join(models, name)).find((f) => f.endsWith('.onnx'))!);
const MODELS = [
  { name: 'mnist-8', dims: {} },
  { name: 'gtcrn', dims: {} },
  { name: 'yunet-n-320', dims: {} },
  { name: 'bert-mini-synth', dims: { batch: 2, seq: 11 } },
].filter(({ name }) => existsSync(join(models, name)));

/** y = ∞ where x > 1, else x: a number that JSON has no form for. */
const model = encodeModel(
  {
    inputs: [{ name: 'x', dtype: 'float32', shape: [5] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [5] }],
    weights: [
      { name: 'one', tensor: tensor('float32', [], [1]) },
      { name: 'big', tensor: tensor('float32', [], [Infinity]) },
    ],
    nodes: [
      { op: 'Greater', name: 'g', inputs: ['x', 'one'], outputs: ['c'], attrs: [] },
      { op: 'Where', name: 'w', inputs: ['c', 'big', 'x'], outputs: ['y'], attrs: [] },
    ],
  },
  { '': 17 },
);

describe.each(['wasm', 'webgpu'] as const)('a plan compiled for %s', (device) => {
  it.each(MODELS)('$name gives what a session gives', async ({ name, dims }) => {
    await using compiled = await CompiledModel.load(await compile(onnx(name), { device, dims }));
    await using session = await Session.load(onnx(name), { device });
    const noise = seeded(7);
    const feeds: Record<string, Tensor> = Object.fromEntries(
      session.inputs.map((p) => [
        p.name,
        p.dtype === 'int64'
          ? fromNumbers('int64', boundShape(p, dims), new Uint8Array(sizeOf(boundShape(p, dims))).fill(1))
          : randomInput(p, p.dtype!, boundShape(p, dims), noise),
      ]),
    );
    const [ours, theirs] = [await compiled.run(feeds), await session.run(feeds)];
    expect(Object.keys(ours)).toEqual(Object.keys(theirs));
    for (const key of Object.keys(ours)) {
      const { mismatch } = compareValues(ours[key]!, theirs[key]!, MODEL_TOLERANCE, key);
      expect(mismatch && mismatchText(mismatch)).toBe(null);
    }
    expect(await compiled.run(feeds), 'a second run').toEqual(ours);
  });
  it('keeps numbers that JSON has no form for', async () => {
    await using compiled = await CompiledModel.load(await compile(model, { device }));
    expect([
      ...((await compiled.run({ x: tensor('float32', [5], [-1, 0, 1, 2, 3]) })).y!.data as Float32Array),
    ]).toEqual([-1, 0, 1, Infinity, Infinity]);
  });
});

describe('a compiled plan', () => {
  let file: Uint8Array<ArrayBuffer>;
  beforeAll(async () => {
    file = await compile(model, { device: 'wasm' });
  });

  it('is the same bytes each time', async () => expect(await compile(model, { device: 'wasm' })).toEqual(file));
  it('refuses feeds that do not fit, and goes on', async () => {
    await using compiled = await CompiledModel.load(file);
    await expect(compiled.run({})).rejects.toMatchObject({ code: 'input_missing' });
    await expect(compiled.run({ x: tensor('float32', [4], [1, 2, 3, 4]) })).rejects.toMatchObject({
      code: 'input_shape',
    });
    await expect(compiled.run({ x: tensor('int32', [5], [1, 2, 3, 4, 5]) })).rejects.toMatchObject({
      code: 'input_dtype',
    });
    expect((await compiled.run({ x: tensor('float32', [5], [0, 0, 0, 0, 9]) })).y!.data[4]).toBe(Infinity);
  });
  it('refuses a file that is none, or that ends early anywhere', async () => {
    await expect(CompiledModel.load(model as Uint8Array<ArrayBuffer>)).rejects.toMatchObject({
      code: 'model_not_onnx',
    });
    for (let n = 0; n < file.byteLength; n += 37)
      await expect(CompiledModel.load(file.slice(0, n)), `${n} bytes`).rejects.toMatchObject({
        code: expect.stringMatching(/^model_/),
      });
  });
  it('refuses a device that lacks what it was compiled for', async () => {
    const { BASE_GPU } = await import('../src/core/plan.ts');
    const wide = await compile(model, {
      caps: { ...BASE_GPU, limits: { ...BASE_GPU.limits, maxComputeWorkgroupsPerDimension: 2 ** 31 } },
    });
    await expect(CompiledModel.load(wide)).rejects.toMatchObject({ code: 'device_limit' });
  });
  it('refuses a model with nodes for the host, by name', async () => {
    const random = encodeModel(
      {
        inputs: [],
        outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
        weights: [],
        nodes: [
          {
            op: 'RandomNormal',
            name: 'noise',
            inputs: [],
            outputs: ['y'],
            attrs: [{ name: 'shape', kind: 'ints', value: [2] }],
          },
        ],
      },
      { '': 17 },
    );
    await expect(compile(random)).rejects.toMatchObject({
      code: 'not_on_device',
      message: expect.stringContaining('noise/key (sardonyx.RandomKey)'),
    });
  });
});
