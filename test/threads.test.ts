/** The CPU path on several threads and in a worker: the same bits, and what happens when workers die. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { findCases } from '../src/cli/cases.ts';
import { recordedFeeds } from '../src/cli/verify.ts';
import { BASE_WASM } from '../src/core/plan.ts';
import { bytesOfTensor } from '../src/core/tensor.ts';
import { crewsAtWork } from '../src/4-run/wasm/crew.ts';
import { openEngine } from '../src/4-run/wasm/engine.ts';
import { type Feeds, type Results, Session, type SessionOptions, type Tensor, tensor } from '../src/index.ts';
import { i32 } from '../kernels/wasm/asm.ts';
import { kernelModule } from '../kernels/wasm/module.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const models = resolve(import.meta.dirname, '../../shared/data/models');
const WAYS = [
  { threads: 1 },
  { threads: 2 },
  { threads: 3 },
  { threads: 1, worker: true },
  { threads: 2, worker: true },
] as const satisfies readonly SessionOptions[];

/** Convolutions of all kinds, a product, a softmax and a sum: `blocks` times what takes a few milliseconds. */
function heavy(blocks: number, size = 48): Uint8Array {
  const nodes = [];
  const weights = [];
  let x = 'x';
  for (let b = 0; b < blocks; b++) {
    weights.push(
      initializer(
        `A${b}`,
        tensor(
          'float32',
          [24, 24, 3, 3],
          noise(5184, b).map((v) => v / 12),
        ),
      ),
      initializer(`D${b}`, tensor('float32', [24, 1, 3, 3], noise(216, b))),
      initializer(`M${b}`, tensor('float32', [size, size], noise(size * size, b))),
    );
    nodes.push(
      node('Conv', [x, `A${b}`], [`a${b}`], { pads: [1, 1, 1, 1] }),
      node('Conv', [`a${b}`, `D${b}`], [`d${b}`], { pads: [1, 1, 1, 1], group: 24 }),
      node('MatMul', [`d${b}`, `M${b}`], [`m${b}`]),
      node('Softmax', [`m${b}`], [`s${b}`], { axis: -1 }),
      node('Add', [`s${b}`, x], [`y${b}`]),
    );
    x = `y${b}`;
  }
  return encode({
    input: [port('x', [1, 24, size, size])],
    output: [port(x, [1, 24, size, size])],
    initializer: weights,
    node: nodes,
  });
}
const feed = (seed = 1, size = 48): Feeds => ({
  x: tensor('float32', [1, 24, size, size], noise(24 * size * size, seed)),
});
const bits = (results: Results): string[] =>
  Object.values(results).map((t) => Buffer.from(bytesOfTensor(t as Tensor)).toString('base64'));
const codeOf = (run: Promise<unknown>): Promise<string | undefined> =>
  run.then(
    () => undefined,
    (e: { code?: string }) => e.code,
  );
const wait = (ms: number): Promise<void> =>
  new Promise((done) => {
    setTimeout(done, ms);
  });
async function until(what: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  for (const end = performance.now() + ms; !(await what()); ) {
    if (performance.now() > end) throw new Error(`waited ${ms} ms in vain`);
    await wait(5);
  }
}
const lanes = async () => (await crewsAtWork()).flatMap((c) => c.lanes.filter((l) => l !== undefined));

afterEach(async () => {
  expect(await lanes()).toHaveLength(0);
}); // released sessions leave no worker behind

describe('results', () => {
  it('have the same bits on any number of threads, in place and in a worker', async () => {
    await using one = await Session.load(heavy(3), { device: 'wasm', threads: 1 });
    const want = [bits(await one.run(feed(1))), bits(await one.run(feed(2)))];
    expect(want[0]).not.toEqual(want[1]);
    for (const way of WAYS) {
      await using session = await Session.load(heavy(3), { device: 'wasm', ...way });
      expect(session.engine).toMatchObject({ threads: way.threads, worker: 'worker' in way });
      for (let i = 0; i < 20; i++) expect(bits(await session.run(feed(1 + (i % 2))))).toEqual(want[i % 2]);
      expect(session.plan!.steps.some((s) => s.run === 'wasm' && s.split !== undefined)).toBe(way.threads > 1);
    }
  });

  const names = [
    'mnist-8',
    'silero-vad-v5',
    'ppocr-cls',
    'whisper-mini-enc-synth',
    'stories260k-gqa-int4',
    'convnext-mini-synth',
    'genai-tiny-lfm2',
  ].filter((name) => existsSync(resolve(models, name, 'model.onnx')));
  it.each(names)('of %s have the same bits too', async (name) => {
    const [one] = findCases(resolve(models, name));
    await using reference = await Session.load(one!.model, { device: 'reference' });
    const feeds = await recordedFeeds(reference, one!.sets[0]!, { inputTypes: reference.inputs.map(() => null) });
    let want: string[] | undefined;
    for (const way of WAYS) {
      await using session = await Session.load(one!.model, { device: 'wasm', ...way });
      const got = bits(await session.run(feeds));
      expect(got).toEqual((want ??= got));
    }
  });

  it('come with a bad value refused, by the name of its node', async () => {
    const gather = encode({
      input: [port('x', [1000, 64]), port('i', [5000], 'int64')],
      output: [port('y', [5000, 64])],
      node: [node('Gather', ['x', 'i'], ['g']), node('Relu', ['g'], ['y'])],
    });
    const x = tensor('float32', [1000, 64], noise(64000));
    const good = BigInt64Array.from({ length: 5000 }, (_, i) => BigInt(i % 1000));
    const bad = good.slice();
    bad[4999] = 1000n;
    for (const way of WAYS) {
      await using session = await Session.load(gather, { device: 'wasm', ...way });
      await expect(session.run({ x, i: tensor('int64', [5000], bad) })).rejects.toMatchObject({
        code: 'value_invalid',
        path: expect.arrayContaining([expect.stringContaining('Gather')]),
      });
      await session.run({ x, i: tensor('int64', [5000], good) });
    }
  });
});

