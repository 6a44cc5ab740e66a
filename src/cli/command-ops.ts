import { ALL, FLOAT, SIGNED, UNSIGNED } from '../../kernels/define.ts';
import { ops } from '../../kernels/index.ts';
import type { DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { type Command, type ExitCode, type Given, print, printJson, progress, table, text } from './command.ts';
import { domainOf, isInternal } from './example-model.ts';
import { type Row, type Support, supportRows } from './support.ts';

const DEVICES = ['reference', 'wasm', 'webgpu'] as const;
type Column = (typeof DEVICES)[number];

/** `sardonyx ops`: which operators there are, and where each runs for which types. */
export const opsCommand: Command = {
  name: 'ops',
  summary: 'list the operators, and where each runs for which types',
  usage: `sardonyx ops [options]

Asks the planner about small calls of every operator. No device is touched.

  --op NAME        only this operator; the domain may be left out, a * stands for anything
  --device NAME    only this column: reference, wasm or webgpu
  --markdown       the table as a document
  --json           the table as JSON

${legend((s) => s).join('\n')}

Exit status: 0 fine, 2 the request is wrong.`,
  options: { op: { type: 'string' }, device: { type: 'string' }, markdown: { type: 'boolean' } },
  run: list,
};

async function list(positionals: readonly string[], given: Given): Promise<ExitCode> {
  if (positionals.length > 0) fail('option_invalid', `ops takes no model; did you mean --op ${positionals[0]}?`);
  const device = text(given, 'device');
  if (device !== undefined && !DEVICES.includes(device as Column))
    fail('option_invalid', `--device ${device}: know ${DEVICES.join(', ')}`);
  const columns = device === undefined ? DEVICES : [device as Column];
  const name = text(given, 'op');
  const matches = matcher(name ?? '*');
  const count = [...ops.keys()].filter((op) => matches(op) && !isInternal(op)).length;
  if (count === 0) fail('option_invalid', `--op ${name}: there is no such operator`);
  let done = 0;
  const rows = await supportRows((op) => matches(op) && (progress(`${++done} of ${count}: ${op}`), true));
  progress('');
  if (given['json']) printJson(rows);
  else if (given['markdown']) print(markdown(rows, columns));
  else
    print(
      table([
        ['operator', 'opsets', ...columns],
        ...rows.map((r) => [r.op, r.since.join(' '), ...columns.map((c) => cell(r, c))]),
      ]),
    );
  return 0;
}

/** Names that a pattern with * fits, in any case of letters; a pattern without a domain fits every domain. */
function matcher(pattern: string): (op: string) => boolean {
  const expression = new RegExp(
    `^(.*\\.)?${pattern
      .split('*')
      .map((part) => part.replace(/[^\w]/g, '\\$&'))
      .join('.*')}$`,
    'i',
  );
  return (op) => expression.test(op);
}

// ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────────────
const SHORT: readonly (readonly [RegExp, string])[] = [
  [/^bfloat/, 'bf'],
  [/^float/, 'f'],
  [/^uint/, 'u'],
  [/^int/, 'i'],
  [/^complex/, 'c'],
  [/^string$/, 'str'],
];
const short = (d: DType): string => SHORT.reduce<string>((s, [from, to]) => s.replace(from, to), d);
const GROUPS: readonly (readonly [string, readonly DType[]])[] = [
  ['all', ALL],
  ['numbers', [...FLOAT, ...SIGNED, ...UNSIGNED]],
  ['float', FLOAT],
  ['int', SIGNED],
  ['uint', UNSIGNED],
  ['f8', ['float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz']],
  ['i2–u4', ['int4', 'uint4', 'int2', 'uint2']],
  ['complex', ['complex64', 'complex128']],
];
/** Dtypes by their short names, whole groups by theirs. */
function dtypesText(dtypes: readonly DType[]): string {
  const left = new Set(dtypes);
  const words: [at: number, word: string][] = [];
  for (const [name, group] of GROUPS)
    if (group.every((d) => left.has(d))) {
      words.push([ALL.indexOf(group[0]!), name]);
      for (const d of group) left.delete(d);
    }
  for (const d of left) words.push([ALL.indexOf(d), short(d)]);
  return words
    .sort(([a], [b]) => a - b)
    .map(([, word]) => word)
    .join(' ');
}

/** What a device does with an operator, in few words. */
function cell(row: Row, column: Column): string {
  if (column === 'reference') return dtypesText(row.reference);
  const support: Support = row[column];
  const f16 = column === 'webgpu' && row.f16.length > 0 ? ` ${row.f16.map((d) => `${short(d)}†`).join(' ')}` : '';
  const some = support.some.length > 0 ? ` (${dtypesText(support.some)})` : '';
  if (support.dtypes.length + support.some.length === 0 && f16 === '') {
    switch (support.rest) {
      case 'view':
        return 'view';
      case 'load':
        return 'at load';
      case 'data':
        return row.bodies ? 'host; bodies here' : 'host: shape depends on data';
      default:
        return '—';
    }
  }
  return `${support.dtypes.length === row.reference.length ? '✓' : dtypesText(support.dtypes)}${f16}${some}`.trim();
}

function legend(code: (s: string) => string): string[] {
  return [
    `${code('reference')}: dtypes of the operator's main input that its definition in TypeScript takes. Other columns: for which of them the device's own kernels run`,
    'the operator: ✓ all of them; — none: the node runs on the host by its reference, in the same plan; what is not listed runs there too.',
    `${code('view')}: costs nothing. ${code('at load')}: computed before the first run, if its inputs are constants. ${code('(…)')}: for some calls only. †: where the GPU has shader-f16.`,
    `${code('host; bodies here')}: the host decides what runs next; the bodies' nodes run on the device.`,
    `Groups: float = f32 f16 f64 bf16, int = i8 … i64, uint = u8 … u64, numbers = these three, f8 = float8 e4m3fn e4m3fnuz e5m2 e5m2fnuz, i2–u4 = i2 i4 u2 u4, all = every type of ONNX.`,
  ];
}

// ── the document ────────────────────────────────────────────────────────────────────────────────────────────────────
const HEADINGS: Readonly<Record<string, string>> = {
  '': 'ONNX (`ai.onnx`)',
  'ai.onnx.ml': '`ai.onnx.ml`',
  'com.microsoft': '`com.microsoft`',
};
const AUTHOR =
  'Written by `npm run ops` from the registry: the planner is asked about small calls of every operator (`kernels/examples*.ts`).';

/** OPERATORS.md. */
export function markdown(rows: readonly Row[], columns: readonly Column[] = DEVICES): string {
  const domains = [...new Set(rows.map((r) => domainOf(r.op)))].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  const own = (column: 'wasm' | 'webgpu'): string => {
    const kernels = rows.filter((r) => r[column].dtypes.length + r[column].some.length > 0).length;
    const free = rows.filter(
      (r) => r[column].dtypes.length + r[column].some.length === 0 && /^(view|load)$/.test(r[column].rest ?? ''),
    ).length;
    const data = rows.filter((r) => r[column].rest === 'data').length;
    return `${kernels} by kernels of its own, ${free} as views or at load, ${data} by the host because data decides their shapes, ${rows.length - kernels - free - data} by the host`;
  };
  const section = (domain: string): string => {
    const of = rows.filter((r) => domainOf(r.op) === domain);
    const head = ['operator', 'opsets', ...columns];
    const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
    return [
      `## ${HEADINGS[domain] ?? `\`${domain}\``}: ${of.length}`,
      '',
      line(head),
      line(head.map(() => '---')),
      ...of.map((r) =>
        line([r.op.slice(domain === '' ? 0 : domain.length + 1), r.since.join(' '), ...columns.map((c) => cell(r, c))]),
      ),
    ].join('\n');
  };
  return [
    '# Operators',
    AUTHOR,
    `${rows.length} operators. WebGPU runs ${own('webgpu')}. WASM runs ${own('wasm')}.`,
    legend((s) => `\`${s}\``)
      .map((l) => `${l}  `)
      .join('\n')
      .trimEnd(),
    "Opsets are those in which an operator's meaning changed; all between them work as well.",
    ...domains.map(section),
  ].join('\n\n');
}
const rank = (domain: string): number => ['', 'com.microsoft', 'ai.onnx.ml'].indexOf(domain) + 1 || 9;
