import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseModel } from '../1-parse/model.ts';
import type { ValueType } from '../1-parse/proto.ts';
import { isInt64 } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { bigints, numbers } from '../core/numbers.ts';
import { isTensor, sizeOf, type Tensor, type Value } from '../core/tensor.ts';
import { type Port, Session } from '../index.ts';
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
  text,
} from './command.ts';
import { elementsText } from './compare.ts';
import { boundShape, type Dims, randomInput, readInput, seeded } from './inputs.ts';
import { encodeNpy } from './npy.ts';
import { tuningGiven } from './tuning-file.ts';
import { placements } from './verify.ts';

/** `sardonyx run`: one run, and what came out. */
export const runModelCommand: Command = {
  name: 'run',
  summary: 'run a model once and show its outputs',
  usage: `sardonyx run MODEL [options]

  --input NAME=VALUE  a .pb or .npy file, or numbers with commas between; a single number fills the input
  --random            give noise to inputs that are not given
  --seed N            of the noise (default 1)
  --dims NAME=N,…     sizes of free dims, for inputs made of numbers or noise
  --device NAME       auto, webgpu, wasm or reference (default auto)
  --tuning FILE       a table of measured GPU kernels, or off (default: what \`sardonyx tune\` found here)
  --save FOLDER       write each output as FOLDER/NAME.npy
  --operators FILE    a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json              print shapes, ranges and elements as JSON

Exit status: 0 fine, 1 the run failed, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    input: { type: 'string', multiple: true },
    random: { type: 'boolean' },
    seed: { type: 'string' },
    dims: { type: 'string', multiple: true },
    device: { type: 'string' },
    save: { type: 'string' },
    tuning: { type: 'string' },
  },
  run: runModel,
};

async function runModel(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const path = modelOf(positionals, 'run');
  const session = await Session.load(path, {
    device: deviceOf(text(given, 'device') ?? 'auto'),
    tuning: await tuningGiven(text(given, 'tuning')),
    ...(await operatorsGiven(given)),
  });
  try {
    const noise = given['random'] ? seeded(number(given, 'seed') ?? 1) : null;
    const feeds = await feedsFor(session, path, pairs(given, 'input'), dimsOf(given), noise);
    const started = performance.now();
    const results = await session.run(feeds);
    const ms = performance.now() - started;
    const folder = text(given, 'save');
    if (folder !== undefined) await save(folder, results);
    if (given['json'])
      printJson({
        device: session.device,
        ms,
        outputs: Object.fromEntries(Object.entries(results).map(([name, v]) => [name, figuresOf(v)])),
        nodes: placements(session.plans),
      });
    else {
      for (const [name, v] of Object.entries(results)) print(`${name}: ${describe(v)}`);
      print(`${ms.toFixed(1)} ms on ${session.device}`);
    }
    return 0;
  } finally {
    await session.release();
  }
}

/**
 * Feeds from the command line; `noise` for what is not given, if there is any, with free dims of the size `free`, which
 * is told.
 */
export async function feedsFor(
  session: Session,
  path: string,
  typed: ReadonlyMap<string, string>,
  dims: Dims,
  noise: (() => number) | null,
  free?: number,
): Promise<Record<string, Value>> {
  const feeds: Record<string, Value> = Object.create(null);
  for (const name of typed.keys())
    if (!session.inputs.some((p) => p.name === name))
      fail(
        'input_unknown',
        `the model has no input ${JSON.stringify(name)}; it has ${session.inputs.map((p) => p.name).join(', ')}`,
      );
  const needsTypes = [...typed.values()].some((v) => v.endsWith('.pb')) && session.inputs.some((p) => p.dtype === null);
  const types: readonly (ValueType | null)[] = needsTypes ? parseModel(await readFile(path)).inputTypes : [];
  for (const [i, port] of session.inputs.entries()) {
    const value = typed.get(port.name);
    if (value !== undefined) feeds[port.name] = await readInput(port, value, types[i] ?? null, dims);
    else if (noise) feeds[port.name] = noiseFor(port, dims, noise, free);
  }
  const guessed =
    free === undefined || !noise
      ? []
      : session.inputs
          .filter((p) => !typed.has(p.name))
          .flatMap((p) =>
            (p.shape ?? []).flatMap((d, i) =>
              typeof d === 'number' || Object.hasOwn(dims, d ?? `${p.name}.${i}`) ? [] : [d ?? `${p.name}.${i}`],
            ),
          );
  const note = `free dims taken as ${free}: ${[...new Set(guessed)].join(', ')}; --dims NAME=N gives others`;
  if (guessed.length > 0 && !told.has(note)) process.stderr.write(`${note}\n`);
  told.add(note);
  return feeds;
}
/** A command that loads a model several times says things once. */
const told = new Set<string>();

const noiseFor = (port: Port, dims: Dims, noise: () => number, free?: number): Tensor =>
  randomInput(
    port,
    port.dtype ?? fail('input_missing', `input ${port.name} is no tensor; give it with --input ${port.name}=FILE.pb`),
    boundShape(port, dims, free),
    noise,
  );

async function save(folder: string, results: Readonly<Record<string, Value>>): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, v] of Object.entries(results)) {
    if (!isTensor(v)) fail('option_invalid', `output ${name} is a ${v.kind}, which no .npy file holds`);
    await writeFile(join(folder, `${name.replace(/[^\w.-]/g, '_')}.npy`), encodeNpy(v));
  }
}

/** Dtype, shape, range and first elements; NaN counted apart. */
function figuresOf(v: Value): Record<string, unknown> {
  if (!isTensor(v))
    return v.kind === 'sequence'
      ? { kind: v.kind, items: v.items.map(figuresOf) }
      : v.kind === 'optional'
        ? { kind: v.kind, value: v.value && figuresOf(v.value) }
        : { kind: v.kind, keys: v.keys, values: figuresOf(v.values) };
  const elements = elementsText(v, 8);
  if (v.dtype === 'string' || sizeOf(v.shape) === 0) return { dtype: v.dtype, shape: v.shape, elements };
  const all = numbers(v);
  let [min, max, sum, nan] = [Infinity, -Infinity, 0, 0];
  for (let i = 0; i < all.length; i++) {
    const x = all[i]!;
    if (x !== x) nan++;
    else {
      min = Math.min(min, x);
      max = Math.max(max, x);
      sum += x;
    }
  }
  const exact = isInt64(v.dtype) ? bigints(v) : null;
  const ends = exact
    ? Array.from(exact).reduce(([lo, hi], x) => [x < lo! ? x : lo!, x > hi! ? x : hi!], [exact[0]!, exact[0]!])
    : [min, max];
  return {
    dtype: v.dtype,
    shape: v.shape,
    min: ends[0],
    max: ends[1],
    mean: sum / (all.length - nan),
    ...(nan > 0 ? { nan } : {}),
    elements,
  };
}

function describe(v: Value): string {
  if (!isTensor(v))
    return v.kind === 'sequence'
      ? `sequence of ${v.items.length}: ${v.items.slice(0, 4).map(describe).join('; ')}`
      : v.kind === 'optional'
        ? `optional of ${v.value ? describe(v.value) : 'nothing'}`
        : `map of ${v.keys.length}: ${v.keys.slice(0, 8).join(', ')} -> ${describe(v.values)}`;
  const f = figuresOf(v);
  const range =
    'min' in f
      ? `  min ${f['min']}  max ${f['max']}  mean ${Number(f['mean']).toPrecision(6)}${f['nan'] ? `  ${f['nan']} NaN` : ''}`
      : '';
  return `${v.dtype}[${v.shape}]${range}  [${f['elements']}]`;
}
