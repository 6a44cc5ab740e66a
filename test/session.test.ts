import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { numbers } from '../src/core/numbers.ts';
import { planModel, printPlan, Session, SardonyxError, type Tensor, tensor, type Value } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const DEVICES = ['reference', 'wasm', 'webgpu'] as const;

/** y = relu(x * W + b) + x, and its softmax. */
const small = encode({
  input: [port('x', ['batch', 8])],
  output: [port('y', ['batch', 8]), port('p', ['batch', 8])],
  initializer: [
    initializer('W', tensor('float32', [8, 8], noise(64))),
    initializer('b', tensor('float32', [8], noise(8, 2))),
  ],
  node: [
    node('MatMul', ['x', 'W'], ['m']),
    node('Add', ['m', 'b'], ['a']),
    node('Relu', ['a'], ['r']),
    node('Add', ['r', 'x'], ['y']),
    node('Softmax', ['y'], ['p']),
  ],
});
const feed = (batch: number, seed = 3): { x: Tensor } => ({ x: tensor('float32', [batch, 8], noise(batch * 8, seed)) });
const values = (v: Value | undefined): number[] => Array.from(numbers(v as Tensor) as Float64Array);
function near(got: Value | undefined, want: Value | undefined): void {
  const [a, b] = [values(got), values(want)];
  expect((got as Tensor).shape).toEqual((want as Tensor).shape);
  a.forEach((v, i) =>
    expect(Math.abs(v - b[i]!), `element ${i}: ${v} and ${b[i]}`).toBeLessThan(1e-5 + 1e-4 * Math.abs(b[i]!)),
  );
}
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
/** Bytes of the JavaScript heap, and of buffers outside it, that are still in use. */
function heapBytes(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
async function errorOf(f: () => Promise<unknown>): Promise<SardonyxError> {
  try {
    await f();
  } catch (e) {
    expect(e).toBeInstanceOf(SardonyxError);
    return e as SardonyxError;
  }
  throw new Error('nothing was thrown');
}

describe.each(DEVICES)('a session on %s', (device) => {
  it('gives what the reference gives, for every batch', async () => {
    await using want = await Session.load(small, { device: 'reference' });
    await using session = await Session.load(small, { device });
    for (const batch of [1, 3, 5, 1, 17]) {
      const [a, b] = [await session.run(feed(batch)), await want.run(feed(batch))];
      near(a.y, b.y);
      near(a.p, b.p);
    }
  });

  it('plans at load for the dims that are given, and stops loading when asked', async () => {
    await using session = await Session.load(small, { device, dims: { batch: 4 } });
    expect(session.plans).toHaveLength(1);
    const compiled = (): unknown[] => ['pipelines', 'bindGroups', 'modules', 'instances'].map((k) => session.made[k]);
    const before = compiled();
    await session.run(feed(4));
    expect(session.plans).toHaveLength(1);
    expect(compiled()).toEqual(before);
    await session.run(feed(5));
    expect(session.plans).toHaveLength(2);
    expect((await errorOf(() => Session.load(small, { device, dims: { bacth: 4 } }))).code).toBe('dimension_unbound');
    expect((await errorOf(() => Session.load(small, { device, signal: AbortSignal.abort() }))).code).toBe('aborted');
  });

  it('makes nothing in a second run of the same dims', async () => {
    await using session = await Session.load(small, { device });
    await session.run(feed(4));
    await session.run(feed(4, 9));
    const { runs: _, ...before } = session.made;
    const bytes = session.bytes;
    for (let i = 0; i < 5; i++) await session.run(feed(4, i));
    const { runs: __, ...after } = session.made;
    expect(after).toEqual(before);
    expect(session.bytes).toBe(bytes);
  });

  it('gives the serial results to overlapping runs, on one session and on two', async () => {
    const sessions = await Promise.all([Session.load(small, { device }), Session.load(small, { device })]);
    const batches = [1, 2, 3, 7, 2, 1];
    const serial: Awaited<ReturnType<Session['run']>>[] = [];
    for (const b of batches) serial.push(await sessions[0]!.run(feed(b, b)));
    const together = await Promise.all(batches.flatMap((b) => sessions.map((s) => s.run(feed(b, b)))));
    together.forEach((r, i) => near(r.y, serial[Math.floor(i / 2)]!.y));
    await Promise.all(sessions.map((s) => s.release()));
  });

  it('stays usable after a refused input', async () => {
    await using session = await Session.load(small, { device });
    const wrong = async (feeds: Record<string, unknown>): Promise<string> =>
      (await errorOf(() => session.run(feeds as never))).code;
    expect(await wrong({})).toBe('input_missing');
    for (const none of [undefined, null, { x: null }, { x: undefined }])
      expect(await wrong(none as never)).toBe('input_missing');
    for (const none of ['x', { dims: [1, 8], type: 'float32', data: new Float32Array(8) }])
      expect(await wrong({ x: none })).toBe('input_dtype');
    expect(await wrong({ ...feed(1), z: feed(1).x })).toBe('input_unknown');
    expect(await wrong({ x: tensor('int32', [1, 8], new Int32Array(8)) })).toBe('input_dtype');
    expect(await wrong({ x: tensor('float32', [1, 9], new Float32Array(9)) })).toBe('input_shape');
    expect(await wrong({ x: tensor('float32', [8], new Float32Array(8)) })).toBe('input_shape');
    expect(await wrong({ x: { dtype: 'float32', shape: [2, 8], data: new Float32Array(8) } })).toBe('input_shape');
    expect(await wrong({ x: { dtype: 'float32', shape: [1, 8], data: new Float64Array(8) } })).toBe('input_dtype');
    expect(await wrong({ x: new Float32Array(8) })).toBe('input_dtype');
    expect(values((await session.run(feed(2))).y)).toHaveLength(16);
  });

  it('runs nothing for empty tensors', async () => {
    await using session = await Session.load(small, { device });
    const { y, p } = await session.run(feed(0));
    expect((y as Tensor).shape).toEqual([0, 8]);
    expect((p as Tensor).shape).toEqual([0, 8]);
  });

  it('follows shapes that depend on data', async () => {
    const model = encode({
      input: [port('x', ['n']), port('k', [1], 'int64')],
      output: [port('y', ['m', 2])],
      initializer: [
        initializer('two', tensor('float32', [1], [2])),
        initializer('shape', tensor('int64', [2], [-1, 2])),
      ],
      node: [
        node('NonZero', ['x'], ['i']),
        node('Transpose', ['i'], ['t']),
        node('Squeeze', ['t', 'one'], ['s']),
        node('Gather', ['x', 's'], ['g']),
        node('Mul', ['g', 'two'], ['d']),
        node('Tile', ['d', 'k'], ['r']),
        node('Reshape', ['r', 'shape'], ['y']),
        node('Constant', [], ['one'], { value: { tensor: tensor('int64', [1], [1]) } }),
      ],
    });
    await using session = await Session.load(model, { device });
    const run = async (x: number[], k: number): Promise<number[]> =>
      values((await session.run({ x: tensor('float32', [x.length], x), k: tensor('int64', [1], [k]) })).y);
    expect(await run([0, 3, 0, 5], 1)).toEqual([6, 10]);
    expect(await run([1, 3, 0, 5], 2)).toEqual([2, 6, 10, 2, 6, 10]);
    expect(await run([0, 3, 0, 5], 3)).toEqual([6, 10, 6, 10, 6, 10]);
    expect(await run([0, 7, 0, 5], 1)).toEqual([14, 10]);
  });

  it('takes the branch that the data says, and loops', async () => {
    const branch = (op: string) => ({ output: [port(`${op}_out`, ['n'])], node: [node(op, ['x'], [`${op}_out`])] });
    const body = {
      input: [port('iter', [], 'int64'), port('go', [], 'bool'), port('acc', ['n'])],
      output: [port('go_out', [], 'bool'), port('acc_out', ['n']), port('each', ['n'])],
      node: [
        node('Add', ['acc', 'x'], ['acc_out']),
        node('Identity', ['go'], ['go_out']),
        node('Neg', ['acc_out'], ['each']),
      ],
    };
    const model = encode({
      input: [port('x', ['n']), port('c', [], 'bool'), port('trips', [], 'int64')],
      output: [port('y', ['n']), port('sum', ['n']), port('all', ['t', 'n'])],
      initializer: [initializer('true', tensor('bool', [], [true]))],
      node: [
        node('If', ['c'], ['y'], { then_branch: { graph: branch('Relu') }, else_branch: { graph: branch('Neg') } }),
        node('Loop', ['trips', 'true', 'x'], ['sum', 'all'], { body: { graph: body } }),
      ],
    });
    await using session = await Session.load(model, { device });
    const run = (c: boolean, trips: number) =>
      session.run({
        x: tensor('float32', [2], [-1, 2]),
        c: tensor('bool', [], [c]),
        trips: tensor('int64', [], [trips]),
      });
    const a = await run(true, 2);
    expect([values(a.y), values(a.sum), values(a.all)]).toEqual([
      [0, 2],
      [-3, 6],
      [2, -4, 3, -6],
    ]);
    const b = await run(false, 0);
    expect([values(b.y), values(b.sum), (b.all as Tensor).shape[0]]).toEqual([[1, -2], [-1, 2], 0]);
  });

  it('names the node when an index is out of range', async () => {
    const model = encode({
      input: [port('x', [4, 2]), port('i', ['n'], 'int64')],
      output: [port('y', ['n', 2])],
      node: [node('Gather', ['x', 'i'], ['y'])],
    });
    await using session = await Session.load(model, { device });
    const run = (i: number) => session.run({ x: tensor('float32', [4, 2], noise(8)), i: tensor('int64', [2], [1, i]) });
    expect(values((await run(-4)).y)).toHaveLength(4);
    const error = await errorOf(() => run(4));
    expect(error.code).toBe('value_invalid');
    expect(error.message).toContain('/Gather:y');
    expect(values((await run(3)).y)).toHaveLength(4);
  });

  it('refuses sequences longer than a recurrent layer is', async () => {
    const model = encode({
      input: [port('x', [3, 2, 1]), port('n', [2], 'int32')],
      output: [port('y', [3, 1, 2, 1])],
      initializer: [initializer('w', tensor('float32', [1, 1, 1], [1]))],
      node: [node('RNN', ['x', 'w', 'w', '', 'n'], ['y'], { hidden_size: 1 })],
    });
    await using session = await Session.load(model, { device });
    const run = (n: number) =>
      session.run({ x: tensor('float32', [3, 2, 1], noise(6)), n: tensor('int32', [2], [1, n]) });
    const y = values((await run(2)).y);
    expect(y.map((v) => v !== 0)).toEqual([true, true, false, true, false, false]);
    for (const n of [4, -1]) expect((await errorOf(() => run(n))).code).toBe('value_invalid');
  });

  it('can be stopped in a loop that never ends', async () => {
    const body = {
      name: 'body',
      input: [port('i', [], 'int64'), port('c', [], 'bool'), port('v', [2])],
      output: [port('c2', [], 'bool'), port('v2', [2])],
      node: [node('Identity', ['c'], ['c2']), node('Neg', ['v'], ['v2'])],
    };
    const model = encode({
      input: [port('x', [2]), port('n', [], 'int64')],
      output: [port('y', [2])],
      node: [node('Loop', ['n', '', 'x'], ['y'], { body: { graph: body } })],
    });
    await using session = await Session.load(model, { device });
    const run = (n: bigint, signal?: AbortSignal): ReturnType<Session['run']> =>
      session.run({ x: tensor('float32', [2], [1, 2]), n: tensor('int64', [], [n]) }, signal ? { signal } : {});
    const stop = new AbortController();
    let stopped = 0;
    setTimeout(() => {
      stop.abort();
      stopped = performance.now();
    }, 100);
    expect((await errorOf(() => run(2n ** 62n, stop.signal))).code).toBe('aborted');
    expect(values((await run(3n)).y)).toEqual([-1, -2]);
    expect(performance.now() - stopped).toBeLessThan(1000);
  }, 20_000);

  it('can be aborted, and released while it runs', async () => {
    const session = await Session.load(small, { device });
    expect((await errorOf(() => session.run(feed(2), { signal: AbortSignal.abort() }))).code).toBe('aborted');
    const last = session.run(feed(2));
    await session.release();
    expect(values((await last).y)).toHaveLength(16);
    expect((await errorOf(() => session.run(feed(2)))).code).toBe('session_released');
    expect(session.bytes).toBe(0);
  });

  it('does not grow over runs, dims and sessions', { timeout: 240_000 }, async () => {
    const session = await Session.load(small, { device });
    for (let i = 0; i < 30; i++) await session.run(feed(1 + (i % 5)));
    const settled = session.bytes;
    const heap = heapBytes();
    for (let i = 0; i < 1000; i++) await session.run(feed(1 + (i % 5)));
    expect(session.bytes).toBe(settled);
    expect(heapBytes() - heap).toBeLessThan(2 << 20); // compiled code and type feedback come and go
    for (let i = 0; i < 64; i++) await session.run(feed(6 + i)); // more dims than plans are kept
    const full = session.bytes;
    for (let i = 0; i < 64; i++) await session.run(feed(6 + i));
    expect(session.bytes).toBe(full);
    await session.release();
    expect(session.bytes).toBe(0);
    for (let i = 0; i < 100; i++) {
      const s = await Session.load(small, { device });
      await s.run(feed(2));
      await s.release();
      expect(s.bytes).toBe(0);
    }
  });
});

describe.skipIf(process.platform !== 'linux')('a machine without a GPU', () => {
  /** Loads the net in a process that finds no Vulkan driver. */
  const load = (device: string): { device?: string; code?: string; message?: string } => {
    const script = `import { Session } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../dist/index.js')).href)};
      try { const s = await Session.load(new Uint8Array(${JSON.stringify([...small])}), { device: ${JSON.stringify(device)} }); console.log(JSON.stringify({ device: s.device })); }
      catch (e) { console.log(JSON.stringify({ code: e.code, message: e.message })); }
      process.exit(0);`;
    const { VK_ICD_FILENAMES: _, LD_LIBRARY_PATH: __, ...env } = process.env;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...env, VK_ICD_FILENAMES: '/nowhere.json', VK_DRIVER_FILES: '/nowhere.json' },
      encoding: 'utf8',
    });
    return JSON.parse(stdout.trim().split('\n').at(-1)!) as { device?: string };
  };
  it('runs on WASM', () => expect(load('auto')).toEqual({ device: 'wasm' }));
  it('says what to do when WebGPU is asked for', () => {
    const { code, message } = load('webgpu');
    expect(code).toBe('device_unavailable');
    expect(message).toMatch(/driver/i);
  });
});

