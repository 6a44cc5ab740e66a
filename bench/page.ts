/**
 * `npm run bench:page`: from a page that has loaded no runtime yet to the first result, beside onnxruntime-web, in one Chromium without a window.
 * Every start has a browser context of its own, so that no cache of code or pipelines helps; the model's bytes are
 * there. Runtimes take turns.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import type { Browser } from 'puppeteer-core';
import { rolldown } from 'rolldown';
import type { Case } from '../src/cli/cases.ts';
import { number, print, printJson, progress, table } from '../src/cli/command.ts';
import { errorText } from '../src/cli/verify.ts';
import { fail } from '../src/core/errors.ts';
import type { DType } from '../src/core/dtype.ts';
import { bytesOfTensor, isTensor, type Tensor, tensorOver, type Value } from '../src/core/tensor.ts';
import { launch, serve } from '../test/browser/chromium.ts';
import { casesOf, disagreement, recordOf, save } from './cases.ts';
import { type Spread, spread } from './timing.ts';

const USAGE = `npm run bench:page -- [options]

  --models NAME,…   models whose name contains one of these (default mnist-8,ppocrv4-det,silero-vad-v5)
  --data DIR        folders of cases, may be given more than once (default ../shared/data/models)
  --devices A,B     default wasm,webgpu
  --starts N        starts of each runtime on each model and device (default 9)
  --json            print the report as JSON
  --out FILE.json   also write the JSON there, and the table beside it as FILE.md

CHROME_PATH names another Chromium; the adapter is SwiftShader.`;

const RUNTIMES = ['sardonyx', 'onnxruntime-web'] as const;
type Runtime = (typeof RUNTIMES)[number];
const PATIENCE_MS = 600_000;

interface Sent {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly base64: string;
}
/** Milliseconds: the runtime's code, the session, the first run. */
interface Start {
  readonly code: number;
  readonly load: number;
  readonly run: number;
  readonly results: Readonly<Record<string, Sent>>;
}
declare const start: (request: object) => Promise<Start>;

/** Times in ms; bytes of all that the runtime asks for, as served and gzipped. */
interface Row {
  readonly model: string;
  readonly device: string;
  readonly runtime: Runtime;
  readonly starts: number;
  readonly all?: Spread;
  readonly code?: number;
  readonly load?: number;
  readonly run?: number;
  readonly bytes?: number;
  readonly gzip?: number;
  /**
   * Of the peer: gzipped, what `import 'onnxruntime-web'` loads rather than its build for one device, which is what is
   * timed.
   */
  readonly gzipByDefault?: number;
  readonly error?: string;
  readonly wrong?: string;
}
interface Report {
  readonly machine: { readonly cpu: string; readonly cores: number };
  readonly browser: string;
  readonly peer: string;
  readonly rows: readonly Row[];
}

