/**
 * Feeds and results in buffers of their own: bound where they lie, written where they are wanted, changed in place; and
 * always what the host would get.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { byteLength, bytesOfTensor, isTensor, zeros } from '../src/core/tensor.ts';
import {
  type Feeds,
  type GpuTensor,
  gpuTensor,
  printPlan,
  type RunOptions,
  SardonyxError,
  Session,
  type Tensor,
  tensor,
  type Value,
} from '../src/index.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';
import { drawGraph, feedsOf, modelOf } from './random-graphs.ts';

const STORAGE = 0x80;
const COPY_SRC = 4;
const COPY_DST = 8;
let device: GPUDevice;
beforeAll(async () => {
  ({ device } = await requestGpuDevice({ allowSoftware: true }));
});

const f32 = (shape: readonly number[], seed = 1): Tensor =>
  tensor(
    'float32',
    shape,
    noise(
      shape.reduce((n, d) => n * d, 1),
      seed,
    ),
  );
const padded = (n: number): number => Math.max(16, Math.ceil(n / 16) * 16);
/** A tensor of the caller's own, in a buffer with `before` bytes in front and room for whole fours. */
function onGpu(
  t: Tensor,
  {
    before = 0,
    usage = STORAGE | COPY_SRC | COPY_DST,
    size = Math.ceil((before + padded(byteLength(t))) / 16) * 16,
  } = {},
): GpuTensor {
  const buffer = device.createBuffer({ size, usage });
  const bytes = new Uint8Array(Math.ceil(byteLength(t) / 4) * 4);
  bytes.set(bytesOfTensor(t));
  if (bytes.length > 0) device.queue.writeBuffer(buffer, before, bytes);
  return gpuTensor(t.dtype, t.shape, buffer, { device, offset: before });
}
const read = async (v: Value | GpuTensor | undefined): Promise<Value> => ('read' in v! ? v.read() : (v as Value));
const all = async (r: Record<string, Value | GpuTensor>): Promise<Record<string, Value>> =>
  Object.fromEntries(await Promise.all(Object.entries(r).map(async ([n, v]) => [n, await read(v)] as const)));
const codeOf = async (f: () => unknown): Promise<string> => {
  try {
    await f();
  } catch (e) {
    expect(e).toBeInstanceOf(SardonyxError);
    return (e as SardonyxError).code;
  }
  throw new Error('nothing was thrown');
};
const graph = (
  inputs: Readonly<Record<string, Tensor>>,
  outputs: readonly string[],
  nodes: readonly Json[],
  weights: Readonly<Record<string, Tensor>> = {},
  opset = 24,
): Uint8Array =>
  encode(
    {
      input: Object.entries(inputs).map(([n, t]) => port(n, t.shape, t.dtype)),
      output: outputs.map((name) => ({ name })),
      initializer: Object.entries(weights).map(([n, t]) => initializer(n, t)),
      node: nodes,
    },
    opset,
  );
/** What moved within the device while `f` ran, and what objects were made. */
async function costOf<T>(session: Session, f: () => Promise<T>): Promise<{ result: T; copied: number; made: number }> {
  const sum = (): number => session.made.buffers! + session.made.bindGroups! + session.made.pipelines!;
  const [copied, made] = [session.copiedBytes, sum()];
  const result = await f();
  return { result, copied: session.copiedBytes - copied, made: sum() - made };
}

/** Dispatches that are recorded while `f` runs. */
async function dispatchesOf(f: () => Promise<unknown>): Promise<number> {
  const spy = vi.spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups');
  try {
    await f();
    return spy.mock.calls.length;
  } finally {
    spy.mockRestore();
  }
}

const chain = { x: f32([4, 64]), y: f32([4, 64], 2) };
const chainModel = graph(
  chain,
  ['m', 's'],
  [node('MatMul', ['x', 'W'], ['p']), node('Softmax', ['p'], ['m']), node('Add', ['m', 'y'], ['s'])],
  { W: f32([64, 64], 3) },
);

