import { resolve } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensor } from '../src/index.ts';
import { built, launch, serve, type Site } from './browser/chromium.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const SIZE = 128;
const LENGTH = 100;
const chain = encode({
  input: [port('x', [SIZE, SIZE])],
  output: [port('y', [SIZE, SIZE])],
  initializer: [
    initializer(
      'W',
      tensor(
        'float32',
        [SIZE, SIZE],
        noise(SIZE * SIZE).map((v) => v / 8),
      ),
    ),
  ],
  node: Array.from({ length: LENGTH }, (_, i) =>
    node('MatMul', [i === 0 ? 'x' : `m${i}`, 'W'], [i === LENGTH - 1 ? 'y' : `m${i + 1}`]),
  ),
});

type Answer<T> =
  | { readonly value: T; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: string };
interface Long {
  readonly took: number;
  readonly longest: number;
  readonly sliced: number;
  readonly same: readonly number[];
  readonly code: string;
  readonly rejected: number;
  readonly stopped: number;
  readonly renewed: boolean;
  readonly fed: number;
}
declare const sardonyx: {
  images(url: string): Promise<Answer<Readonly<Record<string, readonly [gpu: number, cpu: number]>>>>;
  drawn(url: string): Promise<Answer<readonly number[]>>;
  long(url: string, size: number): Promise<Answer<Long>>;
};
function valueOf<T>({ value, error }: Answer<T>): T {
  expect(error).toBeUndefined();
  return value as T;
}

let site: Site;
let browser: Browser;
let page: Page;
beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  site = await serve(
    { test: resolve(root, 'test/browser'), dist: resolve(root, 'dist') },
    new Map([['/chain.onnx', chain]]),
  );
  browser = await launch();
  page = await browser.newPage();
  const errors: string[] = [];
  page.on('pageerror', (e) => errors.push(String(e)));
  await page.goto(`${site.address}/test/gpu.html`, { waitUntil: 'load', timeout: 60_000 });
  expect(errors).toEqual([]);
  await page.waitForFunction(() => typeof sardonyx !== 'undefined');
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await site?.close();
});

describe('in a page', () => {
  it('every kind of image becomes the tensor that its pixels make', async () => {
    const far = valueOf(await page.evaluate(() => sardonyx.images('/chain.onnx')));
    expect(Object.keys(far)).toEqual([
      'ImageData',
      'ImageBitmap',
      'OffscreenCanvas',
      'HTMLCanvasElement',
      'VideoFrame',
      'HTMLVideoElement',
    ]);
    for (const [name, [gpu, cpu]] of Object.entries(far)) {
      // a frame may be kept in another colour space: 1 or 2 of 255, over std
      const tolerance = name.includes('Video') ? 0.03 : 1e-4;
      expect(gpu, `${name} on the GPU`).toBeLessThan(tolerance);
      expect(cpu, `${name} on the CPU`).toBeLessThan(tolerance);
    }
  });

  it('a tensor drawn on a canvas is its picture', async () => {
    expect(valueOf(await page.evaluate(() => sardonyx.drawn('/chain.onnx')))).toEqual([0, 40, 24, 0, 40, 24]);
  });

  it('a long run leaves the page its turns, is aborted in 100 ms, and survives the loss of the device', {
    timeout: 120_000,
  }, async () => {
    const long = valueOf(await page.evaluate((size) => sardonyx.long('/chain.onnx', size), SIZE));
    expect(long.same).toEqual([0, 0]);
    expect(long.sliced).toBeGreaterThan(long.took / 100);
    expect(long.longest, 'ms without a turn').toBeLessThan(50);
    expect([long.code, long.renewed, long.fed]).toEqual(['aborted', true, SIZE * SIZE]);
    expect(long.rejected).toBeLessThan(100);
    expect(long.stopped, 'ms until the GPU is idle').toBeLessThan(Math.max(100, long.took / 2));
  });
});