/**
 * run(here, n, flags): for thread t, `here` is `flags` + 4 t. A part on a helper counts itself in flags[8] and waits
 * until flags[16] is set; one on thread 0 waits until a helper has come. Status 1 if that takes too long.
 */
const meeting = kernelModule(
  'meeting',
  ['i32', 'i32', 'i32'],
  { ...BASE_WASM, shared: true },
  (f) => {
    const here = f.arg('i32', 0);
    const flags = f.arg('i32', 2);
    const n = f.let(i32.const(0));
    const waitFor = (off: number): void => {
      f.whileLoop(
        () => i32.and(i32.eqz(i32.atomicLoad(flags, off)), i32.ltu(n, 2_000_000_000)),
        () => f.inc(n, 1),
      );
      f.ret(i32.eqz(i32.atomicLoad(flags, off)));
    };
    f.iff(i32.eq(here, flags), () => {
      f.whileLoop(
        () => i32.and(i32.eqz(i32.atomicLoad(flags, 32)), i32.ltu(n, 2_000_000_000)),
        () => f.inc(n, 1),
      );
      f.returnNow(i32.eqz(i32.atomicLoad(flags, 32)));
    });
    f.drop(i32.atomicAdd(flags, 1, 32));
    waitFor(64);
  },
  true,
);

/**
 * run(n, calls, whole, part): idles for so many rounds of a loop, by whether it is the whole call (2 items) or a part,
 * and counts those at `calls`.
 */
const idling = kernelModule('idling', ['i32', 'i32', 'i32', 'i32'], { ...BASE_WASM, shared: true }, (f) => {
  const [n, calls, whole, part] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2), f.arg('i32', 3)];
  const left = f.let(i32.select(i32.eq(n, 2), whole, part));
  f.drop(i32.atomicAdd(i32.add(calls, i32.shl(n, 2)), 1));
  f.whileLoop(
    () => left,
    () => {
      f.drop(i32.atomicAdd(calls, 1));
      f.inc(left, -1);
    },
  );
});

describe('helpers', () => {
  it('are asked for short calls only as long as that is quicker', async () => {
    const engine = await openEngine({ threads: 2 });
    const space = engine.open(async () => undefined);
    const calls = space.heap.take(64);
    const asked = async (whole: number, part: number): Promise<number> => {
      space.write(calls, new Uint8Array(16));
      const list = space.list([
        {
          code: space.code('idling', idling),
          args: [2, calls, whole, part],
          parts: 2,
          size: 1,
          split: { items: 0, grain: 1, moves: [], cost: 1e5 },
          short: true,
        },
      ]);
      for (let i = 0; i < 72; i++) await space.run(list, 0, 1, []);
      const [, parts, wholes] = new Int32Array(space.view(calls, 12)!.slice().buffer);
      expect(parts! / 2 + wholes!).toBe(72);
      return parts! / 2;
    };
    const crew = (await crewsAtWork()).find((c) => c.threads === 2 && !c.remote)!;
    space.list([
      {
        code: space.code('idling', idling),
        args: [2, calls, 0, 0],
        parts: 2,
        size: 1,
        split: { items: 0, grain: 1, moves: [], cost: 1e5 },
      },
    ]);
    await until(() => crew.ready);
    expect(await asked(0, 200_000)).toBe(4 + 4); // of the first 8 every other, then of 64 every 16th
    expect(await asked(1_000_000, 10)).toBe(4 + 63);
    space.close();
    engine.close();
  });

  /** An engine with a list of one call in two parts, which ends only if a helper does one of them. */
  async function meet(worker: boolean) {
    const engine = await openEngine({ threads: 2, worker });
    const space = engine.open(async () => undefined);
    const flags = space.heap.take(256);
    const set = (off: number, v: number): void => space.write(flags + off, new Uint8Array(Int32Array.of(v).buffer));
    for (const off of [32, 64]) set(off, 0);
    const list = space.list([
      {
        code: space.code('meeting', meeting),
        args: [flags, 2, flags],
        parts: 2,
        size: 1,
        split: { items: 1, grain: 1, moves: [], own: [[0, 4]], cost: 1e6 },
      },
    ]);
    const crew = (await crewsAtWork()).find((c) => c.threads === 2 && c.remote === worker)!;
    const helperIsThere = (): Promise<void> => until(() => crew.ready);
    return {
      engine,
      space,
      list,
      set,
      crew,
      helperIsThere,
      end: () => {
        space.close();
        engine.close();
      },
    };
  }

  it.each([false, true])('take parts of a call at the same time (worker: %s)', async (worker) => {
    const { space, list, set, helperIsThere, end } = await meet(worker);
    await helperIsThere();
    set(64, 1);
    for (let i = 0; i < 50; i++) {
      set(32, 0);
      expect((await space.run(list, 0, 1, [])).failure).toBeNull();
    }
    end();
  });

  it.each([false, true])(
    'that die in the middle of a part are an error, and are replaced (worker: %s)',
    async (worker) => {
      const { space, list, set, crew, helperIsThere, end } = await meet(worker);
      await helperIsThere();
      const run = Promise.resolve(space.run(list, 0, 1, [])); // the helper waits for flag 64
      await wait(250);
      crew.lanes[1]!.stop();
      expect(await codeOf(run)).toBe('device_lost');
      expect(space.lost).toBe(true);
      await space.repair();
      await helperIsThere();
      set(32, 0);
      set(64, 1);
      expect((await space.run(list, 0, 1, [])).failure).toBeNull();
      end();
    },
  );
});

