/** `sampleTokens`: the host against what softmax says, the GPU against the host. */
import { expect, test } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { bytesOfTensor, type Tensor } from '../src/core/tensor.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { seeded } from '../src/cli/inputs.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { type GpuTensor, gpuTensor, sampleTokens, type SampleOptions, Session } from '../src/index.ts';

const noise = (
  shape: readonly number[],
  seed: number,
  dtype: 'float32' | 'float16' | 'bfloat16' = 'float32',
): Tensor => {
  const random = seeded(seed);
  return fromNumbers(
    dtype,
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 6 * random() - 3),
  );
};
/** The same number each time. */
const always = (v: number) => (): number => v;

test('draws by the softmax, of the likeliest k, of those that make up p', async () => {
  const logits = fromNumbers('float32', [5], [Math.log(1), Math.log(4), Math.log(3), Math.log(0.5), Math.log(1.5)]);
  const drawn = async (options: SampleOptions): Promise<number[]> => {
    const counts = [0, 0, 0, 0, 0];
    for (let i = 0; i < 100; i++)
      counts[(await sampleTokens(logits, { ...options, random: always((i + 0.5) / 100) }))[0]!]!++;
    return counts;
  };
  expect(await drawn({})).toEqual([10, 40, 30, 5, 15]);
  expect(await drawn({ topK: 2 })).toEqual([0, 57, 43, 0, 0]);
  expect(await drawn({ topP: 0.8 })).toEqual([0, 47, 35, 0, 18]);
  expect(await drawn({ topP: 0.69 })).toEqual([0, 57, 43, 0, 0]);
  expect(await drawn({ temperature: 0.5, topK: 2 })).toEqual([0, 64, 36, 0, 0]);
  expect(await drawn({ temperature: 0 })).toEqual([0, 100, 0, 0, 0]);
});

test('the last position of each sequence counts, and the first of equals', async () => {
  expect(
    await sampleTokens(fromNumbers('float32', [2, 3, 2], [9, 0, 9, 0, 0, 9, 9, 0, 0, 9, 4, 4]), { temperature: 0 }),
  ).toEqual([1, 0]);
  expect(
    await sampleTokens(fromNumbers('float16', [3, 2], [9, 0, NaN, -5, -Infinity, -1]), { temperature: 0 }),
  ).toEqual([0, 1, 1]);
});

test('refuses what makes no sense', async () => {
  const logits = noise([7], 1);
  for (const options of [
    { temperature: -1 },
    { temperature: NaN },
    { topK: 0 },
    { topK: 1.5 },
    { topP: 0 },
    { topP: 1.1 },
  ])
    await expect(sampleTokens(logits, options)).rejects.toMatchObject({ code: 'option_invalid' });
  await expect(sampleTokens(fromNumbers('int32', [3], [1, 2, 3]))).rejects.toMatchObject({ code: 'input_dtype' });
  await expect(sampleTokens(noise([2, 0], 1))).rejects.toMatchObject({ code: 'input_shape' });
});

