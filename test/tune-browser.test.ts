/** The tuner in a page: the same code, with IndexedDB for its records. */
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import type { TuningRecord } from '../src/tune/index.ts';
import { built, launch, serve } from './browser/chromium.ts';

it('tunes in Chromium, and keeps the record', async () => {
  const dist = resolve(import.meta.dirname, '../dist');
  built(resolve(dist, 'tune.js'));
  const site = await serve({ dist }, new Map([['/index.html', '<!doctype html><title>tune</title>']]));
  const browser = await launch();
  try {
    const page = await browser.newPage();
    await page.goto(`${site.address}/index.html`);
    const text = await page.evaluate(`(async () => {
      const { tuneStandard, saveTuning, loadTuning } = await import('/dist/tune.js');
      await saveTuning(await tuneStandard({ seconds: 60, only: (problem) => problem === 'Softmax float32 32768x32768x64' }));
      return JSON.stringify(await loadTuning());
    })()`);
    const [record, ...others] = JSON.parse(text as string) as TuningRecord[];
    expect(others).toEqual([]);
    expect(record!.entries).toMatchObject([{ sizes: [32768, 32768, 64], wrong: [] }]);
    expect(record!.entries[0]!.checked).toBeGreaterThan(1);
    expect(record!.peaks.gflops).toBeGreaterThan(0.05);
  } finally {
    await browser.close();
    await site.close();
  }
}, 180_000);