describe('GPU feeds and results', () => {
  it('are bound where they lie, and written where they are wanted: nothing is copied, and a steady loop makes nothing', async () => {
    await using session = await Session.load(chainModel, { device });
    const want = await session.run(chain);
    const fed = { x: onGpu(chain.x), y: onGpu(chain.y, { before: 256 }) };
    const own = { m: onGpu(f32([4, 64], 9)), s: onGpu(f32([4, 64], 9), { before: 512 }) };
    for (const outputs of ['gpu', own, { m: own.m }] as const) {
      const { result, copied } = await costOf(session, () => session.run(fed, { outputs }));
      if (typeof outputs === 'object') expect(result.m).toBe(own.m);
      expect(await all(result)).toEqual(want);
      expect(copied).toBe(0);
    }
    const dispose = (r: Record<string, GpuTensor>): void => {
      for (const t of Object.values(r)) t.dispose();
    };
    let last = await session.run(fed, { outputs: 'gpu' });
    const step = async (): Promise<void> => {
      const next = await session.run({ x: last.m!, y: last.s! }, { outputs: 'gpu' });
      dispose(last);
      last = next;
    };
    for (let i = 0; i < 4; i++) await step();
    const { copied, made } = await costOf(session, async () => {
      for (let i = 0; i < 20; i++) await step();
    });
    expect([copied, made]).toEqual([0, 0]);
    dispose(last);
  });

  it('are copied where they cannot be bound, with the same results', async () => {
    await using session = await Session.load(chainModel, { device });
    const want = await session.run(chain);
    const bytes = 4 * 64 * 4;
    const astray = { x: onGpu(chain.x, { before: 12 }), y: onGpu(chain.y, { usage: COPY_SRC | COPY_DST }) };
    const m = onGpu(chain.x, { before: 4 });
    const { result, copied } = await costOf(session, () => session.run(astray, { outputs: { m } }));
    expect(await all(result)).toEqual(want);
    expect(copied).toBe(3 * bytes);
  });

  it('that do not fill whole fours leave what lies behind them alone', async () => {
    const x = f32([7]);
    await using session = await Session.load(graph({ x }, ['y'], [node('Neg', ['x'], ['y'])]), { device });
    const buffer = device.createBuffer({ size: 64, usage: STORAGE | COPY_SRC | COPY_DST });
    device.queue.writeBuffer(buffer, 0, new Float32Array(16).fill(7));
    await session.run({ x: onGpu(x) }, { outputs: { y: gpuTensor('float32', [7], buffer, { device }) } });
    const got = (await gpuTensor('float32', [16], buffer, { device }).read()).data;
    expect(Array.from(got)).toEqual([...Array.from(x.data as Float32Array, (v) => -v), ...new Array(9).fill(7)]);
  });

  it('may be one tensor for two inputs, and for an output besides', async () => {
    const feeds = { a: f32([3, 16]), b: f32([3, 16]) };
    await using session = await Session.load(
      graph(feeds, ['d', 'e'], [node('Add', ['a', 'b'], ['d']), node('Mul', ['a', 'd'], ['e'])]),
      { device },
    );
    const want = await session.run({ a: feeds.a, b: feeds.a });
    for (const where of ['d', 'e']) {
      const t = onGpu(feeds.a);
      expect(await all(await session.run({ a: t, b: t }, { outputs: { [where]: t } }))).toEqual(want);
    }
  });

  it('may be passed through, seen under another shape, and change places', async () => {
    const feeds = { a: f32([2, 8]), b: f32([2, 8], 2) };
    const model = graph(
      feeds,
      ['c', 'd', 'r', 'n'],
      [
        node('Identity', ['a'], ['c']),
        node('Identity', ['b'], ['d']),
        node('Reshape', ['a', 'to'], ['r']),
        node('Neg', ['a'], ['n']),
      ],
      { to: tensor('int64', [1], [16]) },
    );
    await using session = await Session.load(model, { device });
    const want = await session.run(feeds);
    for (const outputs of ['gpu', { c: 'gpu' }, { r: 'gpu', n: 'gpu' }] as const)
      expect(await all(await session.run({ a: onGpu(feeds.a), b: onGpu(feeds.b) }, { outputs }))).toEqual(want);
    const [a, b] = [onGpu(feeds.a), onGpu(feeds.b)];
    expect(await all(await session.run({ a, b }, { outputs: { c: b, d: a } }))).toEqual(want);
    const [p, q] = [onGpu(feeds.a), onGpu(feeds.b)];
    expect(await all(await session.run({ a: p, b: q }, { outputs: { n: p } }))).toEqual(want);
    // Two ranges of one buffer, the one moved over the other.
    const both = onGpu(f32([32], 5));
    const half = (at: number): GpuTensor => gpuTensor('float32', [2, 8], both.buffer, { device, offset: at });
    device.queue.writeBuffer(both.buffer, 0, feeds.a.data as Float32Array<ArrayBuffer>);
    const moved = await session.run({ a: half(0), b: q }, { outputs: { c: half(32) } });
    expect(await read(moved.c)).toEqual(want.c);
  });

  it('follow shapes that depend on data, and bodies', async () => {
    const feeds = { x: f32([12]), y: f32([12], 3) };
    const model = graph(
      feeds,
      ['z', 'w'],
      [
        node('Mul', ['x', 'y'], ['w']),
        node('NonZero', ['x'], ['i']),
        node('Transpose', ['i'], ['t']),
        node('GatherND', ['w', 't'], ['g']),
        node('Neg', ['g'], ['z']),
      ],
    );
    await using session = await Session.load(model, { device });
    const want = await session.run(feeds);
    const x = onGpu(feeds.x);
    const y = onGpu(feeds.y);
    expect(await all(await session.run({ x, y }, { outputs: { z: 'gpu', w: x } }))).toEqual(want);
  });
});

