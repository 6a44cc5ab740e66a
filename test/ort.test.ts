/** The API of onnxruntime-web on Sardonyx: as onnxruntime-common types it, and beside onnxruntime-web itself. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type * as Common from 'onnxruntime-common';
import { afterAll, describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { Session, type Tensor as Own, tensor } from '../src/index.ts';
import * as own from '../src/ort/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

// What a program sees is onnxruntime-common's own interface; this line does not compile otherwise.
const ort: typeof Common = own;
const byDefault: typeof Common = own.default;
const models = resolve(import.meta.dirname, '../../shared/data/models');
const folder = mkdtempSync(join(tmpdir(), 'sardonyx-ort-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const mnist = readFileSync(join(models, 'mnist-8/model.onnx'));
/** What onnxruntime-web says and gives; in a process of its own, since both share onnxruntime-common. */
const theirs = (() => {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `
    import { readFileSync } from 'node:fs'; import * as ort from 'onnxruntime-web';
    ort.env.wasm.numThreads = 1;
    const { file, data } = JSON.parse(readFileSync(0, 'utf8'));
    const s = await ort.InferenceSession.create(readFileSync(file));
    const { inputNames, outputNames, inputMetadata, outputMetadata } = s;
    const y = (await s.run({ [inputNames[0]]: new ort.Tensor('float32', data, [1, 1, 28, 28]) }))[outputNames[0]];
    console.log(JSON.stringify({ about: { inputNames, outputNames, inputMetadata, outputMetadata }, dims: y.dims, data: [...y.data] })); process.exit(0);`,
    ],
    {
      cwd: resolve(import.meta.dirname, '..'),
      encoding: 'utf8',
      input: JSON.stringify({ file: join(models, 'mnist-8/model.onnx'), data: [...noise(784)] }),
    },
  );
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as { about: object; dims: number[]; data: number[] };
})();
/** y = x W, z = x + x. */
const linear = encode({
  input: [port('x', ['batch', 4])],
  output: [port('y', ['batch', 3]), port('z', ['batch', 4])],
  initializer: [initializer('W', tensor('float32', [4, 3], noise(12)))],
  node: [node('MatMul', ['x', 'W'], ['y']), node('Add', ['x', 'x'], ['z'])],
});
const x = (): Common.Tensor => new ort.Tensor('float32', noise(8), [2, 4]);
const z = [...noise(8)].map((v) => Math.fround(v + v));
const gpuOnly = { executionProviders: ['webgpu'] } as const;

