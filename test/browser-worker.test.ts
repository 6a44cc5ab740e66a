/** The CPU path in pages of Chromium: in a worker, on one thread and on several, and where the page forbids workers. */
import { resolve } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EngineState, Session, type SessionOptions, type Tensor, tensor } from '../src/index.ts';
import { built, launch, serve, type Site } from './browser/chromium.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const SHAPE = [1, 24, 96, 96] as const;
/** So many convolutions with a softmax behind each. */
function model(blocks: number): Uint8Array {
  const nodes = [];
  const weights = [];
  for (let b = 0; b < blocks; b++) {
    weights.push(
      initializer(
        `W${b}`,
        tensor(
          'float32',
          [24, 24, 3, 3],
          noise(5184, b).map((v) => v / 12),
        ),
      ),
    );
    nodes.push(
      node('Conv', [b === 0 ? 'x' : `s${b - 1}`, `W${b}`], [`c${b}`], { pads: [1, 1, 1, 1] }),
      node('Softmax', [`c${b}`], [`s${b}`], { axis: -1 }),
    );
  }
  return encode({
    input: [port('x', SHAPE)],
    output: [port(`s${blocks - 1}`, SHAPE)],
    initializer: weights,
    node: nodes,
  });
}
const long = model(200);
interface Ran {
  readonly engine: EngineState;
  readonly isolated: boolean;
  readonly results: readonly string[][];
  readonly took: number;
  readonly gap: number;
  readonly long: readonly number[];
  readonly aborted: { readonly code: string; readonly late: number };
}
declare const sardonyx: { run(request: object): Promise<Ran>; turns(request: object): Promise<string[]> };

let site: Site;
let browser: Browser;
/**
 * What Node computes, and the bits of the first page: an engine with relaxed SIMD rounds otherwise than one without.
 */
let want: Float32Array;
let bits: string | undefined;
function agrees({ results }: Ran): void {
  bits ??= results[0]![0]!;
  expect(results.map(([bytes]) => bytes === bits)).toEqual([true, true, true]);
  const got = new Float32Array(new Uint8Array(Buffer.from(bits, 'base64')).buffer);
  expect(got.length).toBe(want.length);
  expect(got.reduce((most, v, i) => Math.max(most, Math.abs(v - want[i]!)), 0)).toBeLessThan(1e-4);
}
beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  site = await serve(
    { test: resolve(root, 'test/browser'), dist: resolve(root, 'dist') },
    new Map([
      ['/long.onnx', long],
      ['/short.onnx', model(2)],
    ]),
  );
  browser = await launch();
  await using session = await Session.load(long, { device: 'wasm' });
  want = (Object.values(await session.run({ x: tensor('float32', SHAPE, noise(24 * 96 * 96, 7)) }))[0] as Tensor)
    .data as Float32Array;
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await site?.close();
});

async function open(query: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${site.address}/test/worker.html${query}`, { waitUntil: 'load' });
  return page;
}
async function run(query: string, options: SessionOptions = {}): Promise<Ran> {
  const page = await open(query);
  const ran = await page.evaluate((request) => sardonyx.run(request), {
    url: '/long.onnx',
    shape: SHAPE,
    seed: 7,
    options,
  });
  await page.close();
  return ran;
}
const csp = (...rules: string[]): string =>
  `?csp=${encodeURIComponent(["default-src 'self'", 'img-src data:', "script-src 'self' 'wasm-unsafe-eval'", ...rules].join('; '))}`;
const far = 120_000;

describe('a page', () => {
  it.each([
    ['not isolated', '', {}, { threads: 1, worker: true }],
    ['isolated, on two threads', '?isolated', { threads: 2 }, { threads: 2, worker: true }],
    ['isolated, on one', '?isolated', { threads: 1 }, { threads: 1, worker: true }],
    ['with worker-src blob:', csp('worker-src blob:'), {}, { threads: 1, worker: true }],
  ] as const)(
    '%s: is never blocked, stops when asked, and computes what Node does',
    async (_, query, options, engine) => {
      const ran = await run(query, options);
      expect(ran.engine).toMatchObject(engine);
      expect(ran.isolated).toBe(query === '?isolated');
      agrees(ran);
      expect(ran.took).toBeGreaterThan(300);
      expect(ran.long).toEqual([]); // tasks of 50 ms and more
      expect(ran.gap).toBeLessThan(ran.took / 3);
      expect(ran.aborted.code).toBe('aborted');
      expect(ran.aborted.late).toBeLessThan(100);
    },
    far,
  );

  it(
    'that asks for threads without isolation is told why it has one',
    async () => {
      expect((await run('', { threads: 4 })).engine).toEqual({
        threads: 1,
        worker: true,
        reason: expect.stringContaining('cross-origin isolated'),
      });
    },
    far,
  );

  it.each([
    ['', {}],
    ['&isolated', { threads: 2 }],
  ] as const)(
    'that forbids blob workers (%s) runs in its own thread, and says so',
    async (more, options) => {
      const ran = await run(csp() + more, options);
      expect(ran.engine).toEqual({ threads: 1, worker: false, reason: expect.stringContaining('blob:') });
      agrees(ran);
      expect(ran.aborted.code).toBe('aborted');
    },
    far,
  );

  it(
    'serves its sessions in turn',
    async () => {
      for (const query of ['', '?isolated']) {
        const page = await open(query);
        expect(
          await page.evaluate((r) => sardonyx.turns(r), { long: '/long.onnx', short: '/short.onnx', shape: SHAPE }),
        ).toEqual(['short', 'long']);
        await page.close();
      }
    },
    far,
  );
});
