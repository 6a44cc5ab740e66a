/**
 * Models in Node, one by one, in one process: `npm run bench:cpu` on WASM beside onnxruntime-web's WASM provider, and
 * beside onnxruntime-node's native kernels with --native; `npm run bench:gpu:node` on WebGPU beside onnxruntime-node's
 * WebGPU provider. Runtimes take turns, round by round, so that a machine that slows down slows all alike; with threads
 * each waits until the others' are at rest. With --cold each start gets a process of its own.
 */
import { spawn } from 'node:child_process';
import { cpus, loadavg, tmpdir } from 'node:os';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { deserialize, serialize, setFlagsFromString } from 'node:v8';
import type { Case } from '../src/cli/cases.ts';
import { number, print, printJson, progress } from '../src/cli/command.ts';
import { respawnWithSoftwareGpu } from '../src/cli/software-gpu.ts';
import { errorText } from '../src/cli/verify.ts';
import { adapterName } from '../src/3-plan/tuning.ts';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { fail, SardonyxError } from '../src/core/errors.ts';
import { casesOf, disagreement, recordOf, save } from './cases.ts';
import {
  type ColdResult,
  type NodeReport,
  htmlReport,
  jsonReport,
  markdownReport,
  type ModelResult,
  textReport,
} from './node-report.ts';
import { type Feeds, type Loaded, openRuntime, type Runtime, type RuntimeName, type Target } from './runtimes.ts';
import { geometricMean, sample, settle, type Spent, spread, timed, warmUp } from './timing.ts';

const USAGE = `npm run bench:cpu -- [options], npm run bench:gpu:node -- [options]

  --models NAME,…   only models whose name contains one of these
  --data DIR        folders of cases, may be given more than once (default ../shared/data/models and ../shared/data/onnx/light)
  --device D        wasm or webgpu (default wasm); webgpu takes the system's adapter
  --native          on wasm: also onnxruntime-node's native CPU provider
  --threads N       threads of each, on wasm (default 1)
  --rounds N        rounds of each model at most (default 15)
  --budget SECONDS  time of each model's rounds (default 6)
  --relaxed         relaxed SIMD in V8 even where it is behind a flag (Node 20)
  --cold            also load and run once from a cold process
  --starts N        cold processes of each (default 5)
  --ours            Sardonyx alone
  --json            print the report as JSON
  --html FILE       where the report with plots goes (default out/bench-cpu.html, out/bench-webgpu.html)
  --out FILE.json   also write the JSON there, and the table beside it as FILE.md

onnxruntime-node is not among the dependencies: npm install --no-save --ignore-scripts onnxruntime-node@1.30.0`;

/** A sample lasts at least this long: process times tick in microseconds, but schedulers do not. */
const SAMPLE_MS = 20;
const WARM_MS = 400;

