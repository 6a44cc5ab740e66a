/**
 * `npm run bench:gpu`: Sardonyx on WebGPU beside onnxruntime-web's WebGPU provider, model by model, in one Chromium without a window. A model has
 * a page of its own, in which both runtimes take turns, sample by sample, so that a machine that slows down slows both
 * alike.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Browser, Page } from 'puppeteer-core';
import type { Case } from '../src/cli/cases.ts';
import { number, print, printJson, progress } from '../src/cli/command.ts';
import { encodeModel } from '../src/cli/encode-model.ts';
import { errorText } from '../src/cli/verify.ts';
import { fail, SardonyxError } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { bytesOfTensor, isTensor, tensor, type Tensor, tensorOver, type Value } from '../src/core/tensor.ts';
import { launch, serve } from '../test/browser/chromium.ts';
import { casesOf, disagreement, recordOf, save } from './cases.ts';
import { type GpuModel, type GpuReport, gpuJson, gpuMarkdown, gpuText, meansOf, type Started } from './gpu-report.ts';
import { spread } from './timing.ts';

const USAGE = `npm run bench:gpu -- [options]

  --models NAME,…   only models whose name contains one of these
  --data DIR        folders of cases, may be given more than once (default ../shared/data/models and some of ../shared/data/onnx/light)
  --rounds N        rounds of each model at most (default 9)
  --budget SECONDS  time of each model's rounds (default 8)
  --limit SECONDS   a runtime that has not loaded a model and run it once by then is given up, and rounds end by then (default 180)
  --ours            Sardonyx alone
  --json            print the report as JSON
  --out FILE.json   also write the JSON there after every model, and the table beside it as FILE.md
  --add             keep the models that FILE.json has: measure those that it lacks, or that --models names

CHROME_PATH names another Chromium; the adapter is SwiftShader.`;

/** Those of the light models that the peer finishes within a minute a run on a software adapter. */
const LIGHT = /^light_(squeezenet|shufflenet|bvlc_alexnet|resnet50)$/;
const SAMPLE_MS = 60;

