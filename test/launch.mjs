// Runs vitest, with SwiftShader as the GPU where there is none to count on. `node test/launch.mjs [vitest's arguments]`
// SARDONYX_GPU=system tests on the system's own driver instead, as macOS and Windows always do.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { softwareGpuEnv } from '../dist/software-gpu.js';

const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const software = process.env.SARDONYX_GPU === 'system' ? null : await softwareGpuEnv();
const folder = mkdtempSync(join(tmpdir(), 'sardonyx-test-'));
const report = join(folder, 'report.json');
const args = [
  vitest,
  'run',
  ...process.argv.slice(2),
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
];
const child = spawn(process.execPath, args, { stdio: 'inherit', env: { ...process.env, ...software } });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
const status = await new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));

/** Counts tests; a file that could not run counts as one failure, and so does a run that failed otherwise. */
function summary() {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  const broken = testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((t) => t.status === 'failed'),
  ).length;
  return {
    passed: numPassedTests,
    failed: Math.max(numFailedTests + broken, status === 0 ? 0 : 1),
    skipped: numPendingTests + numTodoTests,
  };
}

let counts = { passed: 0, failed: 1, skipped: 0 };
try {
  counts = summary();
} catch {
  // vitest ended before it wrote a report.
}
rmSync(folder, { recursive: true, force: true });
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? status || 1 : status;
