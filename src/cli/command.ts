/** What the commands share: how their arguments are read, and how they print. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import type { CustomOperator } from '../../kernels/define.ts';
import { fail, SardonyxError } from '../core/errors.ts';
import { wrapped } from './help.ts';
import type { Dims } from './inputs.ts';
import type { DeviceName } from './verify.ts';

/** 0: fine. 1: a result is wrong or a case failed. 2: the request is wrong. */
export type ExitCode = 0 | 1 | 2;

type Options = NonNullable<ParseArgsConfig['options']>;
/** Values of the options that were given, strings and lists as they were typed. */
export type Given = Readonly<Record<string, string | boolean | readonly (string | boolean)[] | undefined>>;

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  readonly usage: string;
  readonly options: Options;
  readonly run: (positionals: readonly string[], given: Given) => Promise<ExitCode>;
}

/** Options that every command has. */
const COMMON: Options = { help: { type: 'boolean', short: 'h' }, json: { type: 'boolean' } };

/** Runs a command on its arguments. @throws option_invalid for arguments that it does not know */
export async function runCommand(command: Command, args: readonly string[]): Promise<ExitCode> {
  let parsed: { values: Given; positionals: readonly string[] };
  try {
    parsed = parseArgs({
      args: [...args],
      options: { ...COMMON, ...command.options },
      allowPositionals: true,
    }) as typeof parsed;
  } catch (e) {
    return fail('option_invalid', `${(e as Error).message.split('. ')[0]}; see sardonyx ${command.name} --help`);
  }
  if (parsed.values['help']) {
    print(wrapped(command.usage));
    return 0;
  }
  return command.run(parsed.positionals, parsed.values);
}

/** The one model that a command is about. */
export function modelOf(positionals: readonly string[], command: string): string {
  if (positionals.length !== 1)
    fail('option_invalid', `${command} takes one model, not ${positionals.length}; see sardonyx ${command} --help`);
  return positionals[0]!;
}

export const text = (given: Given, name: string): string | undefined => given[name] as string | undefined;
export const list = (given: Given, name: string): readonly string[] => (given[name] ?? []) as readonly string[];

export function number(given: Given, name: string, least = 0): number | undefined {
  const typed = text(given, name);
  if (typed === undefined) return undefined;
  const n = Number(typed);
  return typed.trim() !== '' && Number.isFinite(n) && n >= least
    ? n
    : fail('option_invalid', `--${name} ${typed} is not a number of at least ${least}`);
}

const DEVICES: readonly string[] = ['auto', 'webgpu', 'wasm', 'reference'];
export const deviceOf = (name: string): DeviceName =>
  DEVICES.includes(name)
    ? (name as DeviceName)
    : fail('option_invalid', `--device ${name}: know ${DEVICES.join(', ')}`);

/**
 * The operators that `--operators` names: those that a module of JavaScript exports, one by one or in lists. @throws
 * option_invalid
 */
export async function operatorsGiven(given: Given): Promise<{ readonly operators?: readonly CustomOperator[] }> {
  const file = text(given, 'operators');
  if (file === undefined) return {};
  const exported = await (import(pathToFileURL(resolve(file)).href) as Promise<Record<string, unknown>>).catch(
    (e: unknown) =>
      fail('option_invalid', `cannot import the operators of ${file}: ${e instanceof Error ? e.message : String(e)}`),
  );
  const operators = Object.values(exported)
    .flat()
    .filter((o): o is CustomOperator => typeof o === 'object' && o !== null && 'op' in o);
  return operators.length > 0
    ? { operators }
    : fail('option_invalid', `${file} exports no operator; it has ${Object.keys(exported).join(', ') || 'no exports'}`);
}

/** "name=value" pairs, split at the first "=". */
export function pairs(given: Given, name: string): Map<string, string> {
  const out = new Map<string, string>();
  for (const pair of list(given, name)) {
    const at = pair.indexOf('=');
    if (at < 1) fail('option_invalid', `--${name} ${pair} is not of the form NAME=VALUE`);
    out.set(pair.slice(0, at), pair.slice(at + 1));
  }
  return out;
}

/** Sizes of free dims: --dims batch=1 --dims seq=8, or --dims batch=1,seq=8. */
export function dimsOf(given: Given): Dims {
  const out: Record<string, number> = Object.create(null);
  const split = { dims: list(given, 'dims').flatMap((d) => d.split(',')) };
  for (const [name, value] of pairs(split, 'dims'))
    out[name] = /^\d+$/.test(value) ? Number(value) : fail('option_invalid', `--dims ${name}=${value} is no size`);
  return out;
}

export const print = (line: string): void => void process.stdout.write(`${line}\n`);
/** JSON with what it has no words for as strings: 64-bit integers, NaN and infinities. */
export const printJson = (value: unknown): void =>
  print(
    JSON.stringify(
      value,
      (_, v: unknown) => (typeof v === 'bigint' || (typeof v === 'number' && !Number.isFinite(v)) ? String(v) : v),
      2,
    ),
  );

/** A line on the terminal that replaces the one before; nothing where no one looks. */
export function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
}

/** Bytes for people. */
export function human(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; bytes >= 10240 && i < units.length - 1; i++) bytes /= 1024;
  return `${i === 0 ? bytes : bytes.toFixed(1)} ${units[i]}`;
}

/** Columns as wide as their widest cell; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths = rows.reduce<number[]>((w, row) => row.map((cell, i) => Math.max(w[i] ?? 0, String(cell).length)), []);
  return rows
    .map((row) =>
      `  ${row.map((cell, i) => (typeof cell === 'number' ? String(cell).padStart(widths[i]!) : String(cell).padEnd(widths[i]!))).join('  ')}`.trimEnd(),
    )
    .join('\n');
}

/** A message with options of the library as one types them here. */
export const typed = (message: string): string => message.replace(/pass dims: \{ "([^"]+)": … \}/, 'give --dims $1=N');

/** Is it the request that is wrong, not the result? */
export const isRequest = (e: unknown): boolean =>
  e instanceof SardonyxError &&
  /^(source|integrity|option|input|output|model|external_data|dimension|device_unavailable|op_unsupported|not_on_device)/.test(
    e.code,
  );