const { values: given } = parseArgs({
  options: {
    models: { type: 'string' },
    data: { type: 'string', multiple: true },
    threads: { type: 'string' },
    rounds: { type: 'string' },
    budget: { type: 'string' },
    html: { type: 'string' },
    out: { type: 'string' },
    relaxed: { type: 'boolean' },
    cold: { type: 'boolean' },
    ours: { type: 'boolean' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
    start: { type: 'string' },
    feeds: { type: 'string' },
    starts: { type: 'string' },
    device: { type: 'string' },
    native: { type: 'boolean' },
  },
});
const device =
  given.device === undefined || given.device === 'wasm'
    ? 'wasm'
    : given.device === 'webgpu'
      ? 'webgpu'
      : fail('option_invalid', `--device ${given.device} is neither wasm nor webgpu`);
const threads = device === 'wasm' ? (number(given, 'threads', 1) ?? 1) : 1;
const target: Target = { device, threads };
/** Ours, the peer that ratios are of, and the yardstick. */
const NAMES: readonly RuntimeName[] = [
  'sardonyx',
  ...(given.ours ? [] : device === 'webgpu' ? (['onnxruntime-node'] as const) : (['onnxruntime-web'] as const)),
  ...(given.native && device === 'wasm' ? (['onnxruntime-node'] as const) : []),
];
const coldStarts = number(given, 'starts', 1) ?? 5;
if (given.relaxed) setFlagsFromString('--experimental-wasm-relaxed-simd');

if (given.help) print(USAGE);
else if (given.start !== undefined) await startCold(given.start as RuntimeName);
else await bench();

async function bench(): Promise<void> {
  const gpu = device === 'webgpu' ? await adapter() : undefined;
  const cases = casesOf(given.data, ['../shared/data/models', '../shared/data/onnx/light'], given.models?.split(','));
  const runtimes: Runtime[] = [];
  for (const name of NAMES) runtimes.push(await openRuntime(name, target));
  const models: ModelResult[] = [];
  for (const [i, one] of cases.entries()) {
    progress(`${i + 1}/${cases.length} ${one.name}`);
    models.push(await benchModel(one, runtimes));
    // A long bench that is cut short leaves what it has.
    if (given.out !== undefined) await save(given.out, jsonReport(reportOf(models, runtimes, gpu)));
  }
  progress('');
  const report = reportOf(models, runtimes, gpu);
  if (given.json) printJson(report);
  else print(textReport(report));
  await save(given.html ?? `out/bench-${device === 'wasm' ? 'cpu' : device}.html`, htmlReport(report));
  if (given.out !== undefined) await save(given.out.replace(/(\.json)?$/, '.md'), markdownReport(report));
  if (gpu !== undefined) process.exit(0); // native handles of the GPU would keep the process
}

function reportOf(models: readonly ModelResult[], runtimes: readonly Runtime[], gpu: string | undefined): NodeReport {
  const ratios = models.flatMap((m) => (m.ratio === undefined ? [] : [m.ratio]));
  const natives = models.flatMap((m) => (m.native === undefined ? [] : [m.native]));
  const colds = models.flatMap((m) => (m.cold?.ratio === undefined ? [] : [m.cold.ratio]));
  return {
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, load: loadavg()[2]! },
    node: process.versions.node,
    v8: process.versions.v8,
    relaxedSimd: given.relaxed === true,
    device,
    ...(gpu ? { adapter: gpu } : {}),
    threads,
    runtimes: runtimes.map(({ name, version }) => ({ name, version })),
    models,
    ...(ratios.length > 0 ? { geometricMean: geometricMean(ratios) } : {}),
    ...(natives.length > 0 ? { nativeGeometricMean: geometricMean(natives) } : {}),
    ...(colds.length > 0 ? { coldGeometricMean: geometricMean(colds), coldStarts } : {}),
  };
}

/** Of the system's own driver, or SwiftShader's in a process of its own. */
async function adapter(): Promise<string> {
  try {
    return adapterName((await requestGpuDevice({ allowSoftware: true })).caps);
  } catch (e) {
    if (e instanceof SardonyxError && e.code === 'device_unavailable') await respawnWithSoftwareGpu();
    throw e;
  }
}

