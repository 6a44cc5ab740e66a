import { resolve } from 'node:path';
import { defineConfig } from 'tsdown';

const common = {
  platform: 'neutral', // one build for browsers and Node; what only Node has is imported where it is used
  target: 'es2022',
  deps: {
    neverBundle: [
      /^node:/,
      'rolldown',
      'webgpu',
      'sardonyx',
      'pngjs',
      'jpeg-js',
      'onnxruntime-common',
      /^onnxruntime-web/,
      'puppeteer-core',
      '@sparticuz/chromium',
    ],
    onlyBundle: [],
  },
  inputOptions: { checks: { pluginTimings: false } },
  clean: false, // names are stable, and a test that runs beside a build keeps its files
} as const;

/**
 * Types of browsers that our own mention: nearly empty where a program has neither the DOM's library nor @webgpu/types,
 * else merged with what is there. So the declarations compile by themselves, also without `skipLibCheck`.
 */
const HOST_TYPES = [
  'GPUDevice',
  'GPUBuffer',
  'GPUComputePassEncoder',
  'ImageBitmap',
  'VideoFrame',
  'OffscreenCanvas',
  'HTMLCanvasElement',
  'HTMLImageElement',
  'HTMLVideoElement',
];
const DECLARED = `/// <reference lib="esnext.disposable" />\ndeclare global { ${HOST_TYPES.map((name) => `interface ${name} {${name.startsWith('GPU') ? ' label: string ' : ''}}`).join(' ')} }`;

const SET =
  /\b(wasm\/)?(?:sets|passes)\/(?:fuse-)?(spatial|norms|transformers|quantized|recurrent|indexed|uncommon|rare)\.ts$/;
const GRADIENT = /\b2-optimize\/gradient\.ts$/; // loaded with the rare ones

/**
 * Sets whose shared modules are a chunk. What others share with norms lies with those, and what uncommon ones share
 * with spatial ones with these, to be few.
 */
const shared = (sets: readonly string[]): readonly string[] => {
  const norms = sets.filter((name) => name.endsWith('norms'));
  return norms.length > 0
    ? norms
    : sets.some((name) => name.endsWith('spatial'))
      ? sets.filter((name) => !name.endsWith('uncommon'))
      : sets;
};

/** The one function of rolldown's runtime that chunks use, in each of them instead of in a file of its own. */
const RUNTIME = 'rolldown-runtime.js';
const RUNTIME_IMPORT = /^import \{ t as __exportAll \} from "\.\/rolldown-runtime\.js";$/m;
const EXPORT_ALL =
  'const __exportAll = (all) => Object.defineProperties({}, Object.fromEntries(Object.entries(all).map(([name, get]) => [name, { get, enumerable: true }])));';

/**
 * What an `import()` loads is asked for together with the chunks that it imports in turn: a page waits for one answer,
 * not for one after another. The build with every device does without, since its many chunks would make it a kilobyte
 * larger.
 */
const together = {
  name: 'together',
  generateBundle(
    _: unknown,
    bundle: Record<string, { readonly type: string; readonly imports?: readonly string[]; code?: string }>,
  ) {
    const reach = (file: string, seen = new Set<string>()): Set<string> => {
      if (!seen.has(file)) for (const next of (seen.add(file), bundle[file]?.imports ?? [])) reach(next, seen);
      return seen;
    };
    for (const [file, chunk] of Object.entries(bundle)) {
      if (chunk.type !== 'chunk') continue;
      const here = reach(file);
      const first = new Set<string>();
      chunk.code = chunk
        .code!.replace(/\bimport\("\.\/([^"]+)"\)/g, (asked, to: string) => {
          const set = to.replace(/^wasm-/, '');
          const around = set === to ? here : reach(set); // the definitions of a set come with its kernels
          const more = [...reach(to)].filter(
            (name) => name !== to && name !== RUNTIME && name in bundle && !here.has(name) && !around.has(name),
          );
          return more.length === 0 || first.size === first.add(to).size
            ? asked
            : `Promise.all([${[asked, ...more.map((name) => `import("./${name}")`)].join(', ')}]).then(([m]) => m)`;
        })
        .replace(RUNTIME_IMPORT, EXPORT_ALL);
    }
    if (!Object.values(bundle).some(({ code }) => code?.includes(RUNTIME))) delete bundle[RUNTIME];
  },
};

/**
 * One chunk for all that the entry imports, and one for each set of operators: its definitions, kernels and passes load
 * together. In a build with every device the CPU's kernels of a set are a chunk of their own.
 */
