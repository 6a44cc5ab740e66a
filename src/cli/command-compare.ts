import type { ValueId } from '../core/graph.ts';
import type { Value } from '../core/tensor.ts';
import { fail } from '../core/errors.ts';
import { Session, type SessionOptions } from '../session.ts';
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
import { mismatchText, MODEL_TOLERANCE, type Tolerance } from './compare.ts';
import { type Compared, type Difference, firstDifference } from './first-difference.ts';
import { seeded } from './inputs.ts';
import { borderOf, writeRepro } from './repro.ts';
import { tuningGiven } from './tuning-file.ts';

/** `sardonyx compare`: where two devices part. */
export const compareCommand: Command = {
  name: 'compare',
  summary: 'find the first node whose results differ between two devices',
  usage: `sardonyx compare MODEL [options]

Runs the model on both devices. If an output differs, values in the middle are looked at, a dozen at a time, until the first node is found whose
inputs agree and whose output does not.

  --devices A,B       the device in question and the one that is believed (default webgpu,reference)
  --repro DIR         write that node as a model with its inputs and right outputs: a case for sardonyx verify DIR
  --rtol N, --atol N  what may differ: N of the element, N of the tensor's largest magnitude (default ${MODEL_TOLERANCE.rtol}, ${MODEL_TOLERANCE.atol})
  --no-optimize       merge no operators
  --tuning FILE       a table of measured GPU kernels, or off (default: what \`sardonyx tune\` found here)
  --input NAME=VALUE  a .pb or .npy file, or numbers; other inputs get noise
  --seed N            of the noise (default 1)
  --dims NAME=N,…     sizes of free dims (default 1)
  --operators FILE    a module of JavaScript that exports operators of your own (\`defineOperator\`)
  --json              print what was compared as JSON

Exit status: 0 the devices agree, 1 they differ, 2 the request is wrong.`,
  options: {
    operators: { type: 'string' },
    devices: { type: 'string' },
    repro: { type: 'string' },
    rtol: { type: 'string' },
    atol: { type: 'string' },
    'no-optimize': { type: 'boolean' },
    tuning: { type: 'string' },
    input: { type: 'string', multiple: true },
    seed: { type: 'string' },
    dims: { type: 'string', multiple: true },
  },
  run: compare,
};

async function compare(positionals: readonly string[], given: Given): Promise<ExitCode> {
  const source = modelOf(positionals, 'compare');
  const names = (text(given, 'devices') ?? 'webgpu,reference').split(',');
  if (names.length !== 2)
    fail(
      'option_invalid',
      `--devices ${names.join()} names ${names.length} devices; give the one in question and the one that is believed`,
    );
  const devices = [deviceOf(names[0]!), deviceOf(names[1]!)] as const;
  const tolerance: Tolerance = {
    ...MODEL_TOLERANCE,
    rtol: number(given, 'rtol') ?? MODEL_TOLERANCE.rtol,
    atol: number(given, 'atol') ?? MODEL_TOLERANCE.atol,
  };
  const feeds = (session: Session): Promise<Record<string, Value>> =>
    feedsFor(session, source, pairs(given, 'input'), dimsOf(given), seeded(number(given, 'seed') ?? 1), 1);
  const options = {
    tuning: await tuningGiven(text(given, 'tuning')),
    ...(given['no-optimize'] ? { optimize: false } : {}),
    ...(await operatorsGiven(given)),
  };
  const found = await firstDifference({ source, devices, feeds, tolerance, options, onProgress: progress });
  progress('');
  const folder = text(given, 'repro');
  if (folder !== undefined && found.nodes.length > 0)
    await writeRepro(
      folder,
      found.graph,
      found.nodes,
      await borderValues(source, { ...options, device: devices[1] }, found, feeds),
    );
  if (given['json'])
    printJson({
      model: source,
      devices: names,
      tolerance,
      first: found.first && rowOf(found.first),
      nodes: found.nodes.map((n) => ({ node: n.name, op: n.op })),
      merged: found.merged,
      compared: found.compared.map(rowOf),
      runs: found.runs,
      ...(folder !== undefined && found.first ? { repro: folder } : {}),
    });
  else report(names, found, folder);
  return found.first === null ? 0 : 1;
}

/** What the nodes to blame read and should make, on the device that is believed. */
async function borderValues(
  source: string,
  options: SessionOptions,
  { graph, nodes }: Difference,
  feeds: (session: Session) => Promise<Record<string, Value>>,
): Promise<Map<ValueId, Value>> {
  const { reads, makes } = borderOf(graph, nodes);
  const made = new Set(graph.nodes.flatMap((n) => n.outputs));
  const wanted = [...reads, ...makes].filter((v) => made.has(v));
  await using session = await Session.load(source, options, {
    edit: (parsed) => ({ ...parsed, outputs: [...new Set([...parsed.outputs, ...wanted])] }),
  });
  const given = await feeds(session);
  const results = await session.run(given);
  return new Map(
    [...reads, ...makes].map((v) => {
      const { name } = graph.values[v]!;
      return [v, results[name] ?? given[name] ?? fail('internal', `value ${name} is neither read nor made`)];
    }),
  );
}

const rowOf = ({ comparison: { mismatch, maxAbs, maxRel }, ...c }: Compared): object => ({
  ...c,
  agrees: mismatch === null,
  maxAbs,
  maxRel,
  ...(mismatch ? { mismatch: mismatchText(mismatch) } : {}),
});

function report(
  [got, want]: readonly string[],
  { compared, first, nodes, merged, runs }: Difference,
  repro: string | undefined,
): void {
  const short = (x: number): string => (Number.isFinite(x) ? x.toExponential(1) : String(x));
  print(
    table([
      ['value', 'operator', 'node', 'max abs', 'max rel', ''],
      ...compared.map(({ value, op, node, comparison: { mismatch, maxAbs, maxRel } }) => [
        value,
        op,
        node,
        short(maxAbs),
        short(maxRel),
        mismatch === null ? 'agrees' : 'differs',
      ]),
    ]),
  );
  if (first === null) return print(`${got} agrees with ${want}`);
  print(`${got} and ${want} part at node ${first.node} (${first.op}): ${mismatchText(first.comparison.mismatch!)}`);
  if (merged)
    print(
      `each node by itself agrees; together they differ: ${nodes.map((n) => `${n.name} (${n.op})`).join(', ')}. Their fusion is wrong, or its rounding is`,
    );
  print(
    `found in ${runs} runs${repro === undefined ? '; --repro DIR writes the node as a case' : `; ${repro} is a case for sardonyx verify ${repro} --device ${got}`}`,
  );
}
