import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: { alias: { sardonyx: new URL('./src/index.ts', import.meta.url).pathname } },
  test: {
    include: ['test/**/*.test.ts'],
    // Dawn lives and dies with its process; a worker thread that ends with GPU work in flight would take the others with it.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
