import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Browser, Page } from 'puppeteer-core';
import { build, type PreviewServer, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sampleClip } from '../demo/listen/speech.ts';
import { decoder, encode } from '../demo/write/tokenizer.ts';
import { nodesOf, withOutputs } from '../demo/inspect/wire.ts';
import { Session, tensor } from '../src/index.ts';
import { built, launch, watch } from './browser/chromium.ts';
import { encode as encodeModel, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const data = resolve(root, '../shared/data');
const has = (path: string): boolean => existsSync(resolve(data, path));
const SILERO = 'models/silero-vad-v5/model.onnx';
const STORIES = 'models/stories260k-gqa-fp32/model.onnx';
const screenshots = join(root, 'docs/screenshots');
const DESKTOP = { width: 1200, height: 800 };
const PHONE = { width: 360, height: 740 };
/** Patience with a machine that does other things too, in milliseconds. */
const LONG = 120_000;

let site: string;
let server: PreviewServer;
let browser: Browser;
let address: string;

beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  site = mkdtempSync(join(tmpdir(), 'sardonyx-site-'));
  const configFile = join(root, 'demo/vite.config.ts');
  await build({ configFile, logLevel: 'error', build: { outDir: site, emptyOutDir: false } });
  server = await preview({
    configFile,
    logLevel: 'error',
    build: { outDir: site },
    preview: { host: '127.0.0.1', port: 0, strictPort: false },
  });
  address = `http://127.0.0.1:${(server.httpServer.address() as { port: number }).port}`;
  browser = await launch(LONG, ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']);
}, LONG);
afterAll(async () => {
  await browser?.close();
  await server?.close();
  if (site) rmSync(site, { recursive: true, force: true });
});

/** Opens a page of the site, lets `drive` use it, and holds it to be free of errors. */
async function visit(
  path: string,
  drive: (page: Page) => Promise<void>,
  { dark = false, size = DESKTOP, without = '' } = {},
): Promise<void> {
  const page = await browser.newPage();
  const errors = watch(page);
  try {
    await page.setViewport(size);
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]);
    // A server that answers every address with its first page is the usual way to have no model.
    if (without !== '')
      await page.evaluateOnNewDocument((part) => {
        const get = fetch;
        globalThis.fetch = async (what, ...more) =>
          String(what).includes(part)
            ? new Response('<!doctype html>', { headers: { 'content-type': 'text/html' } })
            : get(what, ...more);
      }, without);
    await page.goto(address + path, { waitUntil: 'load', timeout: LONG });
    await drive(page);
    await page.setViewport(PHONE);
    expect(
      await page.evaluate(() => document.documentElement.scrollWidth),
      'what was made fits a phone',
    ).toBeLessThanOrEqual(PHONE.width);
    expect(errors).toEqual([]);
  } finally {
    await page.close();
  }
}
const text = (page: Page, selector: string): Promise<string> => page.$eval(selector, (e) => e.textContent ?? '');
const texts = (page: Page, selector: string): Promise<string[]> =>
  page.$$eval(selector, (all) => all.map((e) => e.textContent ?? ''));
/** Waits for words in the page's status; what the page shows as an error ends the waiting. */
async function status(page: Page, words: RegExp): Promise<string> {
  await page.waitForFunction(
    (source: string) =>
      new RegExp(source).test(document.getElementById('status')!.textContent!) ||
      !document.getElementById('error')!.hidden,
    { timeout: LONG, polling: 50 },
    words.source,
  );
  expect(await text(page, '#error')).toBe('');
  return text(page, '#status');
}
const choose = async (page: Page, selector: string, file: string): Promise<void> => {
  await (await page.$(`input${selector}` as 'input'))!.uploadFile(file);
};
/** Keeps a picture of the page for the documents, if asked for. */
async function picture(page: Page, name: string, from = 'body'): Promise<void> {
  await page.evaluate((selector) => {
    (document.activeElement as HTMLElement | null)?.blur();
    document.querySelector(selector)!.scrollIntoView();
  }, from);
  const png = await page.screenshot({ type: 'png' });
  expect(png.length).toBeLessThan(150 * 1024);
  if (!process.env['UPDATE_SCREENSHOTS']) return;
  mkdirSync(screenshots, { recursive: true });
  writeFileSync(join(screenshots, `${name}.png`), png);
}

