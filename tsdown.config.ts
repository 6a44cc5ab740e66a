import { defineConfig } from 'tsdown';

const common = {
  platform: 'neutral', // one build for browsers and Node; what only Node has is imported where it is used
  target: 'es2022',
  deps: { neverBundle: [/^node:/, /^protobufjs/, 'webgpu', 'sardonyx', 'pngjs', 'jpeg-js', /^onnxruntime-web/] },
  clean: false, // names are stable, and a test that runs beside a build keeps its files
} as const;

export default defineConfig([
  { ...common, entry: { index: 'src/index.ts', cli: 'src/cli/main.ts', 'software-gpu': 'src/cli/software-gpu.ts' }, dts: false, hash: false },
  { ...common, entry: { index: 'src/index.ts' }, dts: { emitDtsOnly: true } },
  { ...common, entry: { 'read-text': 'demo/read-text/main.ts' }, outDir: 'dist/demo', dts: false, hash: false },
  { ...common, entry: { cpu: 'bench/cpu.ts', kernels: 'bench/kernels.ts' }, outDir: 'dist/bench', dts: false, hash: false },
]);
