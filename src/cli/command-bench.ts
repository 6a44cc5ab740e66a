import { fail } from '../core/errors.ts';
import { isTensor, type Value } from '../core/tensor.ts';
import { Session } from '../index.ts';
import {
  type Command,
  deviceOf,
  dimsOf,
  type ExitCode,
  type Given,
  human,
  list,
  modelOf,
  number,
  operatorsGiven,
  pairs,
  print,
  printJson,
  progress,
  table,
  text,
} from './command.ts';
import { feedsFor } from './command-run.ts';
import { seeded } from './inputs.ts';
import { tuningGiven } from './tuning-file.ts';
import type { DeviceName } from './verify.ts';

/** `sardonyx bench`: how long a model takes, on one device or several. */
export const benchCommand: Command = {
  name: 'bench',
  summary: 'time a model: load, first run, then the steady state',
  usage: `sardonyx bench MODEL [options]

  --device NAME       auto, webgpu, wasm or reference; more than one may be given (default auto)
  --runs N            steady runs to time (default: as many as fit into --seconds, at least 5)
  --seconds S         time for the steady runs of a device (default 5)
  --warmup N          runs between the first and the timed ones (default 2)
  --tuning FILE       a table of measured GPU kernels, or off (default: what \`sardonyx tune\` found here)
  --input NAME=VALUE  a .pb or .npy file, or numbers; other inputs get noise
  --seed N            of the noise (default 1)
  --dims NAME=N,…     sizes of free dims (default 1)
  --operators FILE    a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json              print every figure, and every time in ms

Devices take turns, run by run, so that a machine that slows down slows all alike.
Exit status: 0 fine, 1 a run failed, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    device: { type: 'string', multiple: true },
    runs: { type: 'string' },
    seconds: { type: 'string' },
    warmup: { type: 'string' },
    input: { type: 'string', multiple: true },
    seed: { type: 'string' },
    dims: { type: 'string', multiple: true },
    tuning: { type: 'string' },
  },
  run: bench,
};

interface Timed {
  readonly session: Session;
  readonly feeds: Record<string, Value>;
  readonly loadMs: number;
  firstMs: number;
  readonly times: number[];
}

async function bench(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const path = modelOf(positionals, 'bench');
  const devices = (list(given, 'device').length > 0 ? list(given, 'device') : ['auto'])
    .flatMap((d) => d.split(','))
    .map(deviceOf);
  const runs = number(given, 'runs', 1);
  const seconds = number(given, 'seconds') ?? 5;
  const warmup = number(given, 'warmup') ?? 2;
  const timed: Timed[] = [];
  try {
    for (const device of devices) timed.push(await open(path, device, given));
    for (const t of timed) {
      progress(`${t.session.device}: first run`);
      t.firstMs = await once(t);
      for (let i = 0; i < warmup; i++) await once(t);
    }
    const until = performance.now() + 1000 * seconds * timed.length;
    for (let i = 0; runs === undefined ? i < 5 || performance.now() < until : i < runs; i++) {
      progress(`run ${i + 1}`);
      for (const t of timed) t.times.push(await once(t));
    }
    progress('');
    report(path, timed, given['json'] === true);
    return 0;
  } finally {
    for (const t of timed) await t.session.release();
  }
}

async function open(path: string, device: DeviceName, given: Given): Promise<Timed> {
  progress(`loading on ${device}`);
  const started = performance.now();
  const session = await Session.load(path, {
    device,
    tuning: await tuningGiven(text(given, 'tuning')),
    ...(await operatorsGiven(given)),
  });
  const loadMs = performance.now() - started;
  const feeds = await feedsFor(
    session,
    path,
    pairs(given, 'input'),
    dimsOf(given),
    seeded(number(given, 'seed') ?? 1),
    1,
  );
  return { session, feeds, loadMs, firstMs: 0, times: [] };
}

async function once({ session, feeds }: Timed): Promise<number> {
  const started = performance.now();
  await session.run(feeds);
  return performance.now() - started;
}

/** The value below which `share` of the sorted times lie (nearest rank). */
export const percentile = (times: readonly number[], share: number): number => {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? fail('internal', 'no times');
};

function report(path: string, timed: readonly Timed[], json: boolean): void {
  const figures = timed.map(({ session, loadMs, firstMs, times, feeds }) => ({
    device: session.device,
    loadMs,
    firstMs,
    medianMs: percentile(times, 0.5),
    p10Ms: percentile(times, 0.1),
    p90Ms: percentile(times, 0.9),
    runs: times.length,
    deviceBytes: session.bytes,
    inputs: Object.fromEntries(
      Object.entries(feeds).map(([name, v]) => [name, isTensor(v) ? `${v.dtype}[${v.shape}]` : v.kind]),
    ),
    times,
  }));
  if (json) return printJson({ model: path, devices: figures });
  print(
    `${path}  ${Object.entries(figures[0]?.inputs ?? {})
      .map(([name, v]) => `${name}: ${v}`)
      .join(', ')}`,
  );
  const ms = (x: number): string => `${x < 10 ? x.toFixed(2) : x.toFixed(1)} ms`;
  print(
    table([
      ['device', 'load', 'first run', 'median', 'p10', 'p90', 'runs', 'memory'],
      ...figures.map((f) => [
        f.device,
        ms(f.loadMs),
        ms(f.firstMs),
        ms(f.medianMs),
        ms(f.p10Ms),
        ms(f.p90Ms),
        String(f.runs),
        human(f.deviceBytes),
      ]),
    ]),
  );
}
