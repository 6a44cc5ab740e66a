/** What benches of models share: the cases, their recorded inputs, and whether two runtimes agree. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Case, findCases } from '../src/cli/cases.ts';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { recordedFeeds, recordedResults } from '../src/cli/verify.ts';
import { fail } from '../src/core/errors.ts';
import type { Value } from '../src/core/tensor.ts';

/** Float sums in another order, quantised steps that fall to the other side: what is wrong is wrong by more. */
const LOOSE = { rtol: 0.02, atol: 0.02, scaled: true, integers: 2 };

/**
 * The cases below `data`, or below what is there of `otherwise`, whose name contains one of `wanted`. @throws
 * option_invalid
 */
export function casesOf(
  data: readonly string[] | undefined,
  otherwise: readonly string[],
  wanted: readonly string[] | undefined,
): Case[] {
  const there = data ?? otherwise.filter((f) => existsSync(f));
  if (there.length === 0)
    fail('option_invalid', `none of ${otherwise.join(', ')} is there; give folders of cases with --data`);
  const cases = there.flatMap(findCases).filter((c) => wanted === undefined || wanted.some((w) => c.name.includes(w)));
  return cases.length > 0 ? cases : fail('option_invalid', `no model's name contains any of ${wanted?.join(', ')}`);
}

type Values = Readonly<Record<string, Value>>;

/** The first recorded inputs of a case, and what they should give. @throws option_invalid */
export async function recordOf(one: Case): Promise<{ readonly feeds: Values; readonly results: Values }> {
  const { Session } = await import('../src/index.ts');
  const session = await Session.load(one.model, { device: 'reference' });
  const set = one.sets[0] ?? fail('option_invalid', 'the model has no recorded inputs');
  const feeds = await recordedFeeds(session, set, { inputTypes: session.inputs.map(() => null) });
  const results = await recordedResults(session, set);
  await session.release();
  return { feeds, results };
}

/**
 * Where the peers' results differ, and which of them is not what was recorded: a time for a wrong answer says nothing.
 */
export function disagreement([ours, theirs]: readonly Values[], recorded: Values = {}): string | null {
  const parted = theirs && difference(ours!, theirs);
  if (!parted) return null;
  const wrong = [
    ['Sardonyx', ours!],
    ['the peer', theirs],
  ] as const;
  const not = wrong.filter(([, values]) => difference(values, recorded)).map(([name]) => name);
  return `${parted}${not.length > 0 ? `; ${not.join(' and ')} not as recorded` : ''}`;
}
function difference(found: Values, wanted: Values): string | null {
  for (const [name, value] of Object.entries(wanted)) {
    const { mismatch } = compareValues(found[name]!, value, LOOSE, name);
    if (mismatch) return mismatchText(mismatch);
  }
  return null;
}

export async function save(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
}
