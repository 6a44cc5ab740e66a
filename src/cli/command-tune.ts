import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '../core/errors.ts';
import {
  type Measured,
  mergeTuning,
  type TuneProgress,
  tuneModel,
  tuneStandard,
  type TuningRecord,
} from '../tune/index.ts';
import {
  type Command,
  dimsOf,
  type ExitCode,
  type Given,
  number,
  print,
  printJson,
  progress,
  table,
  text,
} from './command.ts';
import { readTuning, tuningFolder, writeTuning } from './tuning-file.ts';

/** `sardonyx tune`: the fastest kernels for this GPU. */
export const tuneCommand: Command = {
  name: 'tune',
  summary: 'find the fastest GPU kernels for a model, or for common shapes',
  usage: `sardonyx tune [MODEL] [options]

Every kernel and parameter set that can run a problem is compared with the reference, then timed beside the planner's own choice. What wins is
kept by adapter, and runs of the command take it from there; a program gives the file's content to Session.load as \`tuning\`.
Without MODEL: a standard set of problems.

  --budget S       seconds for everything (default 120)
  --out FILE       where to write the table (default: this user's cache, ${'$XDG_CACHE_HOME'}/sardonyx/tuning/ADAPTER.json)
  --resume         go on with the table that is there: what it has is not measured again
  --dims NAME=N,…  sizes of free dims (default 1)
  --only TEXT,…    only problems whose name contains one of these
  --json           print the table

Exit status: 0 fine, 1 a kernel gave wrong results, 2 the request is wrong.`,
  options: {
    budget: { type: 'string' },
    out: { type: 'string' },
    resume: { type: 'boolean' },
    dims: { type: 'string', multiple: true },
    only: { type: 'string' },
    device: { type: 'string' },
  },
  run: tuneOne,
};

async function tuneOne(positionals: readonly string[], given: Given): Promise<ExitCode> {
  if (positionals.length > 1)
    fail('option_invalid', `tune takes one model at most, not ${positionals.length}; see sardonyx tune --help`);
  if (text(given, 'device') !== undefined && text(given, 'device') !== 'webgpu')
    fail('option_invalid', 'only kernels of webgpu are tuned');
  const { record, file } = await tuned({
    model: positionals[0],
    seconds: number(given, 'budget', 1) ?? 120,
    out: text(given, 'out'),
    resume: given['resume'] === true,
    dims: dimsOf(given),
    only: text(given, 'only')?.split(','),
  });
  if (given['json']) printJson(record);
  else {
    report(record);
    print(`written to ${file}`);
  }
  return record.entries.some((e) => e.wrong.some((w) => !w.includes('does not compile'))) ? 1 : 0;
}

/** Tunes and writes after every problem; what the file knew already of this adapter stays. */
export async function tuned({
  model,
  seconds,
  out,
  resume,
  dims,
  only,
}: {
  readonly model: string | undefined;
  readonly seconds: number;
  readonly out: string | undefined;
  readonly resume: boolean;
  readonly dims: Readonly<Record<string, number>>;
  readonly only?: readonly string[] | undefined;
}): Promise<{ record: TuningRecord; file: string }> {
  const known = async (file: string): Promise<TuningRecord | null> =>
    existsSync(file) ? ((await readTuning(file)) as TuningRecord) : null;
  const fileOf = (adapter: string): string => out ?? join(tuningFolder(), `${adapter}.json`);
  let writing: Promise<unknown> = Promise.resolve();
  let before: TuningRecord | null | undefined;
  const keep = async (record: TuningRecord): Promise<TuningRecord> => {
    before ??= await known(fileOf(record.adapter));
    const all =
      before && before.adapter === record.adapter && before.harness === record.harness
        ? mergeTuning(before, record)
        : record;
    await writeTuning(fileOf(record.adapter), all);
    return all;
  };
  const { requestGpuDevice } = await import('../4-run/webgpu/device.ts');
  const { adapterName } = await import('../3-plan/tuning.ts');
  const { caps, device } = await requestGpuDevice({ allowSoftware: true });
  const from = resume ? await known(fileOf(adapterName(caps))) : null;
  const options = {
    device,
    seconds,
    ...(from ? { resume: from } : {}),
    ...(only ? { only: (p: string) => only.some((o) => p.includes(o)) } : {}),
    onProgress: (p: TuneProgress) => {
      progress(`${bar(p.done / Math.max(1, p.of))} ${p.done} of ${p.of}, ${p.seconds.toFixed(0)} s  ${p.problem}`);
      if (p.record.entries.length > 0) writing = writing.then(() => keep(p.record));
    },
  };
  const record = await (model === undefined ? tuneStandard(options) : tuneModel(model, { ...options, dims }));
  await writing;
  const all = await keep(record);
  progress('');
  return { record: all, file: fileOf(all.adapter) };
}

const bar = (share: number): string => `[${'#'.repeat(Math.round(share * 20)).padEnd(20, '.')}]`;
const paramsText = (e: Measured): string =>
  Object.entries(e.params ?? {})
    .map(([k, v]) => `${k}=${v}`)
    .join(' ');

/** The table for people: what was found, and what it brings. */
export function report(record: TuningRecord): void {
  print(
    `${record.adapter}: ${record.peaks.gflops.toFixed(1)} GFLOP/s of multiply-add in registers, ${record.peaks.copyGBs.toFixed(1)} GB/s copied; times by ${record.device.clock === 'timestamps' ? 'the GPU’s clock' : 'the wall clock'}`,
  );
  const ms = (x: number): string => (x < 1 ? x.toFixed(4) : x.toFixed(2));
  print(
    table([
      ['problem', 'sizes', 'kernel', 'parameters', 'ms', 'untuned ms', 'gain', 'of peak'],
      ...record.entries.map((e) => [
        e.group,
        e.sizes.join('×'),
        e.kernel,
        paramsText(e),
        ms(e.ms),
        ms(e.untuned.ms),
        `×${e.gain.toFixed(2)} ±${e.noise.toFixed(2)}`,
        `${(100 * e.roofline).toFixed(0)} %`,
      ]),
    ]),
  );
  const wrong = record.entries.flatMap((e) => e.wrong.map((w) => `  ${e.group} ${e.sizes.join('×')}  ${w}`));
  if (wrong.length > 0) print(`left out\n${wrong.join('\n')}`);
  const gains = record.entries.map((e) => e.gain);
  if (gains.length > 0)
    print(
      `${gains.filter((g) => g > 1).length} of ${gains.length} problems are faster than untuned; geometric mean ×${Math.exp(gains.reduce((n, g) => n + Math.log(g), 0) / gains.length).toFixed(3)}`,
    );
}
