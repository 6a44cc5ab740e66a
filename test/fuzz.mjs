// Runs the seeded trials of every WASM kernel against its reference under V8's tiers, with relaxed SIMD and without;
// the trials themselves take turns between unshared and shared memory. `node test/fuzz.mjs [--sample] [SEED]`: some
// kernels under two tiers, or all of them under four; a random seed by default.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const sample = process.argv.includes('--sample');
const seed = process.argv.slice(2).find((a) => /^\d+$/.test(a)) ?? String(Math.floor(Math.random() * 2 ** 31));
const files = readdirSync('test')
  .filter((f) => /^wasm-.*\.test\.ts$/.test(f) && (!sample || /rows|microsoft|contract/.test(f)))
  .map((f) => `test/${f}`);
// Behind a flag in Node 20, where engines no longer have it the flag is refused.
const relaxed = Number(process.versions.node.split('.')[0]) < 22 ? ['--experimental-wasm-relaxed-simd'] : [];
const tiers = sample
  ? [['--liftoff-only'], ['--no-liftoff', ...relaxed]]
  : [
      ['--liftoff-only'],
      ['--no-liftoff'],
      ...(relaxed.length
        ? [
            ['--liftoff-only', ...relaxed],
            ['--no-liftoff', ...relaxed],
          ]
        : []),
    ];

let failed = 0;
for (const flags of tiers) {
  console.log(`== ${flags.join(' ')}, seed ${seed}`);
  const { status } = spawnSync(
    process.execPath,
    [vitest, 'run', ...files, '--reporter=dot', ...flags.map((f) => `--execArgv=${f}`)],
    { stdio: 'inherit', env: { ...process.env, SARDONYX_SEED: seed } },
  );
  if (status !== 0) {
    failed++;
    console.log(`failed: SARDONYX_SEED=${seed} with ${flags.join(' ')}`);
  }
}
process.exitCode = failed ? 1 : 0;