describe.each([['wasm'], ['webgpu']] as const)('InferenceSession on %s', (provider) => {
  const options = { executionProviders: [provider] };

  it('gives what onnxruntime-web gives, under the same names and types', async () => {
    const ours = await ort.InferenceSession.create(mnist, options);
    const { inputNames, outputNames, inputMetadata, outputMetadata } = ours;
    expect({ inputNames, outputNames, inputMetadata, outputMetadata }).toEqual(theirs.about);
    const results = await ours.run({ [inputNames[0]!]: new ort.Tensor('float32', noise(784), [1, 1, 28, 28]) });
    const got = results[outputNames[0]!]!;
    expect([got.location, got.type, got.dims]).toEqual(['cpu', 'float32', theirs.dims]);
    expect(Math.max(...(got.data as Float32Array).map((v, i) => Math.abs(v - theirs.data[i]!)))).toBeLessThan(
      1e-5 * Math.max(...theirs.data.map(Math.abs)),
    );
    await ours.release();
  });

  it('fetches what is asked for, into tensors that are there', async () => {
    const session = await ort.InferenceSession.create(linear, options);
    expect(Object.keys(await session.run({ x: x() }, ['z']))).toEqual(['z']);
    const target = new ort.Tensor('float32', new Float32Array(8), [2, 4]);
    const results = await session.run({ x: x() }, { z: target, y: null });
    expect(results.z).toBe(target);
    expect([...(target.data as Float32Array)]).toEqual(z);
    expect(results.y!.dims).toEqual([2, 3]);
    await expect(
      session.run({ x: x() }, { z: new ort.Tensor('float32', new Float32Array(4), [1, 4]) }),
    ).rejects.toThrow(/output z is float32\[1,4\]; the output is float32\[2,4\]/);
    await expect(session.run({ x: x() }, ['no'])).rejects.toThrow(/no/);
    await expect(session.run({})).rejects.toThrow(/x/);
    await expect(session.run({ x: x() }, { terminate: true })).rejects.toThrow(/terminate/);
    expect(Object.keys(await session.run({ x: x() }))).toEqual(['y', 'z']); // still usable
    await session.release();
  });

  it('takes a path, a part of a buffer, external data and dims', async () => {
    const whole = new Uint8Array(linear.length + 20);
    whole.set(linear, 7);
    for (const create of [
      ort.InferenceSession.create(whole.buffer, 7, linear.length, options),
      (async () => {
        writeFileSync(join(folder, 'm.onnx'), linear);
        return ort.InferenceSession.create(join(folder, 'm.onnx'), {
          ...options,
          freeDimensionOverrides: { batch: 2 },
        });
      })(),
    ]) {
      const session = await create;
      expect([...((await session.run({ x: x() })).z!.data as Float32Array)]).toEqual(z);
      await session.release();
    }
    const far = encode({
      input: [port('x', ['batch', 4])],
      output: [port('y', ['batch', 3])],
      node: [node('MatMul', ['x', 'W'], ['y'])],
      initializer: [
        {
          name: 'W',
          dataType: 1,
          dims: [4, 3],
          dataLocation: 1,
          externalData: [
            { key: 'location', value: 'w.bin' },
            { key: 'length', value: '48' },
          ],
        },
      ],
    });
    const weights = new Uint8Array(noise(12).buffer as ArrayBuffer);
    writeFileSync(join(folder, 'w.bin'), weights);
    const near = await ort.InferenceSession.create(linear, options);
    const want = (await near.run({ x: x() }, ['y'])).y!.data;
    for (const data of [weights, new Blob([weights]), weights.buffer, join(folder, 'w.bin')]) {
      const session = await ort.InferenceSession.create(far, { ...options, externalData: [{ path: 'w.bin', data }] });
      expect((await session.run({ x: x() })).y!.data).toEqual(want);
      await session.release();
    }
    await near.release();
  });

  it('takes an empty tensor whose other dims do not fit, as ONNX Runtime does', async () => {
    const session = await ort.InferenceSession.create(
      encode({
        input: [port('x', ['batch', 2]), port('past', ['batch', 'before'])],
        output: [port('y', ['batch', 'all'])],
        node: [node('Concat', ['past', 'x'], ['y'], { axis: 1 })],
      }),
      options,
    );
    const past = (dims: number[]): Common.Tensor =>
      new ort.Tensor('float32', new Float32Array(dims[0]! * dims[1]!), dims);
    const feeds = { x: new ort.Tensor('float32', [1, 2], [1, 2]) };
    expect((await session.run({ ...feeds, past: past([0, 0]) })).y!.dims).toEqual([1, 2]);
    expect((await session.run({ ...feeds, past: past([1, 1]) })).y!.dims).toEqual([1, 3]);
    await expect(session.run({ ...feeds, past: past([2, 1]) })).rejects.toThrow(/\[1,2\].*\[2,1\]/);
    await expect(session.run({ ...feeds, past: past([0, 1]) })).rejects.toThrow(/shape_mismatch/);
    await session.release();
  });

  it('refuses by name what it would otherwise pass over', async () => {
    for (const [wrong, message] of [
      [{ enableProfiling: true }, /enableProfiling .*profile\(\)/],
      [{ optimizedModelFilePath: 'a' }, /optimizedModelFilePath/],
      [{ extra: { session: { a: '1' } } }, /extra/],
      [{ preferredOutputLocation: 'texture' }, /texture/],
      [{ preferredOutputLocation: { no: 'cpu' } }, /no; the model's outputs are y, z/],
      [{ unheardOf: 1 }, /unheardOf/],
    ] as const)
      await expect(ort.InferenceSession.create(linear, { ...options, ...(wrong as object) })).rejects.toThrow(message);
    await expect(ort.InferenceSession.create(linear, { executionProviders: ['webnn'] })).rejects.toThrow(/webnn/);
    await expect(ort.InferenceSession.create(new Uint8Array([1, 2, 3]), options)).rejects.toMatchObject({
      code: expect.stringMatching(/^model_/) as string,
    });
    const session = await ort.InferenceSession.create(linear, {
      ...options,
      enableMemPattern: true,
      executionMode: 'parallel',
      logSeverityLevel: 3,
      graphOptimizationLevel: 'all',
    });
    expect(() => session.startProfiling()).toThrow(/sardonyx\/tune/);
    await session.release();
  });

  it.each([
    'float32',
    'float16',
    'float64',
    'int8',
    'uint8',
    'int16',
    'uint16',
    'int32',
    'uint32',
    'int64',
    'uint64',
    'bool',
    'string',
  ] as const)('carries %s in and out', async (type) => {
    const session = await ort.InferenceSession.create(
      encode({
        input: [port('x', [3], type)],
        output: [port('y', [1, 3], type)],
        node: [node('Unsqueeze', ['x', 'axes'], ['y'])],
        initializer: [initializer('axes', tensor('int64', [1], [0n]))],
      }),
      options,
    );
    const data =
      type === 'string'
        ? ['a', '', 'ü']
        : type === 'float16'
          ? new Uint16Array([0x3c00, 0, 0xbc00])
          : type === 'bool'
            ? [true, false, true]
            : type === 'int64' || type === 'uint64'
              ? [1n, 2n, 3n]
              : [1, 2, 3];
    const t = new ort.Tensor(type, data as number[], [3]);
    const { y } = await session.run({ x: t });
    expect([y!.type, y!.dims, y!.data]).toEqual([type, [1, 3], t.data]);
    await session.release();
  });
});

describe('tensors on the GPU', () => {
  it('go from run to run without leaving it, and are read, released and refused as elsewhere', async () => {
    const session = await ort.InferenceSession.create(linear, {
      ...gpuOnly,
      preferredOutputLocation: { z: 'gpu-buffer' },
    });
    expect(await ort.env.webgpu.device).toBeInstanceOf(GPUDevice);
    const { y, z: first } = await session.run({ x: x() });
    expect([y!.location, first!.location]).toEqual(['cpu', 'gpu-buffer']);
    expect(() => first!.data).toThrow();
    const { z: second } = await session.run({ x: first! });
    expect([...((await second!.getData()) as Float32Array)]).toEqual(z.map((v) => v + v));
    const buffer = first!.gpuBuffer as GPUBuffer;
    const again = ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [2, 4] });
    const { z: third } = await session.run(
      { x: again },
      {
        z: ort.Tensor.fromGpuBuffer(second!.gpuBuffer, {
          dataType: 'float32',
          dims: [2, 4],
          download: async () => (await session.run({ x: second! }, ['z'])).z!.data as Float32Array,
        }),
      },
    );
    expect(third!.location).toBe('gpu-buffer');
    first!.dispose();
    await expect((async () => session.run({ x: first! }))()).rejects.toThrow();
    second!.dispose();
    await session.release();
    const cpu = await ort.InferenceSession.create(linear, { executionProviders: ['wasm'] });
    await expect(cpu.run({ x: again })).rejects.toThrow(/WebGPU/);
    await expect(
      ort.InferenceSession.create(linear, { executionProviders: ['wasm'], preferredOutputLocation: 'gpu-buffer' }),
    ).rejects.toThrow(/WebGPU/);
    await cpu.release();
  });
});

