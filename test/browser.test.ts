import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseModel } from '../src/1-parse/model.ts';
import { findCases } from '../src/cli/cases.ts';
import { compareValues, MODEL_TOLERANCE, mismatchText } from '../src/cli/compare.ts';
import { recordedFeeds, strays } from '../src/cli/verify.ts';
import { bytesOfTensor, tensorOver } from '../src/core/tensor.ts';
import { type DType, type Feeds, type Plan, type Results, Session, type Tensor, tensor } from '../src/index.ts';
import { built, launch, serve, type Site, watch } from './browser/chromium.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const data = resolve(root, '../shared/data/models');
const MODELS = ['mnist-8', 'silero-vad-v5', 'ppocr-cls', 'gtcrn'].filter((name) =>
  existsSync(resolve(data, name, 'model.onnx')),
);
const DEVICES = ['wasm', 'webgpu'] as const;

/** y = softmax(relu(conv(x))) with a residual matmul: a convolution, a product, a row kernel and a map. */
const small = encode({
  input: [port('x', ['batch', 2, 8, 8])],
  output: [port('y', ['batch', 8])],
  initializer: [
    initializer('K', tensor('float32', [4, 2, 3, 3], noise(72))),
    initializer('W', tensor('float32', [256, 8], noise(2048, 2))),
    initializer('b', tensor('float32', [8], noise(8, 3))),
  ],
  node: [
    node('Conv', ['x', 'K'], ['c'], { pads: [1, 1, 1, 1] }),
    node('Relu', ['c'], ['r']),
    node('Flatten', ['r'], ['f']),
    node('Gemm', ['f', 'W', 'b'], ['g']),
    node('Softmax', ['g'], ['y']),
  ],
});
const feed = (batch: number, seed: number): Feeds => ({
  x: tensor('float32', [batch, 2, 8, 8], noise(batch * 128, seed)),
});

interface Sent {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly base64: string;
}
interface Held {
  readonly bytes: number;
  readonly made: Readonly<Record<string, number>>;
}
interface Checked {
  readonly device: string;
  readonly results: readonly Record<string, Sent>[];
  readonly together: readonly Record<string, Sent>[];
  readonly before: Held;
  readonly after: Held;
  readonly plans: readonly Plan[];
  readonly released: number;
}
interface Request {
  readonly url: string;
  readonly device: string;
  readonly feeds: readonly Feeds[];
  readonly sessions?: number;
  readonly again?: number;
}
type Answer<T> =
  | { readonly value: T; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: { readonly code?: string; readonly message: string } };
declare const sardonyx: { check(request: object): Promise<Answer<Checked>>; adapter(): Promise<Answer<string | null>> };

const send = (feeds: Feeds): Record<string, Sent> =>
  Object.fromEntries(
    Object.entries(feeds).map(([name, v]) => [
      name,
      {
        dtype: (v as Tensor).dtype,
        shape: (v as Tensor).shape,
        base64: Buffer.from(bytesOfTensor(v as Tensor)).toString('base64'),
      },
    ]),
  );
const receive = (sent: Record<string, Sent>): Results =>
  Object.fromEntries(
    Object.entries(sent).map(([name, { dtype, shape, base64 }]) => [
      name,
      tensorOver(dtype, shape, new Uint8Array(Buffer.from(base64, 'base64'))),
    ]),
  );
function same(got: Record<string, Sent>, want: Results, tolerance = MODEL_TOLERANCE): void {
  const results = receive(got);
  expect(Object.keys(results)).toEqual(Object.keys(want));
  for (const [name, value] of Object.entries(want)) {
    const { mismatch } = compareValues(results[name]!, value, tolerance, name);
    expect(mismatch ? mismatchText(mismatch) : 'same').toBe('same');
  }
}
/** What Node makes of it: the results, and the nodes that left the device. */
async function inNode(
  model: string | Uint8Array,
  device: 'wasm' | 'webgpu',
  feeds: readonly Feeds[],
): Promise<{ results: Results[]; strays: string[] }> {
  const session = await Session.load(model, { device });
  try {
    const results: Results[] = [];
    for (const one of feeds) results.push(await session.run(one));
    return { results, strays: strayNodes(session.plans) };
  } finally {
    await session.release();
  }
}
const strayNodes = (plans: readonly Plan[]): string[] =>
  strays(plans)
    .map((p) => `${p.node} (${p.op}): ${p.why}`)
    .sort();

let site: Site;
let browser: Browser;

