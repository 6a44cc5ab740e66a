/** Tuning records as files. */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fail } from '../core/errors.ts';
import { checkTable, type TuningTable } from '../3-plan/tuning.ts';
import type { TuningRecord } from '../tune/index.ts';

/** Where the records of this user are kept. */
export const tuningFolder = (): string =>
  join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'sardonyx', 'tuning');

/** A record or any other table. @throws option_invalid */
export async function readTuning(file: string): Promise<TuningTable> {
  try {
    const table: unknown = JSON.parse(await readFile(file, 'utf8'));
    checkTable(table);
    return table;
  } catch (e) {
    if ((e as { code?: string }).code === 'option_invalid') throw e;
    return fail('option_invalid', `cannot read the tuning table ${file}: ${(e as Error).message}`);
  }
}

/** Writes a record whole or not at all: a run that is stopped leaves what the last problem left. */
export async function writeTuning(file: string, record: TuningRecord): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.draft`, recordText(record));
  await rename(`${file}.draft`, file);
}

/** A record as JSON, an entry a line, figures as exact as they are meant. */
function recordText({ entries, ...head }: TuningRecord): string {
  const short = (_: string, v: unknown): unknown =>
    typeof v === 'number' && !Number.isInteger(v) ? Number(v.toPrecision(4)) : v;
  return `${JSON.stringify(head, short, 2).slice(0, -2)},\n  "entries": [\n${entries.map((e) => `    ${JSON.stringify(e, short)}`).join(',\n')}\n  ]\n}\n`;
}

/** The tables that `--tuning` names: "off", a file, or, by default, what this user has tuned. */
export async function tuningGiven(given: string | undefined): Promise<readonly TuningTable[] | false> {
  if (given === 'off') return false;
  if (given !== undefined) return [await readTuning(given)];
  const { readdir } = await import('node:fs/promises');
  const files = await readdir(tuningFolder()).catch(() => []);
  return Promise.all(files.filter((f) => f.endsWith('.json')).map((f) => readTuning(join(tuningFolder(), f))));
}