it('has all of it as its default export, too', () => expect(byDefault.InferenceSession).toBe(ort.InferenceSession));

it('runs on the device that env.webgpu is given, and has one before there is a session', async () => {
  const { device: mine } = await requestGpuDevice({ own: true, allowSoftware: true });
  expect(await ort.env.webgpu.device).toBeInstanceOf(GPUDevice);
  ort.env.webgpu.device = mine;
  try {
    const session = await ort.InferenceSession.create(linear, { ...gpuOnly, preferredOutputLocation: 'gpu-buffer' });
    expect(await ort.env.webgpu.device).toBe(mine);
    const { z: sum } = await session.run({ x: x() });
    const copy = mine.createBuffer({ size: 32, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = mine.createCommandEncoder();
    encoder.copyBufferToBuffer(sum!.gpuBuffer as GPUBuffer, 0, copy, 0, 32); // valid on the buffer's own device alone
    mine.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    expect([...new Float32Array(copy.getMappedRange())]).toEqual(z);
    await session.release();
  } finally {
    ort.env.webgpu.device = undefined as never;
    mine.destroy();
  }
});

it('runs on the CPU where no provider is named, and says what cannot leave a session', async () => {
  const session = await ort.InferenceSession.create(
    encode({
      input: [port('x', [2])],
      output: [port('y', [2], 'bfloat16'), port('z', [2])],
      node: [node('Cast', ['x'], ['y'], { to: 16 }), node('Neg', ['x'], ['z'])],
    }),
  );
  const feeds = { x: new ort.Tensor('float32', [1, 2]) };
  expect(session.outputMetadata[0]).toEqual({ name: 'y', isTensor: false });
  await expect(session.run(feeds)).rejects.toThrow(/output y is bfloat16/);
  expect([...((await session.run(feeds, ['z'])).z!.data as Float32Array)]).toEqual([-1, -2]);
  await session.release();
  const direct = await Session.load(linear, { device: 'wasm' });
  expect(((await direct.run({ x: tensor('float32', [2, 4], noise(8)) }))['z'] as Own).data).toEqual(
    Float32Array.from(z),
  );
  await direct.release();
});