describe('the site', () => {
  it.each(['', 'read/', 'listen/', 'write/', 'inspect/', 'tune/'])(
    'fits a phone and follows the colours asked for: /%s',
    async (path) => {
      for (const dark of [false, true])
        await visit(
          `/${path}`,
          async (page) => {
            expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(PHONE.width);
            const light = await page.evaluate(() =>
              Math.max(...getComputedStyle(document.body).backgroundColor.match(/\d+/g)!.map(Number)),
            );
            expect(dark ? light < 64 : light > 192).toBe(true);
            // Every control has a name, and the first stop of the keyboard leads past the links.
            expect(
              await page.$$eval('button, input:not([type=hidden]), select', (all) =>
                all
                  .filter((e) => !e.textContent?.trim() && !(e as HTMLInputElement).labels?.length)
                  .map((e) => e.outerHTML),
              ),
            ).toEqual([]);
            await page.keyboard.press('Tab');
            expect(await page.evaluate(() => document.activeElement?.getAttribute('href'))).toBe('#main');
          },
          { dark, size: PHONE },
        );
    },
  );

  it('leads from its first page to all others', async () => {
    await visit('/', async (page) => {
      const links = await page.$$eval('.doors a', (all) => all.map((a) => (a as HTMLAnchorElement).href));
      expect(links.map((l) => l.slice(address.length))).toEqual([
        '/read/',
        '/listen/',
        '/write/',
        '/inspect/',
        '/tune/',
      ]);
      expect(await page.$$eval('nav a', (all) => all.map((a) => (a as HTMLAnchorElement).href))).toEqual(links);
      await picture(page, 'home');
    });
  });
});

describe('read', () => {
  it(
    'reads the sample, then a picture that is given, and says what is no picture',
    async () => {
      await visit('/read/', async (page) => {
        await page.click('#sample');
        expect(await status(page, /lines? read/)).toMatch(/^16 lines read/);
        const drawn = JSON.parse(readFileSync(join(root, 'demo/read-text/lines.json'), 'utf8')) as {
          text: string;
          corners: [number, number][];
        }[];
        const [lines, boxes] = [
          await texts(page, '#lines li span:first-child'),
          await page.$$eval('#boxes polygon', (all) =>
            all.map((p) => [...p.points].map(({ x, y }) => [x, y] as const)),
          ),
        ];
        expect([...lines].sort()).toEqual(drawn.map((d) => d.text).sort());
        const center = (corners: readonly (readonly [number, number])[]): number[] =>
          [0, 1].map((k) => corners.reduce((sum, c) => sum + c[k]!, 0) / 4);
        for (const { text: want, corners } of drawn)
          center(boxes[lines.indexOf(want)]!).forEach((v, k) =>
            expect(Math.abs(v - center(corners)[k]!)).toBeLessThan(8),
          );
        await picture(page, 'read');
        if (has('media/doc.png')) {
          await choose(page, '#file', resolve(data, 'media/doc.png'));
          expect(await status(page, /^3 lines read/)).toMatch(/^3 lines/);
        }
        await choose(page, '#file', join(root, 'package.json'));
        await page.waitForFunction(() => !document.getElementById('error')!.hidden);
        expect(await text(page, '#error')).toMatch(/cannot decode/);
      });
    },
    2 * LONG,
  );

  it(
    'reads what the camera sees until it is stopped',
    async () => {
      await visit('/read/', async (page) => {
        await page.click('#camera');
        await status(page, /pictures a second/);
        expect(await text(page, '#camera')).toBe('Stop the camera');
        expect(await page.$eval('#canvas', (c) => (c as HTMLCanvasElement).width)).toBeGreaterThan(300);
        await page.click('#camera');
        expect(await text(page, '#camera')).toBe('Camera');
      });
    },
    LONG,
  );
});