const cache = f32([2, 3, 16, 8]);
const updates: Readonly<
  Record<string, { readonly feeds: Readonly<Record<string, Tensor>>; readonly nodes: readonly Json[] }>
> = {
  TensorScatter: {
    feeds: { cache, now: f32([2, 3, 2, 8], 2), at: tensor('int64', [2], [5, 9]) },
    nodes: [node('TensorScatter', ['cache', 'now', 'at'], ['present'])],
  },
  ScatterND: {
    feeds: { cache, now: f32([1, 3, 16, 8], 2), at: tensor('int64', [1, 1], [1]) },
    nodes: [node('ScatterND', ['cache', 'at', 'now'], ['present'])],
  },
  ScatterElements: {
    feeds: { cache, now: f32([2, 3, 1, 8], 2), at: tensor('int64', [2, 3, 1, 8], new Array(48).fill(11)) },
    nodes: [node('ScatterElements', ['cache', 'at', 'now'], ['present'], { axis: 2 })],
  },
};

describe.each(Object.entries(updates))('%s in place', (_, { feeds, nodes }) => {
  const sum = node('ReduceSum', ['present'], ['sum'], { keepdims: 0 });
  it('writes only what is new', async () => {
    await using session = await Session.load(graph(feeds, ['present', 'sum'], [...nodes, sum]), { device });
    const want = await session.run(feeds);
    const t = onGpu(cache);
    const { result, copied } = await costOf(session, () =>
      session.run({ ...feeds, cache: t }, { outputs: { present: t } }),
    );
    expect(result.present).toBe(t);
    expect(await all(result)).toEqual(want);
    expect(copied).toBe(0);
    expect(printPlan(session.plan!).match(/\(left out in place\)/g)).toHaveLength(1);
    const again = await costOf(session, () => session.run({ ...feeds, cache: t }, { outputs: { present: t } }));
    expect([again.copied, again.made]).toEqual([0, 0]);
    expect(await all(again.result)).toEqual(await session.run({ ...feeds, cache: want.present! }));
  });

  it('is done elsewhere where what was there is still needed', async () => {
    for (const last of [node('Sub', ['present', 'cache'], ['d']), node('Identity', ['cache'], ['d'])]) {
      await using session = await Session.load(graph(feeds, ['present', 'd'], [...nodes, last]), { device });
      const want = await session.run(feeds);
      const t = onGpu(cache);
      const { result, copied } = await costOf(session, () =>
        session.run({ ...feeds, cache: t }, { outputs: { present: t } }),
      );
      expect(await all(result)).toEqual(want);
      expect(copied).toBeGreaterThanOrEqual(byteLength(cache));
    }
  });
});

