/**
 * `npm run bench:accuracy`: how far Sardonyx on WASM and onnxruntime-web are from the reference in double precision, model by model.
 * The first inputs are those that the model comes with; a single one's largest error is a matter of luck, so others are
 * made from them.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { findCases } from '../src/cli/cases.ts';
import { print, printJson, progress, table } from '../src/cli/command.ts';
import { errorText, recordedFeeds } from '../src/cli/verify.ts';
import { isFloat } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { numbers } from '../src/core/numbers.ts';
import { isTensor, type Value } from '../src/core/tensor.ts';
import { inDoubles, varied, wideValue } from './doubles.ts';
import { openRuntime, type Runtime } from './runtimes.ts';
import { geometricMean } from './timing.ts';

const USAGE = `npm run bench:accuracy -- [options]

  --models NAME,…  only models whose name contains one of these
  --data DIR       folders of cases (default ../shared/data/models)
  --inputs N       how many inputs: the recorded ones, and N - 1 made from them (default 7)
  --relaxed        relaxed SIMD in V8 even where it is behind a flag (Node 20)
  --json           print the figures as JSON
  --out FILE.md    also write the table there`;

const { values: given } = parseArgs({
  options: {
    models: { type: 'string' },
    data: { type: 'string', multiple: true },
    relaxed: { type: 'boolean' },
    inputs: { type: 'string' },
    json: { type: 'boolean' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
});

/**
 * The largest error of a model's float outputs over the largest number of that output, and the mean error over the mean
 * number.
 */
interface Distance {
  readonly max: number;
  readonly mean: number;
}
interface Row {
  readonly model: string;
  readonly ours?: Distance;
  readonly peer?: Distance;
  /** An operator that knows no doubles: the reference rounds after every operator. */
  readonly rounded?: true;
  readonly error?: string;
}

function distance(got: Readonly<Record<string, Value>>, want: Readonly<Record<string, Value>>): Distance {
  let [max, mean] = [0, 0];
  for (const [name, value] of Object.entries(want)) {
    const other = got[name];
    if (!isTensor(value) || !isFloat(value.dtype) || other === undefined || !isTensor(other)) continue;
    const [a, b] = [numbers(other), numbers(value)];
    let [most, sum, far, off] = [0, 0, 0, 0];
    for (let i = 0; i < b.length; i++) {
      if (!Number.isFinite(b[i]!)) continue;
      const error = Math.abs(a[i]! - b[i]!);
      most = Math.max(most, Math.abs(b[i]!));
      sum += Math.abs(b[i]!);
      far = Math.max(far, Number.isFinite(error) ? error : Infinity);
      off += error;
    }
    if (sum > 0) [max, mean] = [Math.max(max, far / most), Math.max(mean, off / sum)];
  }
  return { max, mean };
}

/** Median over inputs. */
const together = (found: readonly Distance[]): Distance => {
  const of = (pick: (d: Distance) => number): number => found.map(pick).sort((a, b) => a - b)[found.length >> 1]!;
  return { max: of((d) => d.max), mean: of((d) => d.mean) };
};
/**
 * What the model gives in double precision throughout; where an operator is not defined for doubles, rounded after
 * every operator, and true.
 */