describe('listen', () => {
  it.runIf(has(SILERO))(
    'finds the speech of the sample, and none in between',
    async () => {
      await visit(
        '/listen/',
        async (page) => {
          await status(page, /ready/);
          await page.click('#sample');
          await page.waitForFunction(() => document.getElementById('verdict')!.textContent === 'Speech', {
            timeout: LONG,
          });
          expect(await status(page, /^Done/)).toBe('Done: 2 stretches of speech.');
          const found = (await texts(page, '#stretches li')).map(
            (t) => /from (.*) s(.*) s/.exec(t)!.slice(1).map(Number) as [number, number],
          );
          const { spoken } = sampleClip();
          expect(found).toHaveLength(spoken.length);
          found.forEach(([from, seconds], i) => {
            expect(Math.abs(from - spoken[i]![0])).toBeLessThan(0.4);
            expect(Math.abs(from + seconds - spoken[i]![1])).toBeLessThan(0.4);
          });
          expect(await text(page, '#verdict')).toBe('No speech');
          await picture(page, 'listen');
        },
        { dark: true },
      );
    },
    LONG,
  );

  it.runIf(has(SILERO))(
    'hears the microphone, and takes the model from a file where the site has none',
    async () => {
      await visit(
        '/listen/',
        async (page) => {
          await page.waitForFunction(() => !document.getElementById('error')!.hidden, { timeout: LONG });
          expect(await text(page, '#error')).toMatch(/does not bring the model/);
          await choose(page, '#model', resolve(data, 'models/mnist-8/model.onnx'));
          await page.waitForFunction(() => /Silero/.test(document.getElementById('error')!.textContent!), {
            timeout: LONG,
          });
          expect(await text(page, '#error')).toMatch(/no Silero VAD of version 5: it takes Input3/);
          await choose(page, '#model', resolve(data, SILERO));
          await status(page, /ready/);
          await page.click('#microphone');
          await page.waitForFunction(() => /%/.test(document.getElementById('probability')!.textContent!), {
            timeout: LONG,
          });
          expect(await text(page, '#microphone')).toBe('Stop');
          await page.click('#microphone');
          expect(await text(page, '#microphone')).toBe('Microphone');
        },
        { without: '/data/' },
      );
    },
    LONG,
  );
});

describe('write', () => {
  const at = (page: Page, selector: string, value: number): Promise<void> =>
    page.$eval(
      selector,
      (e, v) => {
        (e as HTMLInputElement).value = String(v);
        e.dispatchEvent(new Event('input'));
      },
      value,
    );
  const ids = async (page: Page): Promise<number[]> => (await text(page, '#ids')).split(' ').map(Number);
  const recorded = (): { ids: number[]; text: string } =>
    (
      JSON.parse(readFileSync(resolve(data, 'media/expected.json'), 'utf8')) as Record<
        string,
        { ids: number[]; text: string }
      >
    )['stories260k-hf-op17']!;

  it.runIf(has(STORIES))(
    'tells the recorded story at temperature 0, on both devices',
    async () => {
      await visit('/write/', async (page) => {
        await status(page, /ready/);
        await at(page, '#temperature', 0);
        await page.click('#start');
        expect(await status(page, /tokens in/)).toMatch(/^250 tokens/);
        const { ids: want, text: story } = recorded();
        expect((await ids(page)).slice(0, want.length - 1)).toEqual(want.slice(1));
        expect((await text(page, '#story')).startsWith(story.trimEnd())).toBe(true);
        expect(await text(page, '#speed')).toMatch(/^\d+\/s$/);
        await picture(page, 'write');
        await page.select('#device', 'webgpu');
        await status(page, /ready on WebGPU/);
        await page.click('#start');
        await page.waitForFunction(
          () =>
            Number(document.getElementById('count')!.textContent) >= 24 &&
            document.getElementById('story')!.classList.contains('writing'),
          { timeout: LONG },
        );
        await page.click('#stop');
        await status(page, /tokens in/);
        const some = await ids(page);
        expect(some.length).toBeLessThan(250);
        expect(some).toEqual(want.slice(1, some.length + 1));
      });
    },
    2 * LONG,
  );

  it.runIf(has(STORIES))(
    'goes on from a beginning that is typed',
    async () => {
      await visit('/write/', async (page) => {
        await status(page, /ready/);
        await page.type('#prompt', 'A dog named Max');
        await page.keyboard.press('Enter');
        await status(page, /tokens in/);
        expect(await text(page, '#story')).toMatch(/^A dog named Max./);
        expect(await text(page, '#story .told')).toBe('A dog named Max');
      });
    },
    LONG,
  );

  it('writes any text as tokens and back', () => {
    for (const words of ['Once upon a time', 'Zoë said: "naïve 🐕!"', ''])
      expect(encode(words).slice(1).map(decoder()).join('')).toBe(words);
    if (has(STORIES)) expect(encode(recorded().text.trim()).slice(0, 40)).toEqual(recorded().ids.slice(0, 40));
  });
});