describe('tensors for results', () => {
  it('are refused where they do not fit, before anything runs', async () => {
    await using session = await Session.load(chainModel, { device });
    await using wasm = await Session.load(chainModel, { device: 'wasm' });
    const t = onGpu(chain.x);
    const to = (m: GpuTensor): RunOptions & { readonly outputs: Readonly<Record<string, GpuTensor>> } => ({
      outputs: { m },
    });
    expect(await codeOf(() => session.run(chain, to(onGpu(f32([4, 32])))))).toBe('output_invalid');
    expect(await codeOf(() => session.run(chain, to(gpuTensor('int32', [4, 64], t.buffer, { device }))))).toBe(
      'output_invalid',
    );
    expect(
      await codeOf(() =>
        session.run(
          chain,
          to(gpuTensor('float32', [4, 64], device.createBuffer({ size: 1024, usage: STORAGE | COPY_SRC }), { device })),
        ),
      ),
    ).toBe('output_invalid');
    expect(await codeOf(() => session.run(chain, { outputs: { m: t, s: t } }))).toBe('output_invalid');
    expect(await codeOf(() => session.run(chain, { outputs: { nobody: t } }))).toBe('output_unknown');
    expect(await codeOf(() => session.run(chain, to({ ...t })))).toBe('input_device');
    expect(await codeOf(() => wasm.run(chain, to(t)))).toBe('not_on_device');
    const { device: other } = await requestGpuDevice({ allowSoftware: true, own: true });
    const elsewhere = gpuTensor(
      'float32',
      [4, 64],
      other.createBuffer({ size: 1024, usage: STORAGE | COPY_SRC | COPY_DST }),
      { device: other },
    );
    expect(await codeOf(() => session.run(chain, to(elsewhere)))).toBe('input_device');
    other.destroy();
    const gone = onGpu(chain.x);
    gone.buffer.destroy();
    expect(await codeOf(() => session.run(chain, to(gone)))).toBe('input_device');
    expect(await codeOf(() => session.run({ ...chain, x: gone }, { outputs: 'gpu' }))).toBe('input_device');
    t.dispose();
    expect(await codeOf(() => session.run(chain, to(t)))).toBe('value_disposed');
    expect(Object.keys(await session.run(chain))).toEqual(['m', 's']);
  });

  it("are the session's where a run does not say", async () => {
    await using session = await Session.load(chainModel, { device, outputs: { m: 'gpu' } });
    const results = (await session.run(chain)) as Record<string, Value | GpuTensor>;
    expect('read' in results.m!).toBe(true);
    expect(isTensor(results.s as Value)).toBe(true);
    expect(isTensor((await session.run(chain, { outputs: 'cpu' })).m!)).toBe(true);
    expect(await codeOf(() => Session.load(chainModel, { device, outputs: { nobody: 'gpu' } }))).toBe('output_unknown');
    expect(await codeOf(() => Session.load(chainModel, { device: 'wasm', outputs: 'gpu' }))).toBe('not_on_device');
  });

  it('may be wider than the device binds, but not than its buffers', async () => {
    const limited = (limits: Readonly<Record<string, number>>): GPUDevice =>
      new Proxy(device, {
        get: (d, key) => {
          if (key === 'limits')
            return new Proxy(d.limits, { get: (l, name) => limits[name as string] ?? Reflect.get(l, name, l) });
          const value: unknown = Reflect.get(d, key, d);
          return typeof value === 'function' ? value.bind(d) : value;
        },
      });
    const x = f32([64, 64]);
    const model = graph({ x }, ['y'], [node('Neg', ['x'], ['n']), node('Softmax', ['n'], ['y'])]);
    await using wide = await Session.load(model, { device });
    const want = await wide.run({ x });
    await using session = await Session.load(model, { device: limited({ maxStorageBufferBindingSize: 8192 }) });
    const { y } = await session.run({ x }, { outputs: 'gpu' });
    expect((await y!.read()).shape).toEqual([64, 64]);
    const got = (await y!.read()).data as Float32Array;
    const right = (want.y as Tensor).data as Float32Array;
    expect(Math.max(...got.map((v, i) => Math.abs(v - right[i]!)))).toBeLessThan(1e-6);
    await using narrow = await Session.load(model, {
      device: limited({ maxStorageBufferBindingSize: 8192, maxBufferSize: 8192 }),
    });
    expect(await codeOf(() => narrow.run({ x }, { outputs: 'gpu' }))).toBe('device_limit');
    expect(((await narrow.run({ x })).y as Tensor).shape).toEqual([64, 64]);
  });

  it('are on another device once theirs is lost', async () => {
    await using session = await Session.load(chainModel, { device: 'webgpu' });
    const want = await session.run(chain);
    const kept = await session.run(chain, { outputs: 'gpu' });
    const old = session.gpuDevice!;
    old.destroy();
    await old.lost;
    expect(await codeOf(() => session.run({ x: kept.m!, y: chain.y }))).toBe('device_lost');
    expect(await codeOf(() => session.run(chain, { outputs: { m: kept.m! } }))).toBe('device_lost');
    expect(await all(await session.run(chain, { outputs: 'gpu' }))).toEqual(want);
    ({ device } = await requestGpuDevice({ allowSoftware: true }));
  });
});

