/** `npm start`: reads the text on a picture, prints it, and draws where it is. */
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Device, type Plan, SardonyxError, type Session, summarize } from 'sardonyx';
import { loadModels, readPicture, writePicture } from './files.ts';
import { withBoxes } from './picture.ts';
import { type Models, readText } from './reader.ts';

const USAGE = `npm start -- [PICTURE] [options]

Reads the text on a PNG or JPEG (default: a sample) with the PP-OCR models.

  --device NAME   auto (a GPU if there is one, else WASM), webgpu, wasm or reference
  --output FILE   where the picture with boxes goes (default out/read-text.png)
  --json          print everything as JSON
  --help`;

const root = fileURLToPath(new URL('../../', import.meta.url));
const ms = (t: number): string => (t < 10 ? `${t.toFixed(1)} ms` : t < 10_000 ? `${t.toFixed(0)} ms` : `${(t / 1000).toFixed(1)} s`);
const bytes = (n: number): string => (n < 1 << 20 ? `${(n / 1024).toFixed(0)} KiB` : `${(n / 2 ** 20).toFixed(1)} MiB`);

/** Of a session's largest plan: where its nodes ran, and what it took. */
function figures(session: Session): Record<string, number> | null {
  const largest: Plan | undefined = [...session.plans].sort((a, b) => b.peakBytes - a.peakBytes)[0];
  if (largest === undefined) return null;
  const s = summarize(largest);
  return { plans: session.plans.length, steps: largest.steps.length, dispatches: s.dispatches, wasmCalls: s.wasmCalls, hostSteps: s.hostSteps, peakBytes: s.peakBytes, weightBytes: s.weightBytes };
}

async function main(): Promise<number> {
  let given: ReturnType<typeof parse>;
  try {
    given = parse();
  } catch (e) {
    console.error(`${(e as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = given;
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const file = positionals[0] ?? join(root, 'demo/read-text/sample.png');
  const started = performance.now();
  const picture = readPicture(file);
  const decoded = performance.now();
  const models = await loadModels((values.device ?? 'auto') as Device);
  const loaded = performance.now();
  const { lines, times } = await readText(picture, models);
  const output = values.output ?? join(root, 'out/read-text.png');
  writePicture(output, withBoxes(picture, lines.map((l) => l.box)));

  const stages = { decode: decoded - started, load: loaded - decoded, ...times };
  const plans = Object.fromEntries((['detect', 'classify', 'recognize'] as const).map((name) => [name, figures(models[name])]));
  if (values.json) console.log(JSON.stringify({ picture: file, device: models.detect.device, milliseconds: stages, plans, lines, output }, null, 2));
  else report(file, picture, models, lines, stages, plans, output);
  await Promise.all([models.detect, models.classify, models.recognize].map((s) => s.release()));
  return 0;
}

function report(file: string, picture: { width: number; height: number }, models: Models, lines: readonly { text: string; confidence: number }[], stages: Record<string, number>, plans: Record<string, Record<string, number> | null>, output: string): void {
  const short = (path: string): string => { const r = relative(process.cwd(), path); return r.startsWith('..') ? path : r; };
  const print = (name: string, text: string): void => console.log(`${name.padEnd(10)} ${text}`);
  print('picture', `${short(file)}, ${picture.width} × ${picture.height}`);
  print('device', models.detect.device);
  print('time', Object.entries(stages).map(([k, v]) => `${k} ${ms(v)}`).join('   '));
  for (const [name, p] of Object.entries(plans)) {
    if (p === null) continue;
    const where = [p.dispatches ? `${p.dispatches} dispatches` : '', p.wasmCalls ? `${p.wasmCalls} WASM calls` : '', p.hostSteps ? `${p.hostSteps} host steps` : ''].filter(Boolean).join(', ');
    print(name, `${where}; peak ${bytes(p.peakBytes!)} beside ${bytes(p.weightBytes!)} of weights; ${p.plans} plan${p.plans === 1 ? '' : 's'}`);
  }
  console.log();
  for (const { text, confidence } of lines) console.log(`  ${`${(100 * confidence).toFixed(0)} %`.padStart(5)}  ${text}`);
  if (lines.length === 0) console.log('  no text was found');
  console.log();
  print('boxes', short(output));
}

function parse() {
  const parsed = parseArgs({ allowPositionals: true, options: { device: { type: 'string' }, output: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
  if (parsed.positionals.length > 1) throw new Error('one picture at a time');
  return parsed;
}

let status = 1;
try {
  status = await main();
} catch (e) {
  console.error(e instanceof SardonyxError || e instanceof Error ? e.message : String(e));
  status = e instanceof SardonyxError ? 1 : 2;
}
process.exit(status);