describe('tune', () => {
  it(
    'measures kernels until it is stopped, and keeps what it found',
    async () => {
      const file = join(site, 'product.onnx');
      writeFileSync(
        file,
        encodeModel({
          input: [port('x', [32, 64])],
          output: [port('y', [32, 48])],
          initializer: [initializer('w', tensor('float32', [64, 48], noise(64 * 48)))],
          node: [node('MatMul', ['x', 'w'], ['m']), node('Softmax', ['m'], ['y'])],
        }),
      );
      await visit('/tune/', async (page) => {
        await page.$eval('#seconds', (e) => {
          (e as HTMLInputElement).value = '8';
        });
        await choose(page, '#file', file);
        expect(await status(page, /^Done/)).toMatch(/^Done: [1-9]\d* problems? measured/);
        const rows = await page.$$eval('#entries tr', (all) =>
          all.map((r) => [...r.children].map((c) => c.textContent!)),
        );
        expect(rows.length).toBeGreaterThan(0);
        for (const [problem, fastest, takes, gain, roof] of rows) {
          expect(problem).toMatch(/\d×\d|\d/);
          expect(fastest).toMatch(/^[\w-]+(\.[\w-]+)*( was [\w.-]+)?$/);
          expect([takes, gain, roof].every((t) => /\d/.test(t!))).toBe(true);
        }
        expect(await page.$eval('#roof svg', (e) => e.getAttribute('aria-label'))).toMatch(
          /kernels below a roof of \d+/,
        );
        await page.click('#keep');
        await status(page, /^Kept/);
        expect(await page.$eval('#download', (a) => (a as HTMLAnchorElement).download)).toMatch(/\.json$/);
        await page.$eval('#seconds', (e) => {
          (e as HTMLInputElement).value = '600';
        });
        await page.click('#start');
        await status(page, /^\d+ of \d+: /);
        await page.waitForFunction(() => document.querySelectorAll('#entries tr').length >= 3, { timeout: LONG });
        await page.click('#stop');
        expect(await status(page, /^(Done|Stopped)/)).toMatch(/^Done/);
        await picture(page, 'tune');
      });
    },
    2 * LONG,
  );
});