const SEEDS = Number(process.env.SARDONYX_SEEDS ?? 12);
const FIRST = Number(process.env.SARDONYX_SEED ?? 1);
describe('random graphs', () => {
  it.each(Array.from({ length: SEEDS }, (_, i) => FIRST + i))(
    'give the same wherever feeds and results lie, seed %i',
    { timeout: 120_000 },
    async (seed) => {
      const drawn = drawGraph(seed, 8 + (seed % 17));
      const feeds = feedsOf(drawn, seed);
      // Some values in between are results too, and read on.
      const names = drawn.nodes
        .flatMap((n) => n.writes.map((w) => w.name))
        .filter((_, i, list) => (i * 7 + seed) % 3 === 0 || i === list.length - 1);
      await using session = await Session.load(modelOf(drawn, names), { device });
      const want = await session.run(feeds);
      for (let round = 0; round < 4; round++) {
        const fed: Record<string, GpuTensor> = Object.fromEntries(
          Object.entries(feeds).map(([name, t], i) => [
            name,
            onGpu(t, { before: [0, 256, 4][(seed + round + i) % 3]! }),
          ]),
        );
        // A result of a feed's shape goes over the feed, the others where it comes.
        const free = new Set(Object.values(fed));
        const outputs = Object.fromEntries(
          Object.entries(want).map(([name, value], i): [string, 'cpu' | 'gpu' | GpuTensor] => {
            const t = value as Tensor;
            const over = [...free].find((f) => f.dtype === t.dtype && String(f.shape) === String(t.shape));
            const turn = (seed * 5 + round + i) % 4;
            if (over && turn < 2) {
              free.delete(over);
              return [name, over];
            }
            return [
              name,
              turn === 0
                ? 'cpu'
                : turn === 1
                  ? 'gpu'
                  : onGpu(zeros(t.dtype, t.shape), { before: turn === 2 ? 0 : 256 }),
            ];
          }),
        );
        expect(await all(await session.run(fed, { outputs })), `round ${round}`).toEqual(want);
      }
    },
  );
});

const modelAt = (name: string): string => resolve(import.meta.dirname, `../../shared/data/models/${name}/model.onnx`);
const argmax = (t: Value): number => {
  const d = (t as Tensor).data as Float32Array;
  return d.indexOf(Math.max(...d));
};
const cachesOf = (
  session: Session,
): readonly { name: string; present: string; shape: readonly number[]; dtype: Tensor['dtype'] }[] =>
  session.inputs
    .filter((p) => p.name.startsWith('past_key_values'))
    .map((p) => ({
      name: p.name,
      present: p.name.replace('past_key_values', 'present'),
      shape: p.shape as readonly number[],
      dtype: p.dtype!,
    }));

