import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { Session, type Value } from '../src/index.ts';
import { drawGraph, type Drawn, feedsOf, modelOf } from './random-graphs.ts';

/** SARDONYX_SEEDS=1000 SARDONYX_SEED=0 for a long run. */
const count = Number(process.env.SARDONYX_SEEDS ?? 12);
const first = Number(process.env.SARDONYX_SEED ?? 1);
const variants = [
  { device: 'reference', optimize: true }, { device: 'wasm', optimize: false }, { device: 'wasm', optimize: true }, { device: 'webgpu', optimize: false }, { device: 'webgpu', optimize: true },
] as const;

async function run(model: Uint8Array, drawn: Drawn, seed: number, options: { device: 'reference' | 'wasm' | 'webgpu'; optimize: boolean }): Promise<Record<string, Value>> {
  await using session = await Session.load(model, options);
  return session.run(feedsOf(drawn, seed));
}

/** What differs between a device and the reference, or null. Steps (Round, Floor, comparisons) may flip on a boundary: a rare few elements may differ. */
async function difference(drawn: Drawn, seed: number, options: (typeof variants)[number], outputs?: readonly string[]): Promise<string | null> {
  const model = modelOf(drawn, outputs);
  const want = await run(model, drawn, seed, { device: 'reference', optimize: false });
  const got = await run(model, drawn, seed, options);
  for (const [name, value] of Object.entries(want)) {
    const { mismatch } = compareValues(got[name]!, value, { rtol: 2e-3, atol: 2e-4, scaled: true, integers: 1 }, name);
    if (mismatch !== null && (mismatch.of === 1 || mismatch.wrong > mismatch.of * 0.02 + 1)) return mismatchText(mismatch);
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
