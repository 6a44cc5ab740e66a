import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { wasmKernels } from '../kernels/index.ts';

/**
 * The kernels that trials against the reference ran, in whichever process; null where only a part of the trials was
 * asked for.
 */
function tried(): ReadonlySet<string> | null {
  const folder = process.env.SARDONYX_TRIED;
  const lines =
    folder === undefined
      ? []
      : readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').trim().split('\n'));
  const trials = readdirSync(import.meta.dirname).filter(
    (name) => /^wasm-.*\.test\.ts$/.test(name) && name !== 'wasm-tried.test.ts',
  );
  return trials.every((name) => lines.includes(`file ${name}`)) ? new Set(lines) : null;
}

it('every WASM kernel was tried on random calls', ({ skip }) => {
  const ran = tried();
  if (ran === null) return skip('run beside all test/wasm-*.test.ts');
  const names = new Set(Object.values(wasmKernels).flatMap((list) => list.map((k) => k.name)));
  expect(names.size).toBeGreaterThan(100);
  expect([...names].filter((name) => !ran.has(name))).toEqual([]);
});