async function wanted(
  model: string,
  feeds: readonly Readonly<Record<string, Value>>[],
): Promise<[Record<string, Value>[], boolean]> {
  const { Session } = await import('../src/session.ts');
  const all = async (edit: typeof inDoubles | undefined, of: typeof wideValue): Promise<Record<string, Value>[]> => {
    await using exact = await Session.load(model, { device: 'reference', optimize: false }, edit ? { edit } : {});
    const results: Record<string, Value>[] = [];
    for (const f of feeds)
      results.push(await exact.run(Object.fromEntries(Object.entries(f).map(([name, v]) => [name, of(v)]))));
    return results;
  };
  try {
    return [await all(inDoubles, wideValue), false];
  } catch (e) {
    if ((e as { code?: string }).code !== 'type_mismatch') throw e;
    return [await all(undefined, (v) => v), true];
  }
}
async function measure(
  model: string,
  set: Parameters<typeof recordedFeeds>[1] | undefined,
  runtimes: readonly Runtime[],
  inputs: number,
): Promise<Omit<Row, 'model'>> {
  try {
    const { Session } = await import('../src/session.ts');
    await using session = await Session.load(model, { device: 'reference', optimize: false });
    const recorded = await recordedFeeds(session, set ?? fail('option_invalid', 'the model has no recorded inputs'), {
      inputTypes: session.inputs.map(() => null),
    });
    const feeds = Array.from({ length: inputs }, (_, seed) => varied(recorded, seed));
    const [want, rounded] = await wanted(model, feeds);
    const found: Distance[] = [];
    for (const runtime of runtimes) {
      const loaded = await runtime.load(model);
      const each: Distance[] = [];
      for (const [i, f] of feeds.entries()) each.push(distance(loaded.values(await loaded.run(f)), want[i]!));
      found.push(together(each));
      await loaded.release();
    }
    return { ours: found[0]!, peer: found[1]!, ...(rounded ? { rounded } : {}) };
  } catch (e) {
    return { error: errorText(e) };
  }
}

const figure = (n: number | undefined): string => (n === undefined ? '' : n === 0 ? '0' : n.toExponential(1));
async function bench(): Promise<void> {
  if (given.relaxed) setFlagsFromString('--experimental-wasm-relaxed-simd');
  const names = given.models?.split(',');
  const cases = (given.data ?? ['../shared/data/models'])
    .flatMap(findCases)
    .filter((c) => names === undefined || names.some((w) => c.name.includes(w)));
  const inputs = Number(given.inputs ?? 7);
  const runtimes = [
    await openRuntime('sardonyx', { device: 'wasm', threads: 1 }),
    await openRuntime('onnxruntime-web', { device: 'wasm', threads: 1 }),
  ];
  const rows: Row[] = [];
  for (const [i, one] of cases.entries()) {
    progress(`${i + 1}/${cases.length} ${one.name}`);
    rows.push({ model: one.name, ...(await measure(one.model, one.sets[0], runtimes, inputs)) });
  }
  progress('');
  const both = rows.filter((r) => r.ours !== undefined && r.ours.max > 0 && r.peer!.max > 0);
  const ratio = (of: keyof Distance): string =>
    both.length ? `×${geometricMean(both.map((r) => r.peer![of] / r.ours![of])).toFixed(2)}` : '';
  const head = `sardonyx and onnxruntime-web ${runtimes[1]!.version} against the model in double precision, ${inputs} inputs each, Node ${process.versions.node}${given.relaxed ? ' with relaxed SIMD' : ''}. Errors relative to each output's largest, and mean, magnitude, median over inputs; geometric mean of peer / ours: ${ratio('max')} of the largest, ${ratio('mean')} of the mean error over ${both.length} models.`;
  const cells = rows.map((r) => [
    r.model,
    figure(r.ours?.max),
    figure(r.peer?.max),
    figure(r.ours?.mean),
    figure(r.peer?.mean),
    r.error ?? (r.rounded ? 'reference rounded after every operator' : ''),
  ]);
  const columns = ['model', 'max: ours', 'peer', 'mean: ours', 'peer', 'notes'];
  if (given.json) printJson({ node: process.versions.node, relaxedSimd: given.relaxed === true, rows });
  else print(`${head}\n${table([columns, ...cells])}`);
  if (given.out !== undefined) {
    await mkdir(dirname(given.out), { recursive: true });
    await writeFile(
      given.out,
      `${head}\n\n${[columns, ['---', '--:', '--:', '--:', '--:', '---'], ...cells].map((c) => `| ${c.join(' | ')} |`).join('\n')}\n`,
    );
  }
}

if (given.help) print(USAGE);
else await bench();