describe('look inside', () => {
  const tiny = encodeModel({
    input: [port('x', ['batch', 8])],
    output: [port('y', ['batch', 4])],
    initializer: [initializer('w', tensor('float32', [8, 4], noise(32)))],
    node: [node('MatMul', ['x', 'w'], ['m']), node('Relu', ['m'], ['r']), node('Softmax', ['r'], ['y'])],
  });

  it(
    'shows the plan of the sample for both devices, runs it on both and compares every node',
    async () => {
      await visit('/inspect/', async (page) => {
        await page.click('#sample');
        expect(await status(page, /^Planned/)).toMatch(/^Planned \d+ steps in/);
        const steps = Number(/\d+/.exec(await text(page, '#status'))![0]);
        const rows = await page.$$eval('#steps tr', (all) => all.map((r) => [...r.children].map((c) => c.textContent)));
        expect(rows.length).toBeGreaterThanOrEqual(steps);
        expect(rows[0]![1]).toBe('p2o.Conv.0');
        expect(rows.every(([, , gpu, wasm]) => gpu !== '–' && wasm !== '–')).toBe(true);
        expect(await page.$$eval('#graph rect', (all) => all.length)).toBe(steps);
        expect(await page.$$eval('#graph path', (all) => all.length)).toBeGreaterThanOrEqual(steps - 1);
        expect(await page.$$eval('#map rect.value', (all) => all.length)).toBeGreaterThan(10);
        expect(await page.$eval('#map svg', (s) => s.getAttribute('aria-label'))).toMatch(/at least .* needed/);
        await picture(page, 'inspect', '#run');
        await page.click('input[value=wasm]');
        expect(await page.$$eval('#graph g.wasm', (all) => all.length)).toBeGreaterThan(0);
        expect(await page.$$eval('#graph g.gpu', (all) => all.length)).toBe(0);
        await page.click('#run');
        await status(page, /Done/);
        expect(await texts(page, '#times td:first-child')).toEqual(['WebGPU', 'WASM']);
        expect((await texts(page, '#times td.number')).slice(0, 3).every((t) => /m?s$/.test(t))).toBe(true);
        expect(await text(page, '#apart')).toMatch(/^All \d{3} values agree/);
        expect(await texts(page, '#roofs h3')).toEqual(['WebGPU against its roof', 'WASM against its roof']);
        const shares = (await texts(page, '#roofs tbody td:last-child')).map((t) => parseFloat(t ?? ''));
        expect(shares).toHaveLength(16);
        // peaks are measured too, on a machine that others use
        expect(shares.filter((s) => s > 0 && s < 200).length, String(shares)).toBeGreaterThan(8);
        expect(await page.$$eval('#roofs circle', (all) => all.length)).toBeGreaterThan(steps);
        await picture(page, 'inspect-roof', '#ran');
      });
    },
    LONG,
  );

  it(
    'plans a model that is dropped for the dims that are typed, and words errors as the library does',
    async () => {
      const file = join(site, 'tiny.onnx');
      writeFileSync(file, tiny);
      writeFileSync(join(site, 'no.onnx'), 'no model at all');
      await visit('/inspect/', async (page) => {
        await choose(page, '#file', file);
        await status(page, /^Planned/);
        expect(
          await page.$$eval('#dims input', (all) =>
            all.map((i) => [(i as HTMLInputElement).name, (i as HTMLInputElement).value]),
          ),
        ).toEqual([['batch', '1']]);
        await page.$eval('#dims input', (i) => {
          (i as HTMLInputElement).value = '3';
        });
        await page.click('#free button');
        await page.waitForFunction(() => /3×4|3×8/.test(document.getElementById('map')!.textContent!), {
          timeout: LONG,
        });
        await choose(page, '#file', join(site, 'no.onnx'));
        await page.waitForFunction(() => !document.getElementById('error')!.hidden, { timeout: LONG });
        expect(await text(page, '#error')).toMatch(/^model_\w+ /);
        expect(await page.$eval('#inside', (e) => (e as HTMLElement).hidden)).toBe(true);
      });
    },
    LONG,
  );

  it('asks for more outputs without touching the rest of a file', async () => {
    expect(nodesOf(tiny).map((n) => [n.op, ...n.outputs])).toEqual([
      ['MatMul', 'm'],
      ['Relu', 'r'],
      ['Softmax', 'y'],
    ]);
    const more = withOutputs(tiny, ['m', 'r', 'y']);
    const session = await Session.load(more, { device: 'reference' });
    const results = await session.run({ x: tensor('float32', [1, 8], noise(8)) });
    await session.release();
    expect(Object.keys(results)).toEqual(['y', 'm', 'r']);
    expect(() => nodesOf(more.subarray(0, more.length - 3))).toThrow(/ONNX/);
  });
});