const { values: given } = parseArgs({
  options: {
    models: { type: 'string' },
    data: { type: 'string', multiple: true },
    rounds: { type: 'string' },
    budget: { type: 'string' },
    out: { type: 'string' },
    limit: { type: 'string' },
    add: { type: 'boolean' },
    ours: { type: 'boolean' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
const NAMES = given.ours ? ['sardonyx'] : ['sardonyx', 'onnxruntime-web'];
const limit = 1000 * (number(given, 'limit', 1) ?? 180);

interface Sent {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly base64: string;
}
type Answer<T> =
  | { readonly value: T; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: string };
interface Start {
  readonly load: number;
  readonly first: number;
  readonly results: Readonly<Record<string, Sent>>;
  readonly about: Started['about'];
}
declare const bench: {
  open(name: string, tiny: string, input: object): Promise<Answer<void>>;
  start(name: string, url: string, feeds: object): Promise<Answer<Start>>;
  sample(name: string, repeats: number): Promise<Answer<number>>;
  adapter(): Promise<Answer<string | null>>;
};

const sent = (feeds: Readonly<Record<string, Value>>): Record<string, Sent> =>
  Object.fromEntries(
    Object.entries(feeds).map(([name, v]) => [
      name,
      isTensor(v) && v.dtype !== 'string'
        ? { dtype: v.dtype, shape: v.shape, base64: Buffer.from(bytesOfTensor(v)).toString('base64') }
        : fail('option_invalid', `input ${name} is no tensor of numbers`),
    ]),
  );
const received = (results: Readonly<Record<string, Sent>>): Record<string, Tensor> =>
  Object.fromEntries(
    Object.entries(results).map(([name, { dtype, shape, base64 }]) => [
      name,
      tensorOver(dtype, shape, new Uint8Array(Buffer.from(base64, 'base64'))),
    ]),
  );
const valued = <T>(answer: Answer<T>): T =>
  answer.error === undefined ? answer.value! : fail('internal', answer.error);

if (given.help) print(USAGE);
else await main();

async function main(): Promise<void> {
  const here = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
  const peer = resolve(createRequire(import.meta.url).resolve('onnxruntime-web'), '..');
  const { version } = createRequire(import.meta.url)(resolve(peer, '../package.json')) as { version: string };
  const before =
    given.add && given.out !== undefined && existsSync(given.out)
      ? (JSON.parse(readFileSync(given.out, 'utf8')) as GpuReport)
      : undefined;
  if (before && before.peer !== version)
    fail(
      'option_invalid',
      `${given.out} compares with onnxruntime-web ${before.peer}, and ${version} is installed; measure all of it anew`,
    );
  const cases = casesOf(
    given.data,
    ['../shared/data/models', '../shared/data/onnx/light'],
    given.models?.split(','),
  ).filter(
    (c) =>
      given.models !== undefined ||
      ((!c.name.startsWith('light_') || LIGHT.test(c.name)) && !before?.models.some((m) => m.model === c.name)),
  );
  const tiny = encodeModel(
    {
      inputs: [{ name: 'x', dtype: 'float32', shape: [4] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [4] }],
      weights: [],
      nodes: [{ op: 'Relu', name: 'relu', inputs: ['x'], outputs: ['y'], attrs: [] }],
    },
    { '': 17 },
  );
  const site = await serve(
    {
      dist: resolve(here, 'dist'),
      ort: peer,
      bench: resolve(here, 'bench/page'),
      ...Object.fromEntries(cases.map((c, i) => [`model${i}`, dirname(c.model)])),
    },
    new Map([['/tiny.onnx', tiny]]),
  );
  let browser = await launch(limit + 30_000);
  try {
    const models = new Map(before?.models.map((m) => [m.model, m]));
    let adapter = '';
    const reportOf = async (): Promise<GpuReport> => {
      const all = [...models.values()].sort((a, b) => (a.model < b.model ? -1 : 1));
      return {
        machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
        browser: await browser.version(),
        adapter,
        peer: version,
        models: all,
        ...meansOf(all),
      };
    };
    for (const [i, one] of cases.entries()) {
      progress(`${i + 1} of ${cases.length} ${one.name}`);
      const measure = async (names: readonly string[]): Promise<GpuModel> => {
        const page = await browser.newPage();
        await page.goto(`${site.address}/bench/gpu.html?isolated`, { waitUntil: 'load' });
        adapter ||= valued(await page.evaluate(() => bench.adapter())) ?? 'none';
        const found = await benchModel(
          one,
          `/model${i}/${one.model.slice(dirname(one.model).length + 1)}`,
          page,
          names,
        );
        // Work that was given up goes on in the browser's GPU process.
        if (found.error === undefined && found.runs.every((r) => r.error === undefined)) await page.close();
        else {
          await kill(browser);
          browser = await launch(limit + 30_000);
        }
        return found;
      };
      const both = await measure(NAMES);
      const [ours, theirs] = both.runs;
      // Where the peer came to nothing, what we take is measured without it.
      const alone =
        theirs?.error !== undefined && ours?.error === undefined ? await measure(NAMES.slice(0, 1)) : undefined;
      models.set(one.name, alone?.error === undefined && alone ? { ...alone, runs: [...alone.runs, theirs!] } : both);
      // A long bench that is cut short leaves what it has.
      if (given.out !== undefined) {
        await save(given.out, gpuJson(await reportOf()));
        await save(given.out.replace(/(\.json)?$/, '.md'), gpuMarkdown(await reportOf()));
      }
    }
    progress('');
    const report = await reportOf();
    if (given.json) printJson(report);
    else print(gpuText(report));
  } finally {
    await kill(browser);
    await site.close();
  }
}

/** Closes it, by force if it is busy. */
async function kill(browser: Browser): Promise<void> {
  const ended = await Promise.race([
    browser.close().then(
      () => true,
      () => true,
    ),
    new Promise<false>((resolve) => {
      setTimeout(resolve, 5000, false).unref();
    }),
  ]);
  if (!ended) browser.process()?.kill('SIGKILL');
}

/** @throws after so many ms */
async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new SardonyxError('aborted', `not done within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function benchModel(one: Case, url: string, page: Page, names: readonly string[]): Promise<GpuModel> {
  try {
    const recorded = await recordOf(one);
    const feeds = sent(recorded.feeds);
    const small = sent({ x: tensor('float32', [4], [1, 2, 3, 4]) });
    const runs: (Started & {
      readonly runtime: string;
      repeats: number;
      readonly samples: number[];
      readonly results: Record<string, Tensor> | null;
      readonly error?: string;
    })[] = [];
    for (const runtime of names) {
      try {
        valued(
          await within(
            page.evaluate((n, t, f) => bench.open(n, t, f), runtime, '/tiny.onnx', small),
            limit,
          ),
        );
        const { load, first, results, about } = valued(
          await within(
            page.evaluate((n, u, f) => bench.start(n, u, f), runtime, url, feeds),
            limit,
          ),
        );
        runs.push({ runtime, load, first, about, repeats: 1, samples: [], results: received(results) });
      } catch (e) {
        runs.push({
          runtime,
          load: Number.NaN,
          first: Number.NaN,
          about: null,
          repeats: 1,
          samples: [],
          results: null,
          error: errorText(e).slice(0, 300),
        });
      }
    }
    const there = runs.filter((r) => r.results !== null);
    const sample = async (runtime: string, repeats: number): Promise<number> =>
      valued(
        await within(
          page.evaluate((n, k) => bench.sample(n, k), runtime, repeats),
          limit,
        ),
      );
    for (const r of there) r.repeats = Math.max(1, Math.ceil(SAMPLE_MS / Math.max(await sample(r.runtime, 1), 0.1)));
    const from = performance.now();
    const until = from + 1000 * (number(given, 'budget') ?? 8);
    const rounds = number(given, 'rounds', 1) ?? 9;
    for (
      let n = 0;
      n < rounds && (n < 1 || performance.now() < until || (n < 3 && performance.now() < from + limit));
      n++
    ) {
      for (const r of n % 2 === 0 ? there : [...there].reverse()) r.samples.push(await sample(r.runtime, r.repeats));
    }
    const wrong =
      there.length === 2
        ? disagreement(
            there.map((r) => r.results!),
            recorded.results,
          )
        : null;
    const figures = runs.map(({ samples, results: _, ...r }) => ({
      ...r,
      rounds: samples.length,
      wall: spread(samples),
    }));
    const [ours, peer] = figures as [(typeof figures)[number], (typeof figures)[number] | undefined];
    return {
      model: one.name,
      runs: figures,
      ...(wrong ? { wrong } : {}),
      ...(there.length === 2
        ? {
            ratio: peer!.wall.median / ours.wall.median,
            startRatio: (peer!.load + peer!.first) / (ours.load + ours.first),
          }
        : {}),
    };
  } catch (e) {
    return { model: one.name, runs: [], error: errorText(e) };
  }
}
