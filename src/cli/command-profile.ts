import { writeFile } from 'node:fs/promises';
import { type Profile, profile, profileHtml } from '../tune/index.ts';
import {
  type Command,
  deviceOf,
  dimsOf,
  type ExitCode,
  type Given,
  human,
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

/** `sardonyx profile`: where the time and the memory of a model go. */
export const profileCommand: Command = {
  name: 'profile',
  summary: 'measure each node of a model, beside what the device could do',
  usage: `sardonyx profile MODEL [options]

Runs the model, then runs it again with each step measured by itself: on a GPU by timestamps, where it has them. The roofline is this device's own,
measured by small kernels.

  --device NAME       auto, webgpu, wasm or reference (default auto)
  --html FILE         write a report with plots: waterfall, roofline, memory map
  --runs N            measured runs; the median counts (default 5)
  --top N             nodes to list (default 15)
  --threads N         threads of wasm
  --tuning FILE       a table of measured GPU kernels, or off (default: what \`sardonyx tune\` found here)
  --input NAME=VALUE  a .pb or .npy file, or numbers; other inputs get noise
  --seed N            of the noise (default 1)
  --dims NAME=N,…     sizes of free dims (default 1)
  --operators FILE    a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json              print everything as JSON

Exit status: 0 fine, 1 the run failed, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    device: { type: 'string' },
    html: { type: 'string' },
    runs: { type: 'string' },
    top: { type: 'string' },
    threads: { type: 'string' },
    tuning: { type: 'string' },
    input: { type: 'string', multiple: true },
    seed: { type: 'string' },
    dims: { type: 'string', multiple: true },
  },
  run: profileModel,
};

async function profileModel(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const path = modelOf(positionals, 'profile');
  const threads = number(given, 'threads', 1);
  const measured = await profile(
    path,
    (session) => feedsFor(session, path, pairs(given, 'input'), dimsOf(given), seeded(number(given, 'seed') ?? 1), 1),
    {
      device: deviceOf(text(given, 'device') ?? 'auto'),
      runs: number(given, 'runs', 1) ?? 5,
      tuning: await tuningGiven(text(given, 'tuning')),
      ...(await operatorsGiven(given)),
      ...(threads === undefined ? {} : { threads }),
      onProgress: progress,
    },
  );
  progress('');
  const found = { ...measured, model: path };
  const file = text(given, 'html');
  if (file !== undefined) await writeFile(file, profileHtml(found));
  if (given['json']) printJson(found);
  else {
    report(found, number(given, 'top', 1) ?? 15);
    if (file !== undefined) print(`report written to ${file}`);
  }
  return 0;
}

const ms = (x: number): string => (x < 1 ? x.toFixed(4) : x.toFixed(2));
const percent = (x: number | null): string => (x === null ? '' : `${(100 * x).toFixed(x < 0.1 ? 1 : 0)} %`);

function report(p: Profile, top: number): void {
  const sum = (f: (plan: Profile['plans'][number]) => number): number => p.plans.reduce((n, plan) => n + f(plan), 0);
  const peak = Math.max(0, ...p.plans.map((x) => x.peakBytes));
  const least = Math.max(0, ...p.plans.map((x) => x.lowerBoundBytes));
  print(
    `${p.model} on ${p.device} (${p.adapter}): ${p.peaks.gflops.toFixed(1)} GFLOP/s of multiply-add in registers, ${p.peaks.copyGBs.toFixed(1)} GB/s copied`,
  );
  print(
    table([
      ['a run', `${ms(p.runMs)} ms`, `load ${ms(p.loadMs)} ms, first run ${ms(p.firstMs)} ms`],
      ['in nodes', `${ms(p.nodesMs)} ms`, p.method],
      [
        'gaps',
        `${ms(p.gapMs)} ms`,
        p.gapMs < 0 ? 'steps by themselves are slower than in a row' : 'copies of inputs and outputs, submits, waits',
      ],
      [
        p.device === 'webgpu' ? 'dispatches' : 'calls',
        String(sum((x) => x.dispatches)),
        `${sum((x) => x.pipelines)} ${p.device === 'webgpu' ? 'pipelines' : 'modules'}`,
      ],
      ['activations', human(peak), `no plan can do with less than ${human(least)}`],
      ['weights', human(Math.max(0, ...p.plans.map((x) => x.weightBytes))), ''],
      ['copied', human(sum((x) => x.copiedBytes)), 'between host and device inside a run'],
    ]),
  );
  const nodes = [...p.nodes].sort((a, b) => b.ms - a.ms).slice(0, top);
  const rate = (n: (typeof nodes)[number]): string =>
    n.flops === null || n.bytes === null || n.ms === 0
      ? ''
      : n.flops > 4 * n.bytes
        ? `${(n.flops / n.ms / 1e6).toPrecision(3)} GFLOP/s`
        : `${(n.bytes / n.ms / 1e6).toPrecision(3)} GB/s`;
  const kernels = (n: (typeof nodes)[number]): string =>
    [...new Set(n.kernels)].join(', ') + (n.kernels.length > 1 ? ` ×${n.kernels.length}` : '');
  print(
    table([
      ['node', 'operator', 'kernel', 'ms', 'share', 'rate', 'of roofline'],
      ...nodes.map((n) => [
        n.node,
        n.op,
        kernels(n),
        ms(n.ms),
        percent(p.nodesMs > 0 ? n.ms / p.nodesMs : 0),
        rate(n),
        percent(n.roofline),
      ]),
    ]),
  );
  if (p.nodes.length > nodes.length) print(`  … and ${p.nodes.length - nodes.length} more`);
}
