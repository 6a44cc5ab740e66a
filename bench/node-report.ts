/** What `bench/node.ts` found, as a table and as a page with plots. */
import { table } from '../src/cli/command.ts';
import type { RuntimeName } from './runtimes.ts';
import type { Spent, Spread } from './timing.ts';

export interface RuntimeResult {
  readonly runtime: RuntimeName;
  readonly load: Spent;
  readonly first: Spent;
  readonly rounds: number;
  readonly repeats: number;
  readonly wall: Spread;
  readonly cpu: Spread;
}
export interface ColdResult {
  readonly runtime: RuntimeName;
  readonly wall: Spread;
  readonly cpu: Spread;
}
export interface ModelResult {
  readonly model: string;
  readonly runtimes: readonly RuntimeResult[];
  /** Peer's time / ours: above 1 we are faster. */
  readonly ratio?: number;
  /** The native yardstick's time / ours. */
  readonly native?: number;
  readonly cold?: { readonly runtimes: readonly ColdResult[]; readonly ratio?: number };
  /** Nodes that ran on the host. */
  readonly onHost: readonly string[];
  /** How the results differ from the peer's. */
  readonly wrong?: string;
  readonly error?: string;
}
/** Times in ms. */
export interface NodeReport {
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    /** Processes that wanted to run, at the end: more than the cores make times on the clock doubtful. */
    readonly load?: number;
  };
  readonly node: string;
  readonly v8: string;
  readonly relaxedSimd: boolean;
  readonly device: 'wasm' | 'webgpu';
  /** Of WebGPU. */
  readonly adapter?: string;
  readonly threads: number;
  readonly runtimes: readonly { readonly name: RuntimeName; readonly version: string }[];
  readonly models: readonly ModelResult[];
  readonly geometricMean?: number;
  readonly nativeGeometricMean?: number;
  readonly coldGeometricMean?: number;
  /** Processes that each cold figure is the median of. */
  readonly coldStarts?: number;
}

export const heading = (r: NodeReport): string =>
  `${r.runtimes.map((x) => `${x.name} ${x.version}`).join(' and ')}, ${r.device === 'webgpu' ? `WebGPU on ${r.adapter}` : `${r.threads} thread${r.threads > 1 ? 's' : ''}`}, Node ${r.node}${r.relaxedSimd ? ' with relaxed SIMD' : ''}, ${r.machine.cpu}, ${r.machine.cores} cores${r.machine.load === undefined ? '' : `, load average ${r.machine.load.toFixed(1)}`}`;

const ms = (t: number | undefined): string =>
  t === undefined ? '' : t < 1 ? t.toFixed(3) : t < 10 ? t.toFixed(2) : t.toFixed(1);
const times = (n: number | undefined): string => (n === undefined ? '' : `×${n.toFixed(2)}`);
const start = (x: RuntimeResult | undefined, clock: 'cpu' | 'wall'): number | undefined =>
  x ? x.load[clock] + x.first[clock] : undefined;
const range = (s: Spread | undefined): string => (s ? `${ms(s.p10)}–${ms(s.p90)}` : '');

/** "Add: no WASM kernel (3), …" */
const hosted = (all: readonly string[]): string =>
  [...new Set(all)]
    .map((t) => {
      const n = all.filter((o) => o === t).length;
      return n > 1 ? `${t} (${n})` : t;
    })
    .join(', ');

const notes = (m: ModelResult): string =>
  [
    m.error && `error: ${m.error}`,
    m.wrong && `differs: ${m.wrong}`,
    m.onHost.length > 0 && `on the host: ${hosted(m.onHost)}`,
  ]
    .filter(Boolean)
    .join('; ');

/** What the steady state is measured by: of one thread what it costs, whoever else runs; of more the clock. */
const clockOf = (r: NodeReport): 'cpu' | 'wall' => (r.device === 'wasm' && r.threads === 1 ? 'cpu' : 'wall');
const unitOf = (r: NodeReport): string => (clockOf(r) === 'cpu' ? 'processor time' : 'time on the clock');

/** Medians, in ms. */
export function rowsOf(r: NodeReport): string[][] {
  const cold = r.models.some((m) => m.cold);
  const native = r.models.some((m) => m.native !== undefined);
  const clock = clockOf(r);
  return [
    [
      'model',
      'ours',
      'p10–p90',
      'peer',
      'p10–p90',
      'ratio',
      ...(native ? ['native', 'ratio'] : []),
      'load+first: ours',
      'peer',
      ...(cold ? ['cold: ours', 'peer', 'ratio'] : []),
      'notes',
    ],
    ...r.models.map((m) => {
      const [a, b] = m.runtimes;
      const [ca, cb] = m.cold?.runtimes ?? [];
      return [
        m.model,
        ms(a?.[clock].median),
        range(a?.[clock]),
        ms(b?.[clock].median),
        range(b?.[clock]),
        times(m.ratio),
        ...(native
          ? [ms(m.runtimes.find((x) => x.runtime === 'onnxruntime-node')?.[clock].median), times(m.native)]
          : []),
        ms(start(a, clock)),
        ms(start(b, clock)),
        ...(cold ? [ms(ca?.cpu.median), ms(cb?.cpu.median), times(m.cold?.ratio)] : []),
        notes(m),
      ];
    }),
  ];
}

