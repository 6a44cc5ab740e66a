import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type OutputChunk, rolldown } from 'rolldown';
import { expect, it } from 'vitest';
import { built } from './browser/chromium.ts';

/**
 * The most that a page may load, minified and gzipped: a little above what it is, so that growth is a decision. In
 * bytes.
 * `first` is what an import brings with it; `all` adds what is loaded when it is first needed (in `sardonyx` the CPU path; sets of operators).
 */
const CEILINGS = [
  { entry: 'index.js', first: 110_400, all: 392_000 },
  { entry: 'webgpu/index.js', first: 110_000, all: 296_000 },
  { entry: 'run/index.js', first: 20_400, all: 22_600 },
  { entry: 'plan/index.js', first: 100_500, all: 366_500 },
  { entry: 'wasm/index.js', first: 114_000, all: 275_500 },
];
/** Chunks that only Node asks for. */
const NODE = /^(?:node-gpu|source-node)\b/;

it.each(CEILINGS)('$entry is as large, in a page, as we said', async ({ entry, first, all }) => {
  const input = resolve(import.meta.dirname, '../dist', entry);
  built(input);
  const bundler = await rolldown({ input, platform: 'browser' });
  const chunks = (await bundler.generate({ minify: true })).output
    .filter((file): file is OutputChunk => file.type === 'chunk')
    .filter(({ name }) => !NODE.test(name));
  await bundler.close();
  const sizes = new Map(chunks.map((chunk) => [chunk.fileName, gzipSync(chunk.code, { level: 9 }).length]));
  const reached = new Set<string>();
  const reach = (chunk: OutputChunk): void => {
    if (reached.has(chunk.fileName)) return;
    reached.add(chunk.fileName);
    for (const name of chunk.imports) reach(chunks.find((c) => c.fileName === name)!);
  };
  reach(chunks.find(({ isEntry }) => isEntry)!);
  const total = (names: Iterable<string>): number => [...names].reduce((sum, name) => sum + sizes.get(name)!, 0);
  console.log(
    `${entry}: ${(total(reached) / 1000).toFixed(1)} kB gzipped at first, ${(total(sizes.keys()) / 1000).toFixed(1)} kB with all that may follow`,
  );
  expect(total(reached)).toBeGreaterThan(first * 0.8); // less is no bundle of the library, or a ceiling to lower
  expect(total(reached)).toBeLessThanOrEqual(first);
  expect(total(sizes.keys())).toBeLessThanOrEqual(all);
});
