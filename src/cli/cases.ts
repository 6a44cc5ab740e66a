/** Finds test cases in folders, as ONNX's backend tests lay them out, and names the ones to skip. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { fail } from '../core/errors.ts';
import { CASE_TOLERANCE, MODEL_TOLERANCE, type Tolerance } from './compare.ts';

/** One data set: input files by index, or null where inputs are counted up (`arange(n) / n` in the input's shape). */
export interface DataSet {
  readonly name: string;
  readonly inputs: readonly string[] | null;
  readonly outputs: readonly string[];
}
export interface Case {
  /** Its path below the folder that was asked for, with "/". */
  readonly name: string;
  /** Absolute path without `model.onnx` or `.onnx`, with "/": what skip entries match the end of. */
  readonly path: string;
  readonly model: string;
  readonly sets: readonly DataSet[];
  readonly tolerance: Tolerance;
}
/**
 * A case that cannot be held to the rule, on one device or on all, and why: skipped, or with `rtol` and `atol` (which
 * counts in the largest magnitude of the output) compared more loosely. `case` is the end of its path; `*` stands for
 * any run of characters.
 */
export interface Skip {
  readonly case: string;
  readonly device?: string;
  readonly reason: string;
  readonly rtol?: number;
  readonly atol?: number;
}

const slashed = (path: string): string => path.split(sep).join('/');

/**
 * The cases of a folder and of those below it, or of one `.onnx` file, in order of name. @throws option_invalid when
 * there is no such folder
 */
export function findCases(at: string): Case[] {
  const root = resolve(at);
  if (!existsSync(root)) fail('option_invalid', `there is no ${at}`);
  if (!statSync(root).isDirectory()) {
    const single = root.endsWith('.onnx')
      ? basename(root) === 'model.onnx'
        ? folderCase(dirname(root), dirname(dirname(root)))
        : fileCase(root, dirname(root))
      : null;
    return single
      ? [single]
      : fail(
          'option_invalid',
          `${at} is no case: a folder with model.onnx and test_data_set_N, or NAME.onnx with NAME_output_0.pb beside it`,
        );
  }
  const found: Case[] = [];
  const visit = (folder: string): void => {
    const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
    const own = folderCase(folder, root);
    if (own) found.push(own);
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (entry.isDirectory() && !(own && entry.name.startsWith('test_data_set'))) visit(path);
      else if (entry.isFile() && entry.name.endsWith('.onnx') && entry.name !== 'model.onnx') {
        const light = fileCase(path, root);
        if (light) found.push(light);
      }
    }
  };
  visit(root);
  return found;
}

const nameBelow = (path: string, root: string): string => slashed(relative(root, path)) || basename(path);
const indexed = (folder: string, kind: 'input' | 'output'): string[] => {
  const files: string[] = [];
  for (const name of readdirSync(folder)) {
    const index = new RegExp(`^${kind}_(\\d+)\\.pb$`).exec(name)?.[1];
    if (index !== undefined) files[Number(index)] = join(folder, name);
  }
  return files;
};

function folderCase(folder: string, root: string): Case | null {
  const model = join(folder, 'model.onnx');
  if (!existsSync(model)) return null;
  const sets = readdirSync(folder)
    .filter((name) => /^test_data_set_\d+$/.test(name))
    .sort((a, b) => Number(a.slice(14)) - Number(b.slice(14)));
  return {
    name: nameBelow(folder, root),
    path: slashed(folder),
    model,
    sets: sets.map((name) => ({
      name,
      inputs: indexed(join(folder, name), 'input'),
      outputs: indexed(join(folder, name), 'output'),
    })),
    tolerance: existsSync(join(dirname(folder), 'models.json')) ? MODEL_TOLERANCE : CASE_TOLERANCE,
  };
}

function fileCase(model: string, root: string): Case | null {
  const stem = model.slice(0, -'.onnx'.length);
  const outputs: string[] = [];
  while (existsSync(`${stem}_output_${outputs.length}.pb`)) outputs.push(`${stem}_output_${outputs.length}.pb`);
  if (outputs.length === 0) return null;
  return {
    name: nameBelow(stem, root),
    path: slashed(stem),
    model,
    sets: [{ name: 'light', inputs: null, outputs }],
    tolerance: CASE_TOLERANCE,
  };
}

/** Reads a skip file. @throws option_invalid */
export function readSkips(file: string): Skip[] {
  let entries: unknown;
  try {
    entries = JSON.parse(readFileSync(file, 'utf8'));
  } catch (e) {
    return fail('option_invalid', `cannot read the skip file ${file}: ${(e as Error).message}`);
  }
  const isSkip = (e: unknown): e is Skip =>
    typeof e === 'object' &&
    e !== null &&
    typeof (e as Skip).case === 'string' &&
    typeof (e as Skip).reason === 'string' &&
    (e as Skip).reason !== '' &&
    ['string', 'undefined'].includes(typeof (e as Skip).device);
  if (!Array.isArray(entries) || !entries.every(isSkip))
    fail('option_invalid', `${file} must be a list of { case, device?, reason, rtol?, atol? }`);
  return entries as Skip[];
}

/** The entry that says to skip this case on this device. */
export const skipOf = (one: Case, device: string, skips: readonly Skip[]): Skip | null =>
  entryOf(one, device, skips, (s) => s.rtol === undefined && s.atol === undefined);

/** The case with the tolerance that an entry gives it on this device. */
export function loosened(one: Case, device: string, skips: readonly Skip[]): Case {
  const entry = entryOf(one, device, skips, (s) => s.rtol !== undefined || s.atol !== undefined);
  return entry === null
    ? one
    : {
        ...one,
        tolerance: {
          rtol: entry.rtol ?? one.tolerance.rtol,
          atol: entry.atol ?? one.tolerance.atol,
          scaled: entry.atol !== undefined || one.tolerance.scaled === true,
        },
      };
}

function entryOf(one: Case, device: string, skips: readonly Skip[], wanted: (s: Skip) => boolean): Skip | null {
  const ends = (pattern: string): boolean =>
    new RegExp(
      `(^|/)${pattern
        .split('*')
        .map((s) => s.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
        .join('.*')}$`,
    ).test(one.path);
  return skips.find((s) => wanted(s) && (s.device === undefined || s.device === device) && ends(s.case)) ?? null;
}
