import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensor } from '../src/index.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];
const text = (page: string): string => readFileSync(join(root, page), 'utf8');

/** Each example as a module of its own, as a user would have it beside the package. */
const examples = new Map(
  pages.flatMap((page) =>
    [...text(page).matchAll(/^```ts\n(.*?)^```/gms)].map(
      (m, i) => [join(root, `example-${page.replace(/\W/g, '-')}-${i + 1}.ts`), `${m[1]!}\nexport {};\n`] as const,
    ),
  ),
);

const linear = (output: string, opset?: number): Uint8Array =>
  encode(
    {
      input: [port('x', ['batch', 8])],
      output: [port(output, ['batch', 3])],
      initializer: [initializer('w', tensor('float32', [8, 3], noise(24)))],
      node: [node('MatMul', ['x', 'w'], [output])],
    },
    opset,
  );
/** Examples that run in Node as they are: what they have in them, the models that they read, and what they print. */
const RUN: readonly {
  readonly has: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
  readonly prints: RegExp;
  readonly more?: string;
}[] = [
  {
    has: 'printPlan(session.plan!)',
    prints: /^plan of model\.onnx on \w+: \d+ steps/,
    files: {
      'model.onnx': encode({
        input: [port('input', [1, 1, 28, 28])],
        output: [port('probabilities', [1, 1, 28, 28])],
        node: [node('Softmax', ['input'], ['probabilities'])],
      }),
    },
  },
  {
    has: 'if (!preview.fits)',
    prints: /^plan of large\.onnx on webgpu: [\s\S]* \d+ bytes read$/,
    files: {
      'large.onnx': encode({
        input: [port('x', ['batch', 'sequence'])],
        output: [port('y', ['batch', 'sequence'])],
        node: [node('Softmax', ['x'], ['y'])],
      }),
    },
  },
  {
    has: "tensor('float16'",
    prints: /^\[ -0\.5, 1, -2 \]$/,
    files: {
      'half.onnx': encode({
        input: [port('x', [3], 'float16')],
        output: [port('y', [3], 'float16')],
        node: [node('Neg', ['x'], ['y'])],
      }),
    },
  },
  {
    has: "op: 'com.example.Bent'",
    prints: /^0\.76159/,
    more: "const { y } = await session.run({ x: { dtype: 'float32', shape: [1], data: Float32Array.of(1) } }); console.log(y.data[0]);",
    files: {
      'model.onnx': encode(
        {
          input: [port('x', [1])],
          output: [port('y', [1])],
          node: [node('Bent', ['x'], ['y'], {}, { domain: 'com.example' })],
        },
        undefined,
        {
          opsetImport: [
            { domain: '', version: 17 },
            { domain: 'com.example', version: 1 },
          ],
        },
      ),
    },
  },
  {
    has: 'rollingSum = defineOperator',
    prints: /^RollingSum/,
    files: {},
    more: "console.log(rollingSum.op.split('.').at(-1));",
  },
  { has: "from 'sardonyx/plan'", prints: /^$/, files: { 'model.onnx': linear('y') } },
  { has: "fetch('https://example.org/model.sdx')", prints: /^\{[\s\S]*y: \{[\s\S]*shape: \[ 1, 3 \]/, files: {} },
  {
    has: "from 'node:http'",
    prints: /^\[0,0,0\]$/,
    files: { 'model.onnx': linear('scores') },
    more: "console.log(await (await globalThis.network('http://127.0.0.1:8080', { method: 'POST', body: 'x' })).text()); process.exit(0);",
  },
];
/** Answers for example.org with the files of the folder. */
const NETWORK = `import { existsSync, readFileSync } from 'node:fs';
globalThis.network = fetch;
globalThis.fetch = async (url, init) => { const { pathname } = new URL(url); return existsSync('.' + pathname) ? new Response(readFileSync('.' + pathname)) : new Response('', { status: 404 }); };`;

describe('an example that Node can run', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'sardonyx-examples-'));
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(root, join(folder, 'node_modules/sardonyx'));
    writeFileSync(join(folder, 'network.mjs'), NETWORK);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each(RUN.map((one) => [one.has, one] as const))(
    'does: %s',
    { timeout: 60_000 },
    async (has, { files, prints, more = '' }) => {
      const found = [...examples.values()].filter((code) => code.includes(has));
      expect(found).toHaveLength(1);
      for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes);
      const port = 20_000 + (process.pid % 20_000);
      const { outputText } = ts.transpileModule(`${found[0]!.replace('export {};', '')}${more}`, {
        compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
      });
      writeFileSync(join(folder, 'example.mjs'), outputText.replaceAll('8080', String(port)));
      const { stdout } = await promisify(execFile)(process.execPath, ['--import', './network.mjs', 'example.mjs'], {
        cwd: folder,
        env: { ...process.env, NODE_OPTIONS: '' },
      });
      expect(stdout.trim()).toMatch(prints);
    },
  );
});

describe('the documentation', () => {
  it("has examples that the package's types allow", { timeout: 120_000 }, () => {
    expect(examples.size).toBeGreaterThanOrEqual(12);
    const options: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts', 'lib.esnext.disposable.d.ts'],
      strict: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
      skipLibCheck: true,
      types: ['node', '@webgpu/types'],
      paths: Object.fromEntries(
        ['', '/plan', '/run', '/operators', '/tune', '/ort'].map((entry) => [
          `sardonyx${entry}`,
          [join(root, `dist${entry || '/index'}.d.ts`)],
        ]),
      ),
    };
    const host = ts.createCompilerHost(options);
    const { fileExists, readFile, getSourceFile } = host;
    host.fileExists = (file) => examples.has(file) || fileExists(file);
    host.readFile = (file) => examples.get(file) ?? readFile(file);
    host.getSourceFile = (file, ...more) =>
      examples.has(file)
        ? ts.createSourceFile(file, examples.get(file)!, ts.ScriptTarget.ES2022)
        : getSourceFile(file, ...more);
    const program = ts.createProgram([...examples.keys()], options, host);
    const wrong = [...examples.keys()].flatMap((file) => {
      const source = program.getSourceFile(file)!;
      return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
        (d) =>
          `${file.slice(root.length + 1)}:${source.getLineAndCharacterOfPosition(d.start ?? 0).line + 1} ${ts.flattenDiagnosticMessageText(d.messageText, ' ')}`,
      );
    });
    expect(wrong).toEqual([]);
  });
  it('lists every export, as the package has it', { timeout: 120_000 }, async () => {
    const { apiText } = (await import('../docs/api.mjs' as string)) as { apiText: () => string };
    expect(apiText(), 'docs/api.md is written by npm run api').toBe(text('docs/api.md'));
  });
  it('explains every code of an error, and no other', () => {
    const union = /export type ErrorCode =([^;]+);/.exec(text('src/core/errors.ts'))![1]!;
    const codes = [...union.matchAll(/'(\w+)'/g)].map((m) => m[1]!);
    const rows = text('docs/errors.md')
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    expect(rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map((m) => m[1]!)).sort()).toEqual(
      [...codes].sort(),
    );
  });
  it.each(pages)('links to what is there: %s', (page) => {
    const links = [...text(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map((m) => m[1]!);
    const gone = links.filter((to) => {
      try {
        readFileSync(resolve(root, page, '..', to));
        return false;
      } catch (e) {
        return (e as NodeJS.ErrnoException).code !== 'EISDIR';
      }
    });
    expect(gone).toEqual([]);
  });
});
