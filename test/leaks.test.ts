import { resolve } from 'node:path';
import type { Browser, CDPSession, Page, WebWorker } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensor } from '../src/index.ts';
import { built, launch, serve, type Site, watch } from './browser/chromium.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const [RUNS, CYCLES] = [1000, 50];
/**
 * What the heap may gain and still be level, in bytes: the engine tiers functions up and moves its own caches. A leaked
 * session has 100 KB, a leaked result 64 B.
 */
const LEVEL = { runs: 32 * 1024, cycles: 1024 * 1024 };

const small = encode({
  input: [port('x', ['batch', 2, 8, 8])],
  output: [port('y', ['batch', 8])],
  initializer: [
    initializer('K', tensor('float32', [4, 2, 3, 3], noise(72))),
    initializer('W', tensor('float32', [256, 64], noise(16384, 2))),
    initializer('V', tensor('float32', [64, 8], noise(512, 3))),
  ],
  node: [
    node('Conv', ['x', 'K'], ['c'], { pads: [1, 1, 1, 1] }),
    node('Relu', ['c'], ['r']),
    node('Flatten', ['r'], ['f']),
    node('MatMul', ['f', 'W'], ['m']),
    node('MatMul', ['m', 'V'], ['g']),
    node('Softmax', ['g'], ['y']),
  ],
});

interface Alive {
  readonly buffers: number;
  readonly bytes: number;
  readonly memories: number;
  readonly held: number;
}
declare const endure: {
  cycles(device: string, times: number): Promise<void>;
  runs(times: number): Promise<void>;
  end(): Promise<void>;
  alive(): Alive;
};

let site: Site;
let browser: Browser;
beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  site = await serve(
    { test: resolve(root, 'test/browser'), dist: resolve(root, 'dist') },
    new Map([['/small.onnx', small]]),
  );
  browser = await launch();
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await site?.close();
});

interface Measured extends Alive {
  readonly workers: number;
  readonly heap: number;
}

/**
 * What is alive after all that nobody holds is collected: bytes of the heaps of the page and its workers, with array
 * buffers, and of the device.
 */
async function measure(page: Page, cdp: CDPSession): Promise<Measured> {
  const heapOf = async (client: CDPSession): Promise<number> => {
    for (let i = 0; i < 3; i++) await client.send('HeapProfiler.collectGarbage');
    const { usedSize, backingStorageSize } = (await client.send('Runtime.getHeapUsage')) as {
      usedSize: number;
      backingStorageSize: number;
    };
    return usedSize + backingStorageSize;
  };
  // A worker that was just ended is still in the list, and has no heap any more.
  const heaps = await Promise.all([
    heapOf(cdp),
    ...page.workers().map((w: WebWorker) => heapOf(w.client).catch(() => 0)),
  ]);
  return {
    heap: heaps.reduce((a, b) => a + b),
    workers: heaps.filter((h) => h > 0).length - 1,
    ...(await page.evaluate(() => endure.alive())),
  };
}

describe.each(['wasm', 'webgpu'])('a page on %s', (device) => {
  it(`is as large after ${RUNS} runs, and after ${CYCLES} times loading and releasing`, async () => {
    const page = await browser.newPage();
    const errors = watch(page);
    await page.goto(`${site.address}/test/endure.html`, { waitUntil: 'load' });
    await page.waitForFunction(() => typeof endure === 'object');
    const cdp = await page.createCDPSession();
    await cdp.send('HeapProfiler.enable');

    await page.evaluate((d) => endure.cycles(d, 8), device);
    await page.evaluate((n) => endure.runs(n), RUNS / 2);
    await measure(page, cdp);
    await page.evaluate((n) => endure.runs(n), RUNS / 2);
    const warm = await measure(page, cdp);
    expect(warm.held).toBeGreaterThan(0);
    if (device === 'webgpu') expect([warm.buffers > 0, warm.bytes >= warm.held]).toEqual([true, true]);
    else expect(warm.workers).toBeGreaterThan(0);

    await page.evaluate((n) => endure.runs(n), RUNS);
    const { heap: afterRuns, ...run } = await measure(page, cdp);
    const { heap: before, ...steady } = warm;
    expect(run).toEqual(steady);
    expect(afterRuns - before).toBeLessThan(LEVEL.runs);

    await page.evaluate((d, n) => endure.cycles(d, n), device, CYCLES);
    const { heap: afterCycles, ...cycled } = await measure(page, cdp);
    expect(cycled).toEqual(steady);
    expect(afterCycles - before).toBeLessThan(LEVEL.cycles);

    await page.evaluate(() => endure.end());
    const { heap: _, ...ended } = await measure(page, cdp);
    expect(ended).toMatchObject({ bytes: 0, buffers: 0, held: 0 });
    console.log(
      `${device}: heap ${before} B, ${afterRuns - before} B more after ${RUNS} runs, ${afterCycles - before} B after ${CYCLES} cycles; ${JSON.stringify(steady)}`,
    );
    expect(errors).toEqual([]);
    await page.close();
  }, 240_000);
});
