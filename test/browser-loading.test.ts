/** Loading in a page: from another origin, from Blobs and streams, and through both of the browser's stores. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensor } from '../src/index.ts';
import { built, launch, serve, type Site } from './browser/chromium.ts';
import { type ModelServer, serveModels } from './model-server.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const COUNT = 400_000;
const w = noise(COUNT);
const model = encode({
  input: [port('x', [COUNT])],
  output: [port('y', [COUNT])],
  initializer: [initializer('w', tensor('float32', [COUNT], w))],
  node: [node('Add', ['x', 'w'], ['y'])],
});
const integrity = `sha256-${createHash('sha256').update(model).digest('base64')}`;

let site: Site;
let models: ModelServer;
let browser: Browser;
let page: Page;
beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  [site, models, browser] = await Promise.all([
    serve({ test: resolve(root, 'test/browser'), dist: resolve(root, 'dist') }, new Map()),
    serveModels(new Map([['model.onnx', model]])),
    launch(),
  ]);
  page = await browser.newPage();
  await page.goto(`${site.address}/test/page.html`, { waitUntil: 'load', timeout: 60_000 });
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await Promise.all([site?.close(), models?.close()]);
});

interface Loaded {
  readonly y: number;
  readonly phases: readonly string[];
  readonly warnings: readonly string[];
}
/**
 * Loads what `source` (the body of a function that sees `url`) gives, and runs it once: the second element of y for x =
 * 1, and what was told on the way.
 */
const load = (source: string, options: object = {}, mode = 'open', device = 'wasm'): Promise<Loaded> =>
  page.evaluate(`(async () => {
  const { Session, tensor } = await import('/dist/index.js');
  const phases = [];
  const warnings = [];
  const url = ${JSON.stringify(`${models.address}/${mode}/model.onnx`)};
  const source = await (async () => { ${source} })();
  const session = await Session.load(source, {
    device: ${JSON.stringify(device)}, ...${JSON.stringify(options)}, onWarning: (text) => warnings.push(text), onProgress: ({ phase }) => { if (!phases.includes(phase)) phases.push(phase); },
  });
  const { y } = await session.run({ x: tensor('float32', [${COUNT}], new Float32Array(${COUNT}).fill(1)) });
  await session.release();
  return { y: y.data[1], phases, warnings };
})()`) as Promise<Loaded>;
const want = Math.fround(1 + w[1]!);

describe('in a page', () => {
  it.each([
    ['a URL of another origin', 'return url'],
    ['a URL object', 'return new URL(url)'],
    ['a Response', 'return fetch(url)'],
    ['a stream', 'return (await fetch(url)).body'],
    ['a Blob', 'return (await fetch(url)).blob()'],
    ['a File', 'return new File([await (await fetch(url)).blob()], "m.onnx")'],
    ['bytes', 'return (await fetch(url)).arrayBuffer()'],
    ['a blob: URL', 'return URL.createObjectURL(await (await fetch(url)).blob())'],
    [
      'a byte source over a File',
      'const b = await (await fetch(url)).blob(); return { size: b.size, read: async (o, n) => new Uint8Array(await b.slice(o, o + n).arrayBuffer()) }',
    ],
  ])('%s is loaded', async (_, source) => expect((await load(source, { integrity })).y).toBe(want));

  it.each(['open,hides', 'plain', 'gzip', 'cut', 'busy', 'noetag'])(
    'a server of mode "%s" is read, and a page sees each phase',
    async (mode) => {
      const got = await load('return url', {}, mode);
      expect([got.y, got.phases, got.warnings]).toEqual([want, ['download', 'parse', 'plan', 'compile', 'upload'], []]);
    },
    30_000,
  );

  it.each(['kept,zips', 'kept,zips,open', 'kept,zips,shows'])(
    'a compressed copy in the browser\'s cache is read, of a server of mode "%s"',
    async (mode) => {
      const got = await load('await (await fetch(url)).arrayBuffer(); return url', {}, mode);
      expect([got.y, got.warnings]).toEqual([want, []]);
    },
    30_000,
  );

  it('weights reach the GPU', async () => expect((await load('return url', {}, 'open', 'webgpu')).y).toBe(want));

  it.each(['cache-api', 'opfs'] as const)('%s keeps a model, once for each version', async (cache) => {
    models.forget();
    expect(await load('return url', { cache })).toMatchObject({ y: want, warnings: [] });
    expect(models.asked.length).toBeGreaterThan(1);
    models.forget();
    expect(await load('return url', { cache })).toMatchObject({ y: want, warnings: [] });
    expect(models.asked.filter(({ method }) => method === 'GET').map(({ range }) => range)).toEqual([
      'bytes=0-1048575',
    ]); // which version is it?
    expect(await load('return url', { cache, integrity })).toMatchObject({ y: want, warnings: [] });
    models.forget();
    expect(await load('return url', { cache, integrity })).toMatchObject({ y: want, warnings: [] });
    expect(models.asked).toEqual([]);
  });

  it('a store without room is told of, and done without', async () => {
    await page.evaluate(() => {
      (globalThis as { put?: unknown }).put = Cache.prototype.put;
      Cache.prototype.put = async () => {
        throw new DOMException('Quota exceeded.', 'QuotaExceededError');
      };
    });
    const got = await load('return url', { cache: 'cache-api' }, 'open,r');
    await page.evaluate(() => {
      Cache.prototype.put = (globalThis as unknown as { put: typeof Cache.prototype.put }).put;
    });
    expect([got.y, got.warnings]).toEqual([
      want,
      [expect.stringMatching(/cannot be kept in the cache \(QuotaExceededError/)],
    ]);
  });
});
