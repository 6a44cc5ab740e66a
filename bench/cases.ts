/** What benches of models share: the cases, their recorded inputs, and whether two runtimes agree. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Case, findCases } from '../src/cli/cases.ts';
import { compareValues, mismatchText } from '../src/cli/compare.ts';
import { recordedFeeds } from '../src/cli/verify.ts';
import { fail } from '../src/core/errors.ts';
import type { Value } from '../src/core/tensor.ts';

/** Float sums in another order, quantised steps that fall to the other side: what is wrong is wrong by more. */
const LOOSE = { rtol: 0.02, atol: 0.02, scaled: true, integers: 2 };

/** The cases below `data`, or below what is there of `otherwise`, whose name contains one of `wanted`. @throws option_invalid */
export function casesOf(data: readonly string[] | undefined, otherwise: readonly string[], wanted: readonly string[] | undefined): Case[] {
  const there = data ?? otherwise.filter((f) => existsSync(f));
  if (there.length === 0) fail('option_invalid', `none of ${otherwise.join(', ')} is there; give folders of cases with --data`);
  const cases = there.flatMap(findCases).filter((c) => wanted === undefined || wanted.some((w) => c.name.includes(w)));
  return cases.length > 0 ? cases : fail('option_invalid', `no model's name contains any of ${wanted?.join(', ')}`);
}

/** The first recorded inputs of a case. @throws option_invalid */
export async function feedsOf(one: Case): Promise<Readonly<Record<string, Value>>> {
  const { Session } = await import('../src/index.ts');
  const session = await Session.load(one.model, { device: 'reference' });
  const set = one.sets[0] ?? fail('option_invalid', 'the model has no recorded inputs');
  const feeds = await recordedFeeds(session, set, { inputTypes: session.inputs.map(() => null) });
  await session.release();
  return feeds;
}

/** Where the peers' results differ: a time for a wrong answer says nothing. */
export function disagreement([ours, theirs]: readonly Readonly<Record<string, Value>>[]): string | null {
  if (theirs === undefined) return null;
  for (const [name, value] of Object.entries(theirs)) {
    const { mismatch } = compareValues(ours![name]!, value, LOOSE, name);
    if (mismatch) return mismatchText(mismatch);
  }
  return null;
}

export async function save(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
}
