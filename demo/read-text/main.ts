/** `npm start`: reads the text on a picture, prints it, and draws where it is. */
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Device, SardonyxError, type Session, summarize } from 'sardonyx';
import { FileError, loadModels, readPicture, writePicture } from './files.ts';
import { type Picture, withBoxes } from './picture.ts';
import { type Line, type Models, readText } from './reader.ts';

const USAGE = `npm start -- [PICTURE] [options]

Reads the text on a PNG or JPEG with the PP-OCR models, and draws where it is. Without PICTURE it reads a sample.

  --device NAME   auto (a GPU if there is one, else WASM), webgpu, wasm or reference (default auto)
  --output FILE   where the picture with boxes goes, a PNG (default out/read-text.png)
  --json          print everything as JSON
  --help

Exit status: 0 fine, 1 a run failed, 2 the request is wrong or a file cannot be read or written.`;

const DEVICES: readonly string[] = ['auto', 'webgpu', 'wasm', 'reference'];
const STAGES = ['decode', 'load', 'detect', 'crop', 'classify', 'recognize', 'draw'] as const;
const MODELS = ['detect', 'classify', 'recognize'] as const;
type Times = Record<(typeof STAGES)[number], number>;

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Of a session: how many plans it made, and of the one that takes most memory where nodes run. */
interface Figures {
  readonly plans: number;
  readonly nodes: number;
  readonly dispatches: number;
  readonly wasmCalls: number;
  readonly hostSteps: number;
  readonly peakBytes: number;
  readonly weightBytes: number;
}

function figures(session: Session): Figures | null {
  const [largest] = [...session.plans].sort((a, b) => b.peakBytes - a.peakBytes);
  if (largest === undefined) return null;
  const { dispatches, wasmCalls, hostSteps, peakBytes, weightBytes } = summarize(largest);
  const nodes = new Set(largest.steps.flatMap((s) => ('node' in s ? [s.node] : []))).size;
  return { plans: session.plans.length, nodes, dispatches, wasmCalls, hostSteps, peakBytes, weightBytes };
}

async function main(): Promise<void> {
  const { values, positionals } = parse();
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const file = positionals[0] ?? join(root, 'demo/read-text/sample.png');
  const output = values.output ?? join(root, 'out/read-text.png');
  const device = values.device ?? 'auto';

  let since = performance.now();
  const lap = (): number => {
    const now = performance.now();
    const passed = now - since;
    since = now;
    return passed;
  };
  const picture = readPicture(file);
  const decode = lap();
  const models = await loadModels(device as Device);
  const load = lap();
  const { lines, times } = await readText(picture, models);
  lap();
  writePicture(
    output,
    withBoxes(
      picture,
      lines.map((l) => l.box),
    ),
  );
  const milliseconds: Times = { decode, load, ...times, draw: lap() };

  if (values.json) {
    const plans = Object.fromEntries(MODELS.map((name) => [name, figures(models[name])]));
    console.log(
      JSON.stringify(
        {
          picture: file,
          width: picture.width,
          height: picture.height,
          device: models.detect.device,
          lines,
          milliseconds,
          plans,
          output,
        },
        (_, v: unknown) => (typeof v === 'number' ? Math.round(v * 1000) / 1000 : v),
        2,
      ),
    );
  } else report({ file, picture, asked: device, models, lines, milliseconds, output });
  await Promise.all(MODELS.map((name) => models[name].release()));
}

interface Report {
  readonly file: string;
  readonly picture: Picture;
  readonly asked: string;
  readonly models: Models;
  readonly lines: readonly Line[];
  readonly milliseconds: Times;
  readonly output: string;
}

function report({ file, picture, asked, models, lines, milliseconds, output }: Report): void {
  const short = (path: string): string => {
    const r = relative(process.cwd(), path);
    return r.startsWith('..') ? path : r;
  };
  const { device } = models.detect;
  const out = [
    `picture  ${short(file)}, ${picture.width} × ${picture.height}`,
    `device   ${{ webgpu: 'WebGPU', wasm: 'WASM', reference: 'reference' }[device]}${asked === 'auto' && device === 'wasm' ? ', since there is no GPU' : ''}`,
    `boxes    ${short(output)}`,
    '',
    ...lines.map(({ text, confidence }) => `  ${`${Math.round(100 * confidence)} %`.padStart(5)}  ${text}`),
    ...(lines.length === 0 ? ['  no text was found'] : []),
    '',
    ...table([
      ['stage', '', 'nodes', 'runs on', 'peak', 'weights', 'plans'],
      ...STAGES.map((stage) => {
        const f = stage === 'detect' || stage === 'classify' || stage === 'recognize' ? figures(models[stage]) : null;
        return [
          stage,
          ms(milliseconds[stage]),
          ...(f === null ? [] : [`${f.nodes}`, placesOf(f), bytes(f.peakBytes), bytes(f.weightBytes), `${f.plans}`]),
        ];
      }),
      ['total', ms(STAGES.reduce((sum, stage) => sum + milliseconds[stage], 0))],
    ]),
  ];
  console.log(out.join('\n'));
}

function placesOf({ dispatches, wasmCalls, hostSteps }: Figures): string {
  const some = (n: number, one: string): string[] =>
    n === 0 ? [] : [`${n} ${one}${n === 1 ? '' : one.endsWith('ch') ? 'es' : 's'}`];
  return [...some(dispatches, 'dispatch'), ...some(wasmCalls, 'WASM call'), ...some(hostSteps, 'host step')].join(', ');
}

const ms = (t: number): string => (t < 10_000 ? `${t.toFixed(t < 10 ? 1 : 0)} ms` : `${(t / 1000).toFixed(1)} s`);
const bytes = (n: number): string => (n < 2 ** 20 ? `${(n / 1024).toFixed(0)} KiB` : `${(n / 2 ** 20).toFixed(1)} MiB`);

/** Columns as wide as their widest cell; those of figures end together. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const left = (i: number): boolean => i === 0 || i === 3;
  return rows.map((row) =>
    row
      .map((cell, i) => (left(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('   ')
      .trimEnd(),
  );
}

/** The request is wrong. */
class RequestError extends Error {}

/** @throws RequestError */
function parse() {
  let parsed: ReturnType<typeof parsedArgs>;
  try {
    parsed = parsedArgs();
  } catch (e) {
    throw new RequestError((e as Error).message.split('. ')[0]!);
  }
  if (parsed.positionals.length > 1) throw new RequestError('one picture at a time');
  const { device } = parsed.values;
  if (device !== undefined && !DEVICES.includes(device))
    throw new RequestError(`--device ${device}: know ${DEVICES.join(', ')}`);
  return parsed;
}
const parsedArgs = () =>
  parseArgs({
    allowPositionals: true,
    options: {
      device: { type: 'string' },
      output: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (e: NodeJS.ErrnoException) => process.exit(e.code === 'EPIPE' ? 0 : 1));
let status = 0;
try {
  await main();
} catch (e) {
  const unavailable = e instanceof SardonyxError && e.code === 'device_unavailable';
  status = e instanceof RequestError || e instanceof FileError || unavailable ? 2 : 1;
  const text =
    e instanceof SardonyxError || status === 2 ? (e as Error).message : e instanceof Error ? e.stack : String(e);
  process.stderr.write(`read-text: ${text}\n${e instanceof RequestError ? `\n${USAGE}\n` : ''}`);
}
// Native handles of a GPU would keep the process.
process.stdout.write('', () => process.exit(status));
