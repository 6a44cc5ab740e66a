/** `npm run tune`: the standard problems on this machine's GPU, into bench/tuning, and from there into the planner. */
import { readdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { number, print, progress } from '../src/cli/command.ts';
import { report, tuned } from '../src/cli/command-tune.ts';
import { respawnWithSoftwareGpu } from '../src/cli/software-gpu.ts';
import { readTuning } from '../src/cli/tuning-file.ts';
import { adapterName } from '../src/3-plan/tuning.ts';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { SardonyxError } from '../src/core/errors.ts';
import { compactTuning, type TuningRecord } from '../src/tune/index.ts';

const USAGE = `npm run tune -- [options]

Tunes the standard problems, writes bench/tuning/ADAPTER.json, and from all tables there src/3-plan/shipped-tuning.ts, which planners read.

  --budget S    seconds for everything (default 600)
  --fresh       measure again what the table has already
  --only T,…    only problems whose name contains one of these
  --ship        tune nothing, only write src/3-plan/shipped-tuning.ts`;

const { values: given } = parseArgs({
  options: {
    budget: { type: 'string' },
    only: { type: 'string' },
    fresh: { type: 'boolean' },
    ship: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const folder = join(root, 'bench/tuning');

if (given.help) print(USAGE);
else {
  try {
    if (!given.ship) {
      const { caps } = await requestGpuDevice({ allowSoftware: true });
      const { record, file } = await tuned({
        model: undefined,
        seconds: number(given, 'budget', 1) ?? 600,
        out: join(folder, `${adapterName(caps)}.json`),
        resume: given.fresh !== true,
        dims: {},
        only: given.only?.split(','),
      });
      report(record);
      print(`written to ${file}`);
    }
    await ship();
  } catch (e) {
    progress('');
    if (e instanceof SardonyxError && e.code === 'device_unavailable') await respawnWithSoftwareGpu();
    throw e;
  }
  process.exit(0); // native handles of the GPU would keep the process
}

/** A table for the planner has what changes its choice, and what keeps a neighbour's entry from doing so. */
async function ship(): Promise<void> {
  const tables: string[] = [];
  for (const file of (await readdir(folder)).filter((f) => f.endsWith('.json')).sort()) {
    const { entries, ...head } = compactTuning((await readTuning(join(folder, file))) as TuningRecord);
    const measured = ((await readTuning(join(folder, file))) as TuningRecord).entries;
    const moved = new Set(measured.filter((e) => e.gain > 1).map((e) => e.group));
    const kept = entries.filter((e) => moved.has(e.group));
    if (kept.length > 0)
      tables.push(
        `  { format: ${head.format}, adapter: '${head.adapter}', entries: [\n${kept.map((e) => `    ${JSON.stringify(e)},`).join('\n')}\n  ] },`,
      );
  }
  await writeFile(
    join(root, 'src/3-plan/shipped-tuning.ts'),
    `/** Written by \`npm run tune\` from bench/tuning. */
import type { TuningTable } from './tuning.ts';

export const shipped: readonly TuningTable[] = [${tables.length > 0 ? `\n${tables.join('\n')}\n` : ''}];
`,
  );
}