test('the GPU draws what the host draws, and is read nothing but the tokens', async () => {
  const { device } = await requestGpuDevice({ allowSoftware: true });
  const trials: readonly (readonly [Tensor, SampleOptions])[] = [
    [noise([3, 1031], 3), {}],
    [noise([3, 1031], 4), { topK: 17 }],
    [noise([2, 3, 517], 5), { topP: 0.6, temperature: 0.7 }],
    [noise([5], 6), { topK: 9 }],
    [noise([1], 7), {}],
    [noise([4, 300], 8, 'float16'), { topK: 40, topP: 0.9 }],
    [noise([4, 257], 9, 'bfloat16'), { temperature: 3 }],
    [noise([2, 999], 10), { temperature: 0 }],
    [fromNumbers('float32', [2, 4], [NaN, -Infinity, 1, 1, -Infinity, -Infinity, -Infinity, -7]), { topK: 2 }],
  ];
  for (const [n, [logits, options]] of trials.entries()) {
    const bytes = bytesOfTensor(logits);
    const buffer = device.createBuffer({
      size: 512 + Math.ceil(bytes.length / 4) * 4,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    const offset = [0, 256, 12][n % 3]!;
    const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
    whole.set(bytes);
    device.queue.writeBuffer(buffer, offset, whole);
    const there = gpuTensor(logits.dtype, logits.shape, buffer, { device, offset });
    for (const draw of [0, 0.113, 0.5, 0.871, 0.9999])
      expect(await sampleTokens(there, { ...options, random: always(draw) }), `trial ${n} at ${draw}`).toEqual(
        await sampleTokens(logits, { ...options, random: always(draw) }),
      );
    buffer.destroy();
  }
}, 60_000);

test('logits of a session stay on the device', async () => {
  const { device } = await requestGpuDevice({ allowSoftware: true });
  const model = encodeModel(
    {
      inputs: [{ name: 'x', dtype: 'float32', shape: [2, 33] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [2, 33] }],
      weights: [],
      nodes: [{ op: 'Neg', name: 'n', inputs: ['x'], outputs: ['y'], attrs: [] }],
    },
    { '': 17 },
  );
  await using session = await Session.load(model, { device });
  const x = noise([2, 33], 11);
  const { y } = await session.run({ x }, { outputs: 'gpu' });
  const likeliest = [0, 1].map((r) => {
    const row = Array.from(x.data as Float32Array).slice(33 * r, 33 * r + 33);
    return row.indexOf(Math.min(...row));
  });
  expect(await sampleTokens(y!, { temperature: 0 })).toEqual(likeliest);
  y!.dispose();
});

test('tokens stay on the device for the next run, with no wait in between', async () => {
  const { device } = await requestGpuDevice({ allowSoftware: true });
  // A bigram model: the logits of a token are its row of a table.
  const table = noise([41, 41], 12);
  const model = encodeModel(
    {
      inputs: [{ name: 'ids', dtype: 'int64', shape: [3, 1] }],
      outputs: [{ name: 'logits', dtype: 'float32', shape: [3, 1, 41] }],
      weights: [{ name: 'table', tensor: table }],
      nodes: [{ op: 'Gather', name: 'g', inputs: ['table', 'ids'], outputs: ['logits'], attrs: [] }],
    },
    { '': 17 },
  );
  await using session = await Session.load(model, { device });
  const first = fromNumbers('int64', [3, 1], [5, 0, 40]);
  const options = { temperature: 0.8, topK: 7 };
  const steps = 12;
  const wanted: number[][] = [];
  let random = seeded(4);
  for (let given: Tensor = first, i = 0; i < steps; i++) {
    const drawn = await sampleTokens((await session.run({ ids: given }))['logits'] as Tensor, { ...options, random });
    wanted.push(drawn);
    given = fromNumbers('int64', [3, 1], drawn);
  }
  random = seeded(4);
  const read: Promise<Tensor<'int64'>>[] = [];
  let last: GpuTensor<'int64'> | null = null;
  for (let i = 0; i < steps; i++) {
    const { logits }: Record<string, GpuTensor> = await session.run({ ids: last ?? first }, { outputs: 'gpu' });
    last?.dispose();
    last = await sampleTokens(logits!, { ...options, random, outputs: 'gpu' });
    logits!.dispose();
    expect(last).toMatchObject({ dtype: 'int64', shape: [3, 1] });
    read.push(last.read());
  }
  expect((await Promise.all(read)).map((t) => Array.from(t.data, Number))).toEqual(wanted);
  last!.dispose();
  await expect(last!.read()).rejects.toMatchObject({ code: 'value_disposed' });
  await expect(sampleTokens(noise([3], 1) as never, { outputs: 'gpu' })).rejects.toMatchObject({
    code: 'option_invalid',
  });
});
