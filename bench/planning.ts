/**
 * `npm run bench:planning`: what a plan for other dims costs. Of each model under the folder whose inputs have free dims, plans are made for dims that follow one
 * another as in use (a token more, a batch or a prompt of another length, an image of another size); no device is
 * touched.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { equip } from '../kernels/operators.ts';
import { number, print, printJson, progress, table } from '../src/cli/command.ts';
import { bodiesOf, constantOf, type Fact, type Graph } from '../src/core/graph.ts';
import { BASE_GPU, BASE_WASM } from '../src/core/plan.ts';
import { tensor } from '../src/core/tensor.ts';
import { kernelsFor } from '../src/devices/index.ts';
import { loadGraph } from '../src/load.ts';
import { draft, segmentRequest } from '../src/runner.ts';
import { save } from './cases.ts';
import { spread, type Spread } from './timing.ts';

const USAGE = `npm run bench:planning -- [options]

  --models FOLDER   default ../shared/data/models
  --only TEXT,…     only models whose name contains one of these
  --device NAME     webgpu or wasm (default both)
  --plans N         plans that are timed, ten a sample (default 100), after 40 that warm the planner up
  --json            print the report as JSON
  --out FILE.md     also write the table there`;

const { values: given } = parseArgs({
  options: {
    models: { type: 'string' },
    only: { type: 'string' },
    device: { type: 'string' },
    plans: { type: 'string' },
    json: { type: 'boolean' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
});
/** Plans before the first sample, and plans in one: the system counts a thread's time in steps of some milliseconds. */
const WARM = 40;
const SAMPLE = 10;
/**
 * Milliseconds of a plan at other dims, for each hundred nodes that the file has; those of the very first, and of the
 * second.
 */
interface Figure {
  readonly model: string;
  readonly device: string;
  readonly nodes: number;
  readonly first: number;
  readonly second: number;
  readonly again: Spread;
}

/**
 * What a dim of this name is in the i-th plan. All differ from each other, and none is 1, so that all plans are of one
 * class.
 */
function sizeAt(name: string, i: number): number {
  if (/^(tb|ib|b|.*batch.*|.*Dimension\.0|None|unk.*)$/.test(name) && !/seq_len_in_batch/.test(name))
    return name === 'ib' ? 2 : 3;
  if (/past/.test(name)) return 40 + i;
  if (/total/.test(name)) return 41 + i;
  if (/^p2o/.test(name))
    return (name.endsWith('1') ? 160 : 512) + 32 * (i % 16) + (name.endsWith('1') ? 0 : 32 * Math.floor(i / 16));
  if (name === 'sequence') return 512;
  if (name === 'n') return 1600 + 320 * i;
  return 10 + (i % 64);
}
/** A batch of images takes others places than a length does: where nothing else is free, it grows. */
function factsAt(graph: Graph, i: number): Map<number, Fact> {
  const names = new Set(
    graph.inputs.flatMap((v) => graph.values[v]!.declared!.shape!.filter((d) => typeof d === 'string')),
  );
  const decodes = [...names].some((n) => /past/.test(n));
  const growing = [...names].some((n) => sizeAt(n, 0) !== sizeAt(n, 1));
  return new Map(
    graph.inputs.map((v): [number, Fact] => {
      const { declared, name } = graph.values[v]!;
      const { dtype, shape } = declared!;
      if (name === 'sr') return [v, { dtype, shape: [], constant: constantOf(tensor('int64', [], [16000n])) }];
      return [
        v,
        {
          dtype,
          shape: shape!.map((d, at) => {
            if (typeof d === 'number') return d;
            if (decodes && d !== null && /^(batch|batch_size)$/.test(d)) return 1;
            if (decodes && d !== null && /^(seq|seq_len|sequence_length)$/.test(d)) return 1;
            if (!growing)
              return d === 'sequence' || (d === null && at === 1 && shape!.length === 2) ? 512 : 3 + (i % 64);
            return sizeAt(d ?? 'batch', i);
          }),
        },
      ];
    }),
  );
}
const nodesIn = (graph: Graph): number =>
  graph.nodes.reduce((n, node) => n + 1 + bodiesOf(node).reduce((m, b) => m + nodesIn(b), 0), 0);

