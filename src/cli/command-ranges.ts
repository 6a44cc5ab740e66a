import {
  type Command,
  deviceOf,
  dimsOf,
  type ExitCode,
  type Given,
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
import { HALF_MAX, type Range, rangesOf } from './ranges.ts';

/** `sardonyx ranges`: what values a model makes on the way. */
export const rangesCommand: Command = {
  name: 'ranges',
  summary: 'the range of every value: the first NaN or infinity, and what float16 would not hold',
  usage: `sardonyx ranges MODEL [options]

Runs the model with all values on the way made outputs, and tells the smallest and the largest of each, the largest first. Nodes that make NaN or
infinities of finite inputs are named: an infinity is often absorbed later (x / Infinity = 0), and the outputs look fine and are wrong.
float32 values beyond ±${HALF_MAX} overflow in a float16 version of the model, and so do squares of those beyond ±255.

  --device NAME       auto, webgpu, wasm or reference (default auto)
  --top N             rows of the table (default 20)
  --input NAME=VALUE  a .pb or .npy file, or numbers; other inputs get noise
  --seed N            of the noise (default 1)
  --dims NAME=N,…     sizes of free dims (default 1)
  --operators FILE    a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json              print all values as JSON

Exit status: 0 all values come of finite ones, 1 a node makes NaN or infinities, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    device: { type: 'string' },
    top: { type: 'string' },
    input: { type: 'string', multiple: true },
    seed: { type: 'string' },
    dims: { type: 'string', multiple: true },
  },
  run: ranges,
};

async function ranges(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const source = modelOf(positionals, 'ranges');
  const top = number(given, 'top') ?? 20;
  const { all, broken, runs } = await rangesOf({
    source,
    device: deviceOf(text(given, 'device') ?? 'auto'),
    onProgress: progress,
    options: await operatorsGiven(given),
    feeds: (session) =>
      feedsFor(session, source, pairs(given, 'input'), dimsOf(given), seeded(number(given, 'seed') ?? 1), 1),
  });
  progress('');
  const overflows = all.filter((r) => r.dtype === 'float32' && largest(r) > HALF_MAX);
  if (given['json'])
    printJson({
      model: source,
      values: all,
      broken: broken.map((r) => r.value),
      beyondHalf: overflows.map((r) => r.value),
    });
  else {
    const rows = [...all].sort((a, b) => largest(b) - largest(a)).slice(0, top);
    print(
      table([
        ['value', 'operator', 'node', 'dtype', 'min', 'max', ''],
        ...rows.map((r) => [r.value, r.op, r.node, r.dtype, short(r.min), short(r.max), notes(r)]),
      ]),
    );
    print(`${all.length} values in ${runs} runs; ${overflows.length} beyond float16`);
    for (const r of broken) print(`${r.node} (${r.op}) makes ${notes(r)} of finite inputs: ${r.value}`);
  }
  return broken.length > 0 ? 1 : 0;
}

/** The largest magnitude; one that is no number is beyond all. */
const largest = (r: Range): number =>
  r.infinite + r.nan > 0 ? Infinity : Math.max(Math.abs(r.min), Math.abs(r.max), 0);
const short = (x: number): string => (Number.isFinite(x) ? Number(x.toPrecision(4)).toString() : '');
const notes = (r: Range): string =>
  [
    r.nan > 0 && `${r.nan} NaN`,
    r.infinite > 0 && `${r.infinite} infinite`,
    r.nan + r.infinite === 0 && r.dtype === 'float32' && largest(r) > HALF_MAX && 'beyond float16',
  ]
    .filter(Boolean)
    .join(', ');