describe('a worker', () => {
  it('that dies is an error, and the next run has a new one with all weights', async () => {
    for (const threads of [1, 2]) {
      await using session = await Session.load(heavy(40, 64), { device: 'wasm', threads, worker: true });
      await using other = await Session.load(heavy(1), { device: 'wasm', threads, worker: true });
      const want = [bits(await session.run(feed(1, 64))), bits(await other.run(feed()))];
      const run = session.run(feed(1, 64));
      await wait(20);
      (await lanes())[0]!.stop();
      expect(await codeOf(run)).toBe('device_lost');
      expect(bits(await session.run(feed(1, 64)))).toEqual(want[0]);
      expect(bits(await other.run(feed()))).toEqual(want[1]);
    }
  });

  it("hears an abort between steps, and so does the caller's thread", async () => {
    for (const worker of [true, false]) {
      await using session = await Session.load(heavy(60, 64), { device: 'wasm', worker });
      const feeds = feed(1, 64);
      const want = bits(await session.run(feeds));
      const abort = new AbortController();
      let at = 0;
      setTimeout(() => {
        at = performance.now();
        abort.abort();
      }, 40);
      expect(await codeOf(session.run(feeds, { signal: abort.signal }))).toBe('aborted');
      expect(performance.now() - at).toBeLessThan(100);
      expect(bits(await session.run(feeds))).toEqual(want);
    }
  });

  it("leaves the caller's thread free, and serves sessions in turn", async () => {
    await using long = await Session.load(heavy(60, 64), { device: 'wasm', worker: true });
    await using short = await Session.load(heavy(1), { device: 'wasm', worker: true });
    await Promise.all([long.run(feed(1, 64)), short.run(feed())]);
    let gap = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      gap = Math.max(gap, now - last);
      last = now;
    }, 2);
    const order: string[] = [];
    await Promise.all([
      long.run(feed(1, 64)).then(() => order.push('long')),
      wait(20)
        .then(() => short.run(feed()))
        .then(() => order.push('short')),
    ]);
    clearInterval(timer);
    expect(order).toEqual(['short', 'long']);
    expect(gap).toBeLessThan(100); // a run in this thread would take several times that
  });
});

it('does not grow over many runs', async () => {
  for (const way of WAYS) {
    await using session = await Session.load(heavy(1, 16), { device: 'wasm', ...way });
    await session.run(feed(1, 16));
    const before = { ...session.made, bytes: session.bytes, lanes: (await lanes()).length };
    for (let i = 0; i < 500; i++) await session.run(feed(1, 16));
    expect({ ...session.made, bytes: session.bytes, lanes: (await lanes()).length }).toEqual(before);
  }
});

it('lets the process end, with sessions that were never released', () => {
  const entry = pathToFileURL(resolve(import.meta.dirname, '../dist/index.js')).href;
  const code = `const { Session, tensor } = await import(${JSON.stringify(entry)});
    const model = Uint8Array.from(atob(${JSON.stringify(Buffer.from(heavy(2)).toString('base64'))}), (c) => c.charCodeAt(0));
    for (const way of [{ threads: 3 }, { threads: 2, worker: true }]) {
      const session = await Session.load(model, { device: 'wasm', ...way });
      for (let i = 0; i < 5; i++) await session.run({ x: tensor('float32', [1, 24, 48, 48], new Float32Array(24 * 48 * 48)) });
    }
    console.log('ran');`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect([status, stdout.trim(), stderr]).toEqual([0, 'ran', '']);
});

it('refuses numbers of threads that are none', async () => {
  for (const threads of [0, 1.5, 1000, Number.NaN])
    expect(await codeOf(Session.load(heavy(1), { device: 'wasm', threads }))).toBe('option_invalid');
});