const { values: given } = parseArgs({
  options: {
    models: { type: 'string' },
    data: { type: 'string', multiple: true },
    devices: { type: 'string' },
    starts: { type: 'string' },
    out: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});

async function main(): Promise<void> {
  const here = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
  const peer = resolve(createRequire(import.meta.url).resolve('onnxruntime-web'), '..');
  const { version } = createRequire(import.meta.url)(resolve(peer, '../package.json')) as { version: string };
  const cases = casesOf(
    given.data,
    ['../shared/data/models'],
    (given.models ?? 'mnist-8,ppocrv4-det,silero-vad-v5').split(','),
  );
  const own = await ours(here);
  const site = await serve(
    {
      ort: peer,
      bench: resolve(here, 'bench/page'),
      ...Object.fromEntries(cases.map((c, i) => [`model${i}`, dirname(c.model)])),
    },
    own,
  );
  const codeAt = (path: string): Uint8Array | string | null =>
    own.get(path) ?? (path.startsWith('/ort/') ? readFileSync(join(peer, path.slice('/ort/'.length))) : null);
  const browser = await launch(PATIENCE_MS);
  try {
    const rows: Row[] = [];
    for (const [i, one] of cases.entries())
      for (const device of (given.devices ?? 'wasm,webgpu').split(','))
        rows.push(
          ...(await benchModel(
            browser,
            site.address,
            codeAt,
            one,
            `/model${i}/${one.model.slice(dirname(one.model).length + 1)}`,
            device,
          )),
        );
    progress('');
    const report: Report = {
      machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
      browser: await browser.version(),
      peer: version,
      rows,
    };
    if (given.json) printJson(report);
    else print(textOf(report));
    if (given.out === undefined) return;
    await save(
      given.out,
      `${JSON.stringify(report, (_, v: unknown) => (typeof v === 'number' ? Math.round(v * 100) / 100 : v), 2)}\n`,
    );
    await save(given.out.replace(/(\.json)?$/, '.md'), markdownOf(report));
  } finally {
    await browser.close();
    await site.close();
  }
}

/**
 * The library as the bundler of an app that loads and runs models leaves it: the entry of each device, minified, in
 * chunks.
 */
async function ours(here: string): Promise<Map<string, string | Uint8Array>> {
  const files: [string, string | Uint8Array][] = [];
  for (const device of ['webgpu', 'wasm']) {
    const app = `export { Session } from ${JSON.stringify(resolve(here, 'dist', device, 'index.js'))};`;
    const bundler = await rolldown({
      input: 'app',
      platform: 'browser',
      plugins: [
        {
          name: 'app',
          resolveId: (id) => (id === 'app' ? '\0app' : null),
          load: (id) => (id === '\0app' ? app : null),
        },
      ],
    });
    const { output } = await bundler.generate({ minify: true, entryFileNames: 'index.js' });
    await bundler.close();
    for (const file of output)
      files.push([`/ours/${device}/${file.fileName}`, file.type === 'chunk' ? file.code : file.source]);
  }
  return new Map(files);
}

async function benchModel(
  browser: Browser,
  address: string,
  codeAt: (path: string) => Uint8Array | string | null,
  one: Case,
  url: string,
  device: string,
): Promise<Row[]> {
  const recorded = await recordOf(one);
  const feeds = sent(recorded.feeds);
  const starts = number(given, 'starts', 1) ?? 9;
  const found = RUNTIMES.map((runtime) => ({
    runtime,
    times: [] as Start[],
    bytes: 0,
    gzip: 0,
    gzipByDefault: undefined as number | undefined,
    error: null as string | null,
  }));
  const startOf = async (runtime: string): Promise<{ first: Start; bytes: number; gzip: number }> => {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const asked = new Set<string>();
    page.on('request', (r) => {
      asked.add(new URL(r.url()).pathname);
    });
    await page.goto(`${address}/bench/first.html`, { waitUntil: 'load' });
    const first = await page.evaluate((r) => start(r), { runtime, device, url, feeds });
    await context.close();
    const code = [...asked].map(codeAt).filter((c) => c !== null);
    return {
      first,
      bytes: code.reduce((sum, c) => sum + c.length, 0),
      gzip: code.reduce((sum, c) => sum + gzipped(c), 0),
    };
  };
  for (let n = 0; n < starts; n++)
    for (const f of found) {
      progress(`${one.name} on ${device}: start ${n + 1} of ${starts}, ${f.runtime}`);
      if (f.error !== null) continue;
      try {
        const { first, bytes, gzip } = await startOf(f.runtime);
        f.times.push(first);
        if (n === 0) Object.assign(f, { bytes, gzip });
        if (n === 0 && f.runtime === 'onnxruntime-web')
          f.gzipByDefault = (await startOf('onnxruntime-web by default')).gzip;
      } catch (e) {
        f.error = errorText(e).slice(0, 300);
      }
    }
  const results = found.flatMap((f) => (f.times[0] ? [received(f.times[0].results)] : []));
  const wrong = results.length === 2 ? disagreement(results, recorded.results) : null;
  const median = (times: readonly Start[], part: 'code' | 'load' | 'run'): number =>
    spread(times.map((t) => t[part])).median;
  return found.map(({ runtime, times, bytes, gzip, gzipByDefault, error }) => ({
    model: one.name,
    device,
    runtime,
    starts: times.length,
    ...(error !== null
      ? { error }
      : {
          all: spread(times.map((t) => t.code + t.load + t.run)),
          code: median(times, 'code'),
          load: median(times, 'load'),
          run: median(times, 'run'),
          bytes,
          gzip,
          ...(gzipByDefault === undefined ? {} : { gzipByDefault }),
        }),
    ...(wrong !== null ? { wrong } : {}),
  }));
}

const SIZES = new Map<Uint8Array | string, number>();
/** Each file is compressed once. */
function gzipped(code: Uint8Array | string): number {
  const key = typeof code === 'string' ? code : Buffer.from(code).toString('latin1', 0, 4096) + code.length;
  let size = SIZES.get(key);
  if (size === undefined) SIZES.set(key, (size = gzipSync(code, { level: 9 }).length));
  return size;
}

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

/** Ours and the peer's in one line a model and device. */
function lines({ rows }: Report): string[][] {
  const out: string[][] = [];
  for (let i = 0; i < rows.length; i += 2) {
    const [a, b] = [rows[i]!, rows[i + 1]!];
    const time = ({ all, error }: Row): string =>
      all ? `${all.median.toFixed(0)} (${all.p10.toFixed(0)}–${all.p90.toFixed(0)})` : (error ?? '–');
    const parts = ({ code, load, run }: Row): string =>
      [code, load, run].map((t) => (t === undefined ? '–' : t.toFixed(0))).join(' + ');
    const size = ({ gzip }: Row): string => (gzip === undefined ? '–' : `${(gzip / 1000).toFixed(0)} kB`);
    const share = (own: number | undefined, their: number | undefined): string =>
      own && their ? `1/${(their / own).toFixed(0)}` : '–';
    out.push([
      a.model,
      a.device,
      String(a.starts),
      time(a),
      parts(a),
      time(b),
      parts(b),
      a.all && b.all ? `×${(b.all.median / a.all.median).toFixed(2)}` : '–',
      size(a),
      size(b),
      share(a.gzip, b.gzip),
      b.gzipByDefault === undefined ? '–' : `${(b.gzipByDefault / 1000).toFixed(0)} kB`,
      share(a.gzip, b.gzipByDefault),
      a.wrong ?? '',
    ]);
  }
  return out;
}
const HEAD = [
  'model',
  'device',
  'starts',
  'Sardonyx',
  'code + load + run',
  'onnxruntime-web',
  'code + load + run',
  'faster',
  'ours',
  'theirs',
  'bytes',
  'their default import',
  'bytes',
  '',
];
const about = ({ machine, browser, peer }: Report): string =>
  `First result in ms from a page without a runtime: median (10th–90th percentile) of starts in fresh browser contexts, in turns; the model's bytes are there. Both minified, bytes gzipped; of onnxruntime-web its build for the device is timed ("theirs"), and beside it stands what an import of the package by its name loads by default.\n${machine.cpu}, ${machine.cores} cores; ${browser}; onnxruntime-web ${peer}; WebGPU on SwiftShader. Pages without cross-origin isolation.`;
const textOf = (report: Report): string => `${about(report)}\n\n${table([HEAD, ...lines(report)])}`;
const markdownOf = (report: Report): string =>
  `# From a cold page to the first result\n\n${about(report)}\n\n${[HEAD, HEAD.map(() => '---'), ...lines(report)].map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;

if (given.help) print(USAGE);
else await main();
