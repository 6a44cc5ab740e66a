import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { Session, type Value } from '../src/index.ts';
import { drawGraph, type Drawn, feedsOf, half, halved, modelOf } from './random-graphs.ts';

/** SARDONYX_SEEDS=1000 SARDONYX_SEED=0 for a long run. */
const count = Number(process.env.SARDONYX_SEEDS ?? 12);
const first = Number(process.env.SARDONYX_SEED ?? 1);
const variants = [
  { device: 'reference', optimize: true },
  { device: 'wasm', optimize: false },
  { device: 'wasm', optimize: true },
  { device: 'webgpu', optimize: false },
  { device: 'webgpu', optimize: true },
] as const;

async function run(
  model: Uint8Array,
  drawn: Drawn,
  seed: number,
  options: { device: 'reference' | 'wasm' | 'webgpu'; optimize: boolean },
): Promise<Record<string, Value>> {
  await using session = await Session.load(model, options);
  return session.run(feedsOf(drawn, seed));
}

/**
 * What differs between a device and the reference, or null. Steps (Round, Floor, comparisons) may flip on a boundary: a
 * rare few elements may differ.
 */
async function difference(
  drawn: Drawn,
  seed: number,
  options: (typeof variants)[number],
  outputs?: readonly string[],
): Promise<string | null> {
  const model = modelOf(drawn, outputs);
  const want = await run(model, drawn, seed, { device: 'reference', optimize: false });
  const got = await run(model, drawn, seed, options);
  for (const [name, value] of Object.entries(want)) {
    const { mismatch } = compareValues(got[name]!, value, { rtol: 2e-3, atol: 2e-4, scaled: true, integers: 1 }, name);
    if (mismatch !== null && (mismatch.of === 1 || mismatch.wrong > mismatch.of * 0.02 + 1))
      return mismatchText(mismatch);
  }
  return null;
}

/** The first value that differs, as a model of its own, saved for whoever looks at it. */
async function shrink(drawn: Drawn, seed: number, options: (typeof variants)[number]): Promise<string> {
  for (const { name } of drawn.nodes.flatMap((n) => n.writes)) {
    const problem = await difference(drawn, seed, options, [name]).catch((e: Error) => e.message);
    if (problem === null) continue;
    const folder = resolve(import.meta.dirname, '../out');
    mkdirSync(folder, { recursive: true });
    const file = resolve(folder, `random-${seed}-${options.device}.onnx`);
    writeFileSync(file, modelOf(drawn, [name]));
    return `${problem}; smallest model: ${file}`;
  }
  return 'only the whole graph shows it';
}

describe.each(variants)('random graphs on $device, optimize $optimize', (options) => {
  it.each(Array.from({ length: count }, (_, i) => first + i))('seed %i', { timeout: 120_000 }, async (seed) => {
    const drawn = drawGraph(seed, 10 + (seed % 31));
    const problem = await difference(drawn, seed, options).catch((e: Error) => e.message);
    if (problem !== null) expect.fail(`${problem}\n${await shrink(drawn, seed, options)}`);
  });
});

/** Rows of the first input: primes above the dims that are drawn. */
const ROWS = [37, 41] as const;
/** The graph of a seed, or of one after it: where dims happen to meet the number of rows, the graph depends on it. */
function anyRows(seed: number): Drawn {
  const text = (d: Drawn): string =>
    JSON.stringify([
      d.nodes.map((n) => n.json),
      [...d.weights].map(([name, t]) => [name, t.shape, Array.from(t.data as Float32Array, String)]),
    ]);
  for (let s = seed; s < seed + 1e6; s += 1e5) {
    const [one, other] = ROWS.map((rows) => drawGraph(s, 8 + (seed % 23), rows)) as [Drawn, Drawn];
    if (text(one) === text(other)) return one;
  }
  throw new Error('every graph depends on the number of rows');
}

describe.each(['wasm', 'webgpu'] as const)('random graphs of any number of rows, on %s', (device) => {
  it.each(Array.from({ length: count }, (_, i) => first + i))('seed %i', { timeout: 120_000 }, async (seed) => {
    const drawn = anyRows(seed);
    const any = modelOf(drawn, undefined, ROWS[0]);
    await using session = await Session.load(any, { device });
    // The first plan, one made after it, one where rows broadcast, and the first again, by one session.
    for (const rows of [ROWS[0], ROWS[1], 1, ROWS[0]]) {
      const feeds = feedsOf(drawn, seed, ROWS[0], rows);
      await using plain = await Session.load(any, { device: 'reference', optimize: false });
      const want = await plain.run(feeds);
      const got = await session.run(feeds);
      for (const [name, value] of Object.entries(want)) {
        const { mismatch } = compareValues(
          got[name]!,
          value,
          { rtol: 2e-3, atol: 2e-4, scaled: true, integers: 1 },
          name,
        );
        if (mismatch !== null && (mismatch.of === 1 || mismatch.wrong > mismatch.of * 0.02 + 1))
          expect.fail(`${rows} rows: ${mismatchText(mismatch)}`);
      }
    }
  });
});

describe.each(['wasm', 'webgpu'] as const)('random graphs in half precision, on %s', (device) => {
  it.each(Array.from({ length: Math.ceil(count / 2) }, (_, i) => first + i))(
    'seed %i',
    { timeout: 120_000 },
    async (seed) => {
      const drawn = halved(drawGraph(seed, 6 + (seed % 20)));
      const model = modelOf(drawn, undefined, undefined, 'float16');
      const feeds = Object.fromEntries(Object.entries(feedsOf(drawn, seed)).map(([name, t]) => [name, half(t)]));
      await using plain = await Session.load(model, { device: 'reference', optimize: false });
      await using session = await Session.load(model, { device });
      const want = await plain.run(feeds);
      const got = await session.run(feeds);
      // Each node of the reference rounds; of a chain that is one kernel only the end does.
      for (const [name, value] of Object.entries(want)) {
        const { mismatch } = compareValues(
          got[name]!,
          value,
          { rtol: 3e-2, atol: 1e-2, scaled: true, integers: 1 },
          name,
        );
        if (mismatch !== null && (mismatch.of < 20 || mismatch.wrong > mismatch.of * 0.1 + 1))
          expect.fail(mismatchText(mismatch));
      }
    },
  );
});