/** Opens the page and waits until its module has run; what it reports on the way is an error here. */
async function open(query = ''): Promise<Page> {
  const page = await browser.newPage();
  const errors = watch(page);
  await page.goto(`${site.address}/test/page.html${query}`, { waitUntil: 'load', timeout: 60_000 });
  expect(errors).toEqual([]);
  expect(await page.evaluate(() => typeof sardonyx)).toBe('object');
  return page;
}
async function ask(page: Page, request: Request): Promise<Answer<Checked>> {
  return page.evaluate((r) => sardonyx.check(r), { ...request, feeds: request.feeds.map(send) });
}
async function check(page: Page, request: Request): Promise<Checked> {
  const { value, error } = await ask(page, request);
  if (error) throw new Error(`${error.code}: ${error.message}`);
  return value;
}

beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  site = await serve(
    { test: resolve(root, 'test/browser'), dist: resolve(root, 'dist'), models: data },
    new Map([['/small.onnx', small]]),
  );
  browser = await launch();
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await site?.close();
});

describe('a page', () => {
  let page: Page;
  beforeAll(async () => {
    page = await open();
  });

  it.each(DEVICES)('runs a model on %s as Node does, many at once, and grows no further', async (device) => {
    const feeds = [feed(2, 5), feed(2, 6), feed(3, 7)];
    const node = await inNode(small, device, feeds);
    const got = await check(page, { url: '/small.onnx', device, feeds, sessions: 2, again: 100 });
    expect(got.device).toBe(device);
    got.results.forEach((one, i) => same(one, node.results[i]!));
    expect(got.together).toEqual([...got.results, ...got.results]);
    expect(strayNodes(got.plans)).toEqual(node.strays);
    expect(got.plans.flatMap((p) => p.steps).some((s) => s.run === (device === 'wasm' ? 'wasm' : 'gpu'))).toBe(true);
    const { runs: _, ...made } = got.before.made;
    expect(got.after.made).toMatchObject(made);
    expect(got.after.bytes).toBe(got.before.bytes);
    expect(got.before.bytes).toBeGreaterThan(0);
    expect(got.released).toBe(0);
  });

  for (const device of DEVICES)
    for (const name of MODELS)
      it(`runs ${name} on ${device} as Node does`, async () => {
        const [one] = findCases(resolve(data, name));
        const types = parseModel(readFileSync(one!.model));
        const session = await Session.load(one!.model, { device: 'reference' });
        const feeds = [await recordedFeeds(session, one!.sets[0]!, types)];
        await session.release();
        const node = await inNode(one!.model, device, feeds);
        const got = await check(page, { url: `/models/${name}/model.onnx`, device, feeds });
        expect(got.device).toBe(device);
        expect(got.plans.some((p) => p.device === device && p.steps.length > 0)).toBe(true);
        same(got.results[0]!, node.results[0]!);
        expect(strayNodes(got.plans)).toEqual(node.strays);
      }, 120_000);

  it('has a software adapter, which auto passes over', async () => {
    expect(await page.evaluate(() => sardonyx.adapter())).toEqual({ value: 'google/swiftshader' });
    expect((await check(page, { url: '/small.onnx', device: 'auto', feeds: [feed(1, 8)] })).device).toBe('wasm');
  });

  it('says what is wrong with an address', async () => {
    const { error } = await ask(page, { url: '/none.onnx', device: 'wasm', feeds: [] });
    expect(error).toEqual({ code: 'source_failed', message: expect.stringContaining('404') });
  });
});

describe('a page of another kind', () => {
  const run = async (device: string, query: string): Promise<Answer<Checked> & { isolated: boolean }> => {
    const page = await open(query);
    const isolated = await page.evaluate(() => crossOriginIsolated);
    const answer = await ask(page, { url: '/small.onnx', device, feeds: [feed(2, 9)] });
    await page.close();
    return { ...answer, isolated };
  };
  const csp = (...more: string[]): string =>
    `?csp=${encodeURIComponent(["default-src 'self'", 'img-src data:', ["script-src 'self'", ...more].join(' ')].join('; '))}`;
  it.each([
    ['isolated', '?isolated', DEVICES, true],
    ['with script-src self', csp(), ['webgpu'], false],
    ['with script-src self and wasm-unsafe-eval', csp("'wasm-unsafe-eval'"), ['wasm', 'webgpu'], false],
  ] as const)('%s gives the same results', async (_, query, devices, isolated) => {
    for (const device of devices) {
      const want = await inNode(small, 'wasm', [feed(2, 9)]);
      const got = await run(device, query);
      expect(got.error).toBeUndefined();
      expect([got.value!.device, got.isolated]).toEqual([device, isolated]);
      same(got.value!.results[0]!, want.results[0]!);
    }
  });

  it('that forbids WebAssembly cannot have it', async () => {
    expect((await run('wasm', csp())).error?.message).toMatch(/wasm|WebAssembly/i);
  });
});