describe.each(
  ['stories260k-gqa-fp32', 'stories260k-gqa-fp16', 'stories260k-gqa-int4'].filter((name) => existsSync(modelAt(name))),
)('32 tokens of %s', (name) => {
  const PLACES = 48;
  /** Logits of every step, the cache being of `PLACES` from the first. */
  async function decode(
    session: Session,
    way: 'cpu' | 'gpu' | 'in place',
    stop?: (i: number) => AbortSignal | undefined,
  ): Promise<{ logits: Value[]; copied: number; made: number }> {
    const caches = cachesOf(session);
    const empty = ({ dtype, shape }: (typeof caches)[number]): Tensor => {
      const s = [1, shape[1]!, PLACES, shape[3]!];
      return tensor(dtype, s, new Array(s.reduce((a, b) => a * b, 1)).fill(0));
    };
    let past: Feeds = Object.fromEntries(caches.map((c) => [c.name, way === 'in place' ? onGpu(empty(c)) : empty(c)]));
    const logits: Value[] = [];
    let token = 1;
    let from = { copied: 0, made: 0 };
    const now = (): typeof from => ({
      copied: session.copiedBytes,
      made: session.made.buffers! + session.made.bindGroups! + session.made.pipelines!,
    });
    for (let i = 0; i < 32; i++) {
      if (i === 8) from = now();
      const outputs = Object.fromEntries(
        caches.map((c) => [c.present, way === 'in place' ? (past[c.name] as GpuTensor) : way]),
      );
      const feeds = {
        ...past,
        input_ids: tensor('int64', [1, 1], [token]),
        attention_mask: tensor(
          'int64',
          [1, PLACES],
          Array.from({ length: PLACES }, (_, k) => (k <= i ? 1 : 0)),
        ),
      };
      const signal = stop?.(i);
      // What was stopped is done again: it writes the same rows.
      if (signal)
        await session.run(feeds, { outputs, signal }).then(
          (r) => {
            for (const t of Object.values(r)) if ('dispose' in t && way === 'gpu') t.dispose();
          },
          (e: SardonyxError) => expect(e.code).toBe('aborted'),
        );
      const results: Record<string, Value | GpuTensor> = await session.run(feeds, { outputs });
      logits.push(results.logits as Value);
      token = argmax(results.logits as Value);
      if (way === 'gpu') for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
      if (way !== 'in place') past = Object.fromEntries(caches.map((c) => [c.name, results[c.present]!]));
    }
    const end = now();
    for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
    return { logits, copied: end.copied - from.copied, made: end.made - from.made };
  }

  it('are the same with the cache on the host, on the GPU, and written in place: then no byte of it is copied and nothing is made', async () => {
    await using session = await Session.load(modelAt(name), { device });
    const want = await decode(session, 'cpu');
    for (const way of ['gpu', 'in place'] as const) {
      const got = await decode(session, way);
      expect(got.logits).toEqual(want.logits);
      expect([got.copied, got.made]).toEqual([0, 0]);
    }
    // In place each layer's two caches are left alone but for their new rows: the dispatches that copy them are left
    // out.
    expect(session.plan!.steps.filter((s) => s.run === 'gpu' && s.copies)).toHaveLength(cachesOf(session).length);
    const [elsewhere, inPlace] = [
      await dispatchesOf(() => decode(session, 'gpu')),
      await dispatchesOf(() => decode(session, 'in place')),
    ];
    expect(elsewhere - inPlace).toBe(32 * cachesOf(session).length);
    const stopped = await decode(session, 'in place', (i) => (i % 5 === 0 ? AbortSignal.timeout(i % 2) : undefined));
    expect(stopped.logits).toEqual(want.logits);
  });
});

const concatenating = 'stories260k-hf-op17';
describe.skipIf(!existsSync(modelAt(concatenating)))(`32 tokens of ${concatenating}`, () => {
  it('are the same with the cache on the host, on the GPU, and in two buffers of the caller: the past is read once, and not copied', async () => {
    await using session = await Session.load(modelAt(concatenating), { device });
    const caches = cachesOf(session);
    const bytes = (c: (typeof caches)[number], n: number): number => padded(c.shape[1]! * n * c.shape[3]! * 4);
    const buffers = [0, 1].map(() =>
      caches.map((c) => device.createBuffer({ size: bytes(c, 40), usage: STORAGE | COPY_SRC | COPY_DST })),
    );
    async function decode(way: 'cpu' | 'gpu' | 'own'): Promise<Value[]> {
      const logits: Value[] = [];
      let token = 1;
      let past: Feeds = Object.fromEntries(
        caches.map((c) => [c.name, tensor('float32', [1, c.shape[1]!, 0, c.shape[3]!], [])]),
      );
      for (let i = 0; i < 32; i++) {
        const outputs = Object.fromEntries(
          caches.map((c, k) => [
            c.present,
            way === 'own'
              ? gpuTensor('float32', [1, c.shape[1]!, i + 1, c.shape[3]!], buffers[i % 2]![k]!, { device })
              : way,
          ]),
        );
        const ids = (v: number): Tensor => tensor('int64', [1, 1], [v]);
        const copied = session.copiedBytes;
        const results: Record<string, Value | GpuTensor> = await session.run(
          {
            ...past,
            input_ids: ids(token),
            position_ids: ids(i),
            attention_mask: tensor('int64', [1, i + 1], new Array(i + 1).fill(1)),
          },
          { outputs },
        );
        expect(session.copiedBytes).toBe(copied);
        logits.push(results.logits as Value);
        token = argmax(results.logits as Value);
        if (way === 'gpu') for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
        past = Object.fromEntries(caches.map((c) => [c.name, results[c.present]!]));
      }
      for (const t of Object.values(past)) (t as Partial<GpuTensor>).dispose?.();
      return logits;
    }
    const want = await decode('cpu');
    expect(await decode('gpu')).toEqual(want);
    expect(await decode('own')).toEqual(want);
  });
});