function oneChunkEach(entry = 'src/index.ts') {
  const chunkOf = new Map<string, string>();
  return {
    plugins: [
      {
        name: 'chunks',
        /** A shader from its own file, not from the list of all: else each would lie in the chunk that has the list. */
        transform: {
          filter: { code: /wgsl\/index\.gen\.ts'/ },
          handler: (code: string) =>
            code.replace(
              /import \{ ([^}]+) \} from '([./]+wgsl)\/index\.gen\.ts';/g,
              (_, names: string, folder: string) =>
                names
                  .split(', ')
                  .map(
                    (name) =>
                      `import { ${name} } from '${folder}/gen/${name.split(' ')[0]!.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)}.gen.ts';`,
                  )
                  .join(' '),
            ),
        },
        buildEnd(this: {
          getModuleIds(): IterableIterator<string>;
          getModuleInfo(id: string): { importedIds: readonly string[] } | null;
        }) {
          const reach = (from: string, seen: Set<string>): Set<string> => {
            if (seen.has(from)) return seen;
            seen.add(from);
            for (const id of this.getModuleInfo(from)?.importedIds ?? []) reach(id, seen);
            return seen;
          };
          chunkOf.clear();
          const ids = [...this.getModuleIds()];
          const first = reach(ids.find((id) => id.endsWith(`/${entry}`))!, new Set());
          const cpu = reach(ids.find((id) => id.endsWith('/src/devices/wasm.ts')) ?? '', new Set());
          const parts = new Map<string, Set<string>>();
          for (const id of ids) {
            const [set, wasm, name] = SET.exec(id) ?? (GRADIENT.test(id) ? ['', undefined, 'rare'] : []);
            if (set === undefined || first.has(id)) continue;
            const part = `${wasm ?? ''}${name}`.replace('/', '-');
            for (const m of reach(id, new Set())) parts.set(m, (parts.get(m) ?? new Set()).add(part));
          }
          for (const id of ids) {
            const in_ = [...(parts.get(id) ?? [])].sort();
            const plain = in_.filter((n) => !n.startsWith('wasm-'));
            if (first.has(id)) chunkOf.set(id, 'session');
            else if (plain.length === 0 && cpu.has(id)) chunkOf.set(id, 'wasm');
            else if (in_.length > 0) chunkOf.set(id, shared(plain.length > 0 ? plain : in_).join('-'));
          }
        },
      },
    ],
    inputOptions: { ...common.inputOptions, preserveEntrySignatures: 'allow-extension' as const },
    outputOptions: {
      codeSplitting: {
        includeDependenciesRecursively: false,
        groups: [{ name: (id: string) => chunkOf.get(id) ?? null }],
      },
    },
  };
}

/** An entry with one backend: what `src/devices/index.ts` exports comes from `only-….ts`. */
const onlyWith = (backend: string) => {
  const { plugins, ...options } = oneChunkEach();
  return {
    ...common,
    entry: { index: 'src/index.ts' },
    outDir: `dist/${backend}`,
    dts: false,
    hash: false,
    ...options,
    plugins: [
      ...plugins,
      together,
      {
        name: `only-${backend}`,
        resolveId: {
          filter: { id: /\bdevices\/index\.ts$/ },
          handler: () => resolve(import.meta.dirname, `src/devices/only-${backend}.ts`),
        },
      },
      ...(backend === 'wasm'
        ? [
            {
              name: 'no-gpu',
              resolveId: {
                filter: { id: /\b(?:image-gpu|sampling-gpu|assembled)\.ts$/ },
                handler: (id: string) =>
                  resolve(
                    import.meta.dirname,
                    id.includes('assembled') ? 'src/3-plan/no-shaders.ts' : 'src/interop/no-gpu.ts',
                  ),
              },
            },
          ]
        : []),
    ],
  };
};

export default defineConfig([
  {
    ...common,
    ...oneChunkEach(),
    entry: {
      index: 'src/index.ts',
      cli: 'src/cli/main.ts',
      tune: 'src/tune/index.ts',
      ort: 'src/ort/index.ts',
      'software-gpu': 'src/cli/software-gpu.ts',
    },
    dts: false,
    hash: false,
  },
  {
    ...common,
    entry: {
      index: 'src/index.ts',
      plan: 'src/plan.ts',
      run: 'src/run.ts',
      operators: 'src/operators.ts',
      tune: 'src/tune/index.ts',
      ort: 'src/ort/index.ts',
    },
    dts: { emitDtsOnly: true },
    banner: { dts: DECLARED },
  },
  {
    ...common,
    ...oneChunkEach('src/plan.ts'),
    entry: { index: 'src/plan.ts' },
    outDir: 'dist/plan',
    dts: false,
    hash: false,
  },
  { ...common, entry: { index: 'src/run.ts' }, outDir: 'dist/run', dts: false, hash: false },
  { ...common, entry: { index: 'src/operators.ts' }, outDir: 'dist/operators', dts: false, hash: false },
  onlyWith('webgpu'),
  onlyWith('wasm'),
  { ...common, entry: { 'read-text': 'demo/read-text/main.ts' }, outDir: 'dist/demo', dts: false, hash: false },
  {
    ...common,
    entry: {
      node: 'bench/node.ts',
      gpu: 'bench/gpu.ts',
      page: 'bench/page.ts',
      kernels: 'bench/kernels.ts',
      operators: 'bench/operators.ts',
      planning: 'bench/planning.ts',
      accuracy: 'bench/accuracy.ts',
      tune: 'bench/tune.ts',
    },
    outDir: 'dist/bench',
    dts: false,
    hash: false,
  },
]);