async function benchModel(one: Case, runtimes: readonly Runtime[]): Promise<ModelResult> {
  const loaded: {
    runtime: Runtime;
    model: Loaded;
    load: Spent;
    first: Spent;
    repeats: number;
    samples: Spent[];
    results: unknown;
  }[] = [];
  try {
    const { feeds, results: recorded } = await recordOf(one);
    for (const runtime of runtimes) {
      const { value: model, spent: load } = await timed(() => runtime.load(one.model));
      const { value: results, spent: first } = await timed(() => model.run(feeds));
      loaded.push({ runtime, model, load, first, repeats: 1, samples: [], results });
    }
    const [found, ...others] = loaded.map(({ model, results }) => model.values(results));
    const wrong =
      others.flatMap((theirs, k) => {
        const parted = disagreement([found!, theirs], recorded);
        return parted ? [`${NAMES[k + 1]}: ${parted}`] : [];
      })[0] ?? null;
    for (const l of loaded) {
      if (threads > 1) await settle();
      l.repeats = await warmUp(() => l.model.run(feeds), WARM_MS, SAMPLE_MS);
    }
    const until = performance.now() + 1000 * (number(given, 'budget') ?? 6);
    const rounds = number(given, 'rounds', 1) ?? 15;
    for (let r = 0; r < rounds && (r < 3 || performance.now() < until); r++) {
      for (const l of r % 2 === 0 ? loaded : [...loaded].reverse()) {
        if (threads > 1) {
          await settle();
          await l.model.run(feeds);
        }
        l.samples.push(await sample(() => l.model.run(feeds), l.repeats));
      }
    }
    const figures = loaded.map(({ runtime, load, first, samples, repeats }) => ({
      runtime: runtime.name,
      load,
      first,
      rounds: samples.length,
      repeats,
      wall: spread(samples.map((s) => s.wall)),
      cpu: spread(samples.map((s) => s.cpu)),
    }));
    // Processor time is what one thread costs, whoever else runs; with more threads, or a GPU, the clock counts.
    const cost = (f: (typeof figures)[number]): number =>
      device === 'wasm' && threads === 1 ? f.cpu.median : f.wall.median;
    const [ours, peer] = figures;
    const native = device === 'wasm' ? figures.find((f) => f.runtime === 'onnxruntime-node') : undefined;
    const cold = given.cold ? await startEachCold(one, feeds, runtimes) : undefined;
    return {
      model: one.name,
      runtimes: figures,
      onHost: loaded[0]!.model.onHost(),
      ...(peer === undefined ? {} : { ratio: cost(peer) / cost(ours!) }),
      ...(native ? { native: cost(native) / cost(ours!) } : {}),
      ...(wrong === null ? {} : { wrong }),
      ...(cold ? { cold } : {}),
    };
  } catch (e) {
    // Without the stack that native runtimes put into their messages: it has paths of this machine.
    return { model: one.name, runtimes: [], onHost: [], error: errorText(e).split(/\s+at .*[(/]/)[0]! };
  } finally {
    for (const l of loaded) await l.model.release();
  }
}

// ── cold starts ──
async function startEachCold(
  one: Case,
  feeds: Feeds,
  runtimes: readonly Runtime[],
): Promise<{ runtimes: readonly ColdResult[]; ratio?: number }> {
  const all = new Map<RuntimeName, Spent[]>(runtimes.map((r) => [r.name, []]));
  const folder = await mkdtemp(join(tmpdir(), 'sardonyx-bench-'));
  try {
    const file = join(folder, 'feeds');
    await writeFile(file, serialize(feeds));
    for (let i = 0; i < coldStarts; i++)
      for (const { name } of runtimes) all.get(name)!.push(await inNewProcess(name, one, file));
  } finally {
    await rm(folder, { recursive: true });
  }
  const figures = [...all].map(
    ([runtime, spent]): ColdResult => ({
      runtime,
      wall: spread(spent.map((s) => s.wall)),
      cpu: spread(spent.map((s) => s.cpu)),
    }),
  );
  const [ours, peer] = figures;
  return { runtimes: figures, ...(peer ? { ratio: peer.cpu.median / ours!.cpu.median } : {}) };
}

function inNewProcess(name: RuntimeName, one: Case, feeds: string): Promise<Spent> {
  const child = spawn(
    process.execPath,
    [
      fileURLToPath(import.meta.url),
      '--start',
      name,
      '--data',
      one.model,
      '--feeds',
      feeds,
      '--device',
      device,
      '--threads',
      String(threads),
      ...(given.relaxed ? ['--relaxed'] : []),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0 ? resolve(JSON.parse(text) as Spent) : reject(new Error(`a cold start of ${name} ended with ${code}`)),
    );
  });
}

/** In a process of its own, which knows neither runtime before: import, load and one run. */
async function startCold(name: RuntimeName): Promise<void> {
  const feeds = deserialize(await readFile(given.feeds!)) as Feeds;
  const { spent } = await timed(async () => {
    const runtime = await openRuntime(name, target);
    const model = await runtime.load(given.data![0]!);
    await model.run(feeds);
  });
  print(JSON.stringify(spent));
  process.exit(0); // workers of the peer keep the process alive
}
