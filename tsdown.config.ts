import { resolve } from 'node:path';
import { defineConfig } from 'tsdown';

const common = {
  platform: 'neutral', // one build for browsers and Node; what only Node has is imported where it is used
  target: 'es2022',
  deps: { neverBundle: [/^node:/, 'rolldown', 'webgpu', 'sardonyx', 'pngjs', 'jpeg-js', /^onnxruntime-web/, 'puppeteer-core', '@sparticuz/chromium'], onlyBundle: [] },
  inputOptions: { checks: { pluginTimings: false } },
  clean: false, // names are stable, and a test that runs beside a build keeps its files
} as const;

/** An entry with one backend: what `src/devices/index.ts` exports comes from `only-….ts`. */
const onlyWith = (backend: string) => ({
  ...common, entry: { index: 'src/index.ts' }, outDir: `dist/${backend}`, dts: false, hash: false,
  plugins: [
    { name: `only-${backend}`, resolveId: { filter: { id: /\bdevices\/index\.ts$/ }, handler: () => resolve(import.meta.dirname, `src/devices/only-${backend}.ts`) } },
    ...(backend === 'wasm' ? [{ name: 'no-gpu', resolveId: { filter: { id: /\bimage-gpu\.ts$/ }, handler: () => resolve(import.meta.dirname, 'src/interop/no-gpu.ts') } }] : []),
  ],
});

export default defineConfig([
  { ...common, entry: { index: 'src/index.ts', cli: 'src/cli/main.ts', tune: 'src/tune/index.ts', 'software-gpu': 'src/cli/software-gpu.ts' }, dts: false, hash: false },
  { ...common, entry: { index: 'src/index.ts', plan: 'src/plan.ts', run: 'src/run.ts', tune: 'src/tune/index.ts' }, dts: { emitDtsOnly: true } },
  { ...common, entry: { index: 'src/plan.ts' }, outDir: 'dist/plan', dts: false, hash: false },
  { ...common, entry: { index: 'src/run.ts' }, outDir: 'dist/run', dts: false, hash: false },
  onlyWith('webgpu'),
  onlyWith('wasm'),
  { ...common, entry: { 'read-text': 'demo/read-text/main.ts' }, outDir: 'dist/demo', dts: false, hash: false },
  { ...common, entry: { cpu: 'bench/cpu.ts', gpu: 'bench/gpu.ts', page: 'bench/page.ts', kernels: 'bench/kernels.ts', accuracy: 'bench/accuracy.ts', tune: 'bench/tune.ts' }, outDir: 'dist/bench', dts: false, hash: false },
]);
