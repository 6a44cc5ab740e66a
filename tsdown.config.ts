import { defineConfig } from 'tsdown';

const neverBundle = [/^node:/, /^protobufjs/, 'webgpu'];

export default defineConfig([
  {
    entry: { index: 'src/index.ts', cli: 'src/cli/main.ts', 'software-gpu': 'src/cli/software-gpu.ts' },
    platform: 'neutral', // one build for browsers and Node; what only Node has is imported where it is used
    target: 'es2022',
    deps: { neverBundle },
    dts: false,
    hash: false,
  },
  { entry: { index: 'src/index.ts' }, platform: 'neutral', target: 'es2022', deps: { neverBundle }, dts: { emitDtsOnly: true } },
]);