export const means = (r: NodeReport): string =>
  [
    r.geometricMean !== undefined && `geometric mean ${times(r.geometricMean)}`,
    r.nativeGeometricMean !== undefined && `beside native ${times(r.nativeGeometricMean)}`,
    r.coldGeometricMean !== undefined &&
      `cold load and first run ${times(r.coldGeometricMean)} (${r.coldStarts} start${r.coldStarts === 1 ? '' : 's'} of each)`,
  ]
    .filter(Boolean)
    .join(', ');

export const textReport = (r: NodeReport): string =>
  `${heading(r)}\n${unitOf(r)} in ms; ratio = peer / ours\n${table(rowsOf(r))}\n${means(r)}`;

/** The same table for documents. */
export function markdownReport(r: NodeReport): string {
  const [head, ...rows] = rowsOf(r);
  const line = (cells: readonly string[]): string => `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    `${heading(r)}. Medians of ${unitOf(r)}, in ms; ratio = peer / ours. ${means(r)}.`,
    '',
    line(head!),
    line(head!.map((_, i) => (i === 0 || i === head!.length - 1 ? '---' : '--:'))),
    ...rows.map(line),
    '',
  ].join('\n');
}

/** JSON of a report, times to five digits. */
export const jsonReport = (r: NodeReport): string =>
  `${JSON.stringify(r, (_, v: unknown) => (typeof v === 'number' ? Number(v.toPrecision(5)) : v), 1)}\n`;

const escape = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

const title = (r: NodeReport): string =>
  `Sardonyx in Node, on ${r.device === 'webgpu' ? `WebGPU on ${r.adapter}` : 'the CPU'}`;

export function htmlReport(r: NodeReport): string {
  const [head, ...rows] = rowsOf(r);
  const cell =
    (tag: string) =>
    (text: string): string =>
      `<${tag}>${escape(text)}</${tag}>`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${title(r)}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }
table { border-collapse: collapse; margin-top: 2rem } td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd } td:first-child, th:first-child, td:last-child, th:last-child { text-align: left }
text { font: 12px system-ui, sans-serif; fill: #222 } .ours { fill: #2a7f62 } .slower { fill: #c0392b } .line { stroke: #888; stroke-dasharray: 3 3 }
</style>
<h1>${title(r)}</h1>
<p>${escape(heading(r))}. ${escape(means(r))}.</p>
<h2>Steady state: the peer's time divided by ours</h2>
${bars(r.models.flatMap((m) => (m.ratio === undefined ? [] : [{ label: m.model, value: m.ratio }])))}
${r.models.some((m) => m.cold) ? `<h2>Load and first run in a new process: the peer's time divided by ours</h2>\n${bars(r.models.flatMap((m) => (m.cold?.ratio === undefined ? [] : [{ label: m.model, value: m.cold.ratio }])))}` : ''}
<table><thead><tr>${head!.map(cell('th')).join('')}</tr></thead><tbody>
${rows.map((row) => `<tr>${row.map(cell('td')).join('')}</tr>`).join('\n')}
</tbody></table>
<p>Medians of ${unitOf(r)}, in ms.</p></html>
`;
}

/** Horizontal bars on a logarithmic axis, longest first, with lines at ×1 and ×1.5. */
function bars(all: readonly { readonly label: string; readonly value: number }[]): string {
  if (all.length === 0) return '';
  const sorted = [...all].sort((a, b) => b.value - a.value);
  const low = Math.log(Math.min(0.5, ...all.map((b) => b.value)));
  const high = Math.log(Math.max(4, ...all.map((b) => b.value)));
  const at = (v: number): number => 210 + (620 * (Math.log(v) - low)) / (high - low);
  const height = 20 * sorted.length + 30;
  const line = (v: number): string =>
    `<line class="line" x1="${at(v).toFixed(1)}" x2="${at(v).toFixed(1)}" y1="0" y2="${height - 20}"/><text x="${at(v).toFixed(1)}" y="${height - 6}" text-anchor="middle">×${v}</text>`;
  const bar = ({ label, value }: { label: string; value: number }, i: number): string =>
    `<text x="200" y="${20 * i + 14}" text-anchor="end">${escape(label)}</text><rect class="${value < 1 ? 'slower' : 'ours'}" x="${Math.min(at(1), at(value)).toFixed(1)}" y="${20 * i + 3}" width="${Math.max(1, Math.abs(at(value) - at(1))).toFixed(1)}" height="14"/><text x="${(Math.max(at(1), at(value)) + 5).toFixed(1)}" y="${20 * i + 14}">×${value.toFixed(2)}</text>`;
  return `<svg role="img" width="920" height="${height}" viewBox="0 0 920 ${height}">${[1, 1.5].map(line).join('')}${sorted.map(bar).join('')}</svg>`;
}
