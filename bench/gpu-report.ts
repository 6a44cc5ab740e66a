/** What `bench/gpu.ts` found, as a table. */
import { table } from '../src/cli/command.ts';
import { geometricMean, type Spread } from './timing.ts';

export interface Started {
  readonly load: number;
  readonly first: number;
  /** What a runtime tells of its plans; only Sardonyx does. */
  readonly about: {
    readonly dispatches: number;
    readonly pipelines: number;
    readonly onHost: readonly string[];
  } | null;
}
export interface GpuRun extends Started {
  readonly runtime: string;
  readonly rounds: number;
  readonly repeats: number;
  readonly wall: Spread;
  readonly error?: string;
}
export interface GpuModel {
  readonly model: string;
  readonly runs: readonly GpuRun[];
  /** Peer's time / ours: above 1 we are faster. */
  readonly ratio?: number;
  readonly startRatio?: number;
  /** How the results differ from the peer's. */
  readonly wrong?: string;
  readonly error?: string;
}
/** Times in ms on the clock. */
export interface GpuReport {
  readonly machine: { readonly cpu: string; readonly cores: number };
  readonly browser: string;
  readonly adapter: string;
  readonly peer: string;
  readonly models: readonly GpuModel[];
  readonly geometricMean?: number;
  readonly startGeometricMean?: number;
  readonly least?: number;
  readonly startLeast?: number;
}

/** Means over the models that both runtimes ran. */
export function meansOf(
  models: readonly GpuModel[],
): Pick<GpuReport, 'geometricMean' | 'startGeometricMean' | 'least' | 'startLeast'> {
  const ratios = models.flatMap((m) => (m.ratio === undefined ? [] : [m.ratio]));
  const starts = models.flatMap((m) => (m.startRatio === undefined ? [] : [m.startRatio]));
  return ratios.length === 0
    ? {}
    : {
        geometricMean: geometricMean(ratios),
        startGeometricMean: geometricMean(starts),
        least: Math.min(...ratios),
        startLeast: Math.min(...starts),
      };
}

/** What was not measured is NaN, and null in JSON. */
const known = (t: number | null | undefined): t is number => typeof t === 'number' && !Number.isNaN(t);
const ms = (t: number | undefined): string => (!known(t) ? '' : t < 10 ? t.toFixed(2) : t.toFixed(1));
const times = (n: number | undefined): string => (n === undefined ? '' : `×${n.toFixed(2)}`);
const range = (s: Spread | undefined): string => (s && known(s.median) ? `${ms(s.p10)}–${ms(s.p90)}` : '');
const hosted = (all: readonly string[]): string =>
  [...new Set(all)]
    .map((t) => {
      const n = all.filter((o) => o === t).length;
      return n > 1 ? `${t} (${n})` : t;
    })
    .join(', ');
const notes = (m: GpuModel): string =>
  [
    m.error && `error: ${m.error}`,
    ...m.runs.map((r) => r.error && `${r.runtime}: ${r.error}`),
    m.wrong && `differs: ${m.wrong}`,
    m.runs[0]?.about && m.runs[0].about.onHost.length > 0 && `on the host: ${hosted(m.runs[0].about.onHost)}`,
  ]
    .filter(Boolean)
    .join('; ');

function rowsOf(r: GpuReport): string[][] {
  return [
    [
      'model',
      'ours',
      'p10–p90',
      'peer',
      'p10–p90',
      'ratio',
      'load+first: ours',
      'peer',
      'ratio',
      'dispatches',
      'pipelines',
      'notes',
    ],
    ...r.models.map((m) => {
      const [a, b] = m.runs;
      const start = (x: GpuRun | undefined): number | undefined => (x && known(x.load) ? x.load + x.first : undefined);
      return [
        m.model,
        ms(a?.wall.median),
        range(a?.wall),
        ms(b?.wall.median),
        range(b?.wall),
        times(m.ratio),
        ms(start(a)),
        ms(start(b)),
        times(m.startRatio),
        String(a?.about?.dispatches ?? ''),
        String(a?.about?.pipelines ?? ''),
        notes(m),
      ];
    }),
  ];
}
const heading = (r: GpuReport): string =>
  `sardonyx and onnxruntime-web ${r.peer} on WebGPU, adapter ${r.adapter}, ${r.browser}, ${r.machine.cpu}, ${r.machine.cores} cores`;
const means = (r: GpuReport): string =>
  r.geometricMean === undefined
    ? ''
    : `geometric mean ${times(r.geometricMean)}, least ${times(r.least)}; load and first run ${times(r.startGeometricMean)}, least ${times(r.startLeast)}; ${r.models.filter((m) => m.ratio !== undefined).length} models`;

export const gpuText = (r: GpuReport): string =>
  `${heading(r)}\nms on the clock, medians; ratio = peer / ours\n${table(rowsOf(r))}\n${means(r)}`;
/** JSON of a report, times to five digits. */
export const gpuJson = (r: GpuReport): string =>
  `${JSON.stringify(r, (_, v: unknown) => (typeof v === 'number' ? Number(v.toPrecision(5)) : v), 1)}\n`;
/** The table for documents. */
export function gpuMarkdown(r: GpuReport): string {
  const [head, ...rows] = rowsOf(r);
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((c) => c.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
  return [
    `${heading(r)}. Medians on the clock, in ms; ratio = peer / ours. ${means(r)}.`,
    '',
    line(head!),
    line(head!.map((_, i) => (i === 0 || i === head!.length - 1 ? '---' : '--:'))),
    ...rows.map(line),
    '',
  ].join('\n');
}