describe('loading', () => {
  it('lists every operator that is missing', async () => {
    const model = encode({
      input: [port('x', [2])],
      output: [port('y', [2])],
      node: [node('Frobnicate', ['x'], ['a']), node('Nonsense', ['a'], ['b']), node('Frobnicate', ['b'], ['y'])],
    });
    const error = await errorOf(() => Session.load(model, { device: 'reference' }));
    expect(error.code).toBe('op_unsupported');
    expect(error.message).toMatch(/Frobnicate \(2 nodes.*Nonsense \(1 node/s);
  });

  it('refuses attributes and arities that the operator does not have, with the node', async () => {
    const load = (n: ReturnType<typeof node>) =>
      errorOf(() =>
        Session.load(encode({ input: [port('x', [2])], output: [port('y', [2])], node: [n] }), { device: 'reference' }),
      );
    expect((await load(node('Softmax', ['x'], ['y'], { axes: 1 }))).message).toMatch(
      /attribute_invalid.*axes[\s\S]*\/Softmax:y/,
    );
    expect((await load(node('Softmax', ['x'], ['y'], { axis: 'last' }))).code).toBe('attribute_invalid');
    expect((await load(node('Softmax', ['x', 'x'], ['y']))).code).toBe('shape_mismatch');
    expect((await load(node('Concat', [], ['y'], { axis: 0 }))).code).toBe('input_missing');
  });

  it('refuses types and shapes that do not fit, with the node, before anything runs', async () => {
    const model = encode({
      input: [port('x', ['n', 3]), port('z', ['n', 4])],
      output: [port('y', ['n', 4])],
      node: [node('Add', ['x', 'z'], ['y'])],
    });
    await using session = await Session.load(model, { device: 'wasm' });
    const error = await errorOf(() =>
      session.run({ x: tensor('float32', [2, 3], noise(6)), z: tensor('float32', [2, 4], noise(8)) }),
    );
    expect([error.code, error.path]).toEqual(['shape_mismatch', ['model model', 'node /Add:y (Add)']]);
  });

  it('refuses a shape that a tiny model merely claims', async () => {
    const model = encode({
      input: [port('s', [3], 'int64')],
      output: [port('y', ['a', 'b', 'c'])],
      node: [node('ConstantOfShape', ['s'], ['c']), node('Neg', ['c'], ['y'])],
    });
    for (const device of DEVICES) {
      await using session = await Session.load(model, { device });
      const error = await errorOf(() => session.run({ s: tensor('int64', [3], [1 << 20, 1 << 20, 1 << 10]) }));
      expect(error.code).toBe('model_too_large');
    }
  });

  it('reads weights from files beside the model, and from nowhere else', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sardonyx-'));
    try {
      mkdirSync(join(folder, 'm'));
      const weights = noise(16);
      writeFileSync(join(folder, 'm', 'w.bin'), new Uint8Array(weights.buffer));
      writeFileSync(join(folder, 'secret.bin'), new Uint8Array(64));
      symlinkSync(join(folder, 'secret.bin'), join(folder, 'm', 'link.bin'));
      const model = (location: string) =>
        encode({
          input: [port('x', [1, 4])],
          output: [port('y', [1, 4])],
          node: [node('MatMul', ['x', 'W'], ['y'])],
          initializer: [
            {
              name: 'W',
              dataType: 1,
              dims: [4, 4],
              dataLocation: 1,
              externalData: [
                { key: 'location', value: location },
                { key: 'length', value: '64' },
              ],
            },
          ],
        });
      const run = async (location: string, externalData?: Record<string, Uint8Array>) => {
        writeFileSync(join(folder, 'm', 'model.onnx'), model(location));
        await using session = await Session.load(join(folder, 'm', 'model.onnx'), {
          device: 'wasm',
          ...(externalData ? { externalData } : {}),
        });
        return values((await session.run({ x: tensor('float32', [1, 4], [1, 0, 0, 0]) })).y);
      };
      expect(await run('w.bin')).toEqual([...weights.subarray(0, 4)]);
      expect(await run('given.bin', { 'given.bin': new Uint8Array(weights.buffer) })).toEqual([
        ...weights.subarray(0, 4),
      ]);
      expect((await errorOf(() => run('none.bin'))).code).toBe('external_data_missing');
      for (const bad of ['../secret.bin', 'link.bin', 'a/../../secret.bin', '/etc/passwd', '..\\secret.bin'])
        expect((await errorOf(() => run(bad))).code, bad).toBe('external_data_unsafe');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('says what is wrong with bytes that are no model', async () => {
    for (const [bytes, code] of [
      [new Uint8Array(0), /model_/],
      [new TextEncoder().encode('<!doctype html><p>404'), /model_not_onnx.*HTML/i],
      [small.subarray(0, small.length - 20), /model_malformed/],
    ] as const) {
      expect((await errorOf(() => Session.load(bytes, { device: 'reference' }))).message).toMatch(code);
    }
    expect((await errorOf(() => Session.load('/nowhere/model.onnx', { device: 'reference' }))).code).toBe(
      'source_failed',
    );
  });
});

describe('a plan', () => {
  it('is made without a device, prints, and is the same every time', async () => {
    const one = await planModel(small, { device: 'webgpu', dims: { batch: 3 } });
    const two = await planModel(small, { device: 'webgpu', dims: { batch: 3 } });
    expect(JSON.stringify(one.plan)).toBe(JSON.stringify(two.plan));
    expect(one.complete).toBe(true);
    expect(printPlan(one.plan)).toMatch(/plan of model on webgpu: \d+ steps/);
    expect(one.plan.peakBytes).toBeGreaterThanOrEqual(one.plan.lowerBoundBytes);
  });

  it('names the dims that are not bound', async () => {
    const error = await errorOf(() => planModel(small, { device: 'wasm' }));
    expect([error.code, error.message]).toEqual(['dimension_unbound', expect.stringContaining('"batch"')]);
  });

  it.each([NaN, -1, 1.5, Infinity, '3'])('takes no dim of %j', async (batch) => {
    const error = await errorOf(() => planModel(small, { dims: { batch: batch as number } }));
    expect([error.code, error.message]).toEqual([
      'option_invalid',
      expect.stringMatching(/batch must be a whole number/),
    ]);
  });

  it.each([{ device: 'gpu' as 'webgpu' }, { memory: NaN }, { memory: '1 GB' as never }])('refuses %j', async (option) =>
    expect((await errorOf(() => planModel(small, { dims: { batch: 1 }, ...option }))).code).toBe('option_invalid'),
  );
});