/** Milliseconds that the main thread has run on a processor: where the system does not say, those that have passed. */
function spent(): number {
  try {
    return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

async function measure(file: string, model: string, kind: 'webgpu' | 'wasm', plans: number): Promise<Figure | null> {
  const {
    model: { graph },
    definitions,
    sets,
    rules,
  } = await loadGraph(file, {});
  if (graph.inputs.every((v) => graph.values[v]!.declared!.shape!.every((d) => typeof d === 'number'))) return null;
  const ops = equip(definitions, await kernelsFor(kind, sets));
  const caps = kind === 'webgpu' ? BASE_GPU : { ...BASE_WASM, fma: true };
  const nodes = nodesIn(graph);
  const recipes: NonNullable<Parameters<typeof segmentRequest>[5]> = [];
  /** Milliseconds of each of `n` plans, from the i-th on. */
  const plan = (i: number, n = 1): number => {
    const works = Array.from({ length: n }, (_, k) => ({
      nodes: graph.nodes,
      values: graph.values,
      facts: factsAt(graph, i + k),
      opaque: new Set<number>(),
      outputs: graph.outputs,
    }));
    const start = spent();
    for (const work of works) draft(segmentRequest(work, ops, rules, caps, undefined, recipes), model, ops, caps);
    return ((spent() - start) * 100) / nodes / n;
  };
  const first = plan(0);
  const second = plan(1);
  const times: number[] = [];
  for (let i = 2; i < WARM; i++) plan(i);
  for (let i = WARM; i < WARM + plans; i += SAMPLE) times.push(plan(i, SAMPLE));
  return { model, device: kind, nodes, first, second, again: spread(times) };
}

async function bench(): Promise<void> {
  const folder = resolve(given.models ?? '../shared/data/models');
  const only = given.only?.split(',');
  const kinds = (['webgpu', 'wasm'] as const).filter((k) => (given.device ?? k) === k);
  const figures: Figure[] = [];
  for (const model of readdirSync(folder)) {
    const file = resolve(folder, model, 'model.onnx');
    if (!existsSync(file) || (only && !only.some((t) => model.includes(t)))) continue;
    for (const kind of kinds) {
      progress(`${model} ${kind}`);
      const figure = await measure(file, model, kind, number(given, 'plans', 1) ?? 100);
      if (figure) figures.push(figure);
    }
  }
  progress('');
  const machine = { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, load: loadavg()[2]! };
  if (given.json) printJson({ machine, node: process.versions.node, figures });
  const rows = [
    ['model', 'device', 'nodes', 'median', 'p10–p90', 'second plan', 'first plan'],
    ...figures.map((f) => [
      f.model,
      f.device,
      `${f.nodes}`,
      f.again.median.toFixed(2),
      `${f.again.p10.toFixed(2)}–${f.again.p90.toFixed(2)}`,
      f.second.toFixed(1),
      f.first.toFixed(1),
    ]),
  ];
  const worst = [...figures].sort((a, b) => b.again.median - a.again.median)[0];
  const heading = `Node ${process.versions.node}, ${machine.cpu}, load average ${machine.load.toFixed(1)}. Milliseconds of the main thread that a plan for other dims of one class takes, for each hundred nodes.`;
  const end = worst
    ? `worst: ${worst.model} on ${worst.device}, ${worst.again.median.toFixed(2)}; at most 1: ${figures.filter((f) => f.again.median <= 1).length} of ${figures.length}`
    : '';
  if (!given.json) print(`${heading}\n${table(rows)}\n${end}`);
  if (given.out === undefined) return;
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  await save(
    given.out,
    [
      heading,
      `${end[0]?.toUpperCase()}${end.slice(1)}.`,
      '',
      line(rows[0]!),
      line(rows[0]!.map((_, i) => (i < 2 ? '---' : '--:'))),
      ...rows.slice(1).map(line),
      '',
    ].join('\n'),
  );
}

if (given.help) print(USAGE);
else await bench();
