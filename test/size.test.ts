import { resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type OutputChunk, rolldown } from 'rolldown';
import { expect, it } from 'vitest';
import { built } from './browser/chromium.ts';

/** The most that a page may have to load, minified and gzipped: a little above what it is, so that growth is a decision. In bytes. */
const CEILING = 276_000;
/** Chunks that only Node asks for. */
const NODE = /^(?:node-gpu|source-node)\b/;

it('is as large, in a page, as we said', async () => {
  const input = resolve(import.meta.dirname, '../dist/index.js');
  built(input);
  const bundler = await rolldown({ input, platform: 'browser' });
  const chunks = (await bundler.generate({ minify: true })).output.filter((file): file is OutputChunk => file.type === 'chunk').filter(({ name }) => !NODE.test(name));
  await bundler.close();
  const sizes = chunks.map((chunk) => ({ name: chunk.name, entry: chunk.isEntry, plain: chunk.code.length, gzip: gzipSync(chunk.code, { level: 9 }).length }));
  const total = sizes.reduce((sum, { gzip }) => sum + gzip, 0);
  console.log(sizes.map(({ name, plain, gzip }) => `${name}: ${(gzip / 1000).toFixed(1)} kB gzipped, ${(plain / 1000).toFixed(1)} kB minified`).join('\n'), `\nin all: ${(total / 1000).toFixed(1)} kB of ${CEILING / 1000} kB`);
  expect(sizes.filter(({ entry }) => entry)).toHaveLength(1);
  expect(total).toBeGreaterThan(50_000); // less is no bundle of the library
  expect(total).toBeLessThanOrEqual(CEILING);
});
