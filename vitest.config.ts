import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * Tests that hold a time limit: nothing else of ours runs beside them, and since a machine may be busy with others'
 * work they have three tries.
 */
const timed = ['browser-gpu', 'browser-worker', 'gpu-device', 'gpu-replay', 'gpu-slices', 'threads', 'wasm-map'].map(
  (name) => `test/${name}.test.ts`,
);

/** Where trials note which WASM kernels they ran; looked at when all have. */
process.env.SARDONYX_TRIED ??= mkdtempSync(join(tmpdir(), 'sardonyx-tried-'));

export default defineConfig({
  resolve: { alias: { sardonyx: new URL('./src/index.ts', import.meta.url).pathname } },
  test: {
    // Dawn lives and dies with its process; a worker thread that ends with GPU work in flight would take the others
    // with it.
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'all',
          include: ['test/**/*.test.ts'],
          exclude: [...timed, 'test/wasm-tried.test.ts'],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: 'timed', include: timed, maxWorkers: 1, retry: 2, sequence: { groupOrder: 1 } } },
      {
        extends: true,
        test: { name: 'last', include: ['test/wasm-tried.test.ts'], maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
    ],
  },
});
