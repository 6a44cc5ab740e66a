import { execFile, execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { build as esbuild } from 'esbuild';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import type { Browser } from 'puppeteer-core';
import { rolldown } from 'rolldown';
import { createLogger, build as vite } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import webpack from 'webpack';
import { type Results, Session, type Tensor, tensor } from '../src/index.ts';
import { built, launch, serve, type Site, watch } from './browser/chromium.ts';
import { encode, initializer, node, noise, port } from './onnx-model.ts';

const root = resolve(import.meta.dirname, '..');
const run = promisify(execFile);

/** A convolution, a product and a row kernel, and what to feed them. */
const model = encode({
  input: [port('x', ['batch', 2, 8, 8])],
  output: [port('y', ['batch', 8])],
  initializer: [
    initializer('K', tensor('float32', [4, 2, 3, 3], noise(72))),
    initializer('W', tensor('float32', [256, 8], noise(2048, 2))),
  ],
  node: [
    node('Conv', ['x', 'K'], ['c'], { pads: [1, 1, 1, 1] }),
    node('Relu', ['c'], ['r']),
    node('Flatten', ['r'], ['f']),
    node('MatMul', ['f', 'W'], ['m']),
    node('Softmax', ['m'], ['y']),
  ],
});
const feed = noise(2 * 128, 9);

/** All of the app: what a user would write first. */
const APP = `import { Session, tensor } from 'sardonyx';
export async function answer(model, device, values) {
  const session = await Session.load(model, { device });
  const { y } = await session.run({ x: tensor('float32', [2, 2, 8, 8], Float32Array.from(values)) });
  await session.release();
  return { device: session.device, y: Array.from(y.data) };
}
globalThis.answer = answer;
`;
const page = (script: string, head = ''): string =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><title>An app</title><link rel="icon" href="data:,">${head}<script type="module" src="${script}"></script></html>`;

/** A folder as a user's: the packed package in node_modules, nothing else installed. */
let app: string;
let tarball: string;
let site: Site;
let browser: Browser;
let want: readonly number[];

beforeAll(async () => {
  built(resolve(root, 'dist/index.js'));
  app = mkdtempSync(join(tmpdir(), 'sardonyx-app-'));
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', app], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ) as [{ filename: string }];
  tarball = join(app, packed.filename);
  const home = join(app, 'node_modules/sardonyx');
  mkdirSync(home, { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '-C', home, '--strip-components=1']);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  writeFileSync(join(app, 'main.js'), APP);
  writeFileSync(join(app, 'index.html'), page('./main.js'));
  site = await serve({ app }, new Map<string, Uint8Array | string>([['/model.onnx', model]]));
  browser = await launch();
  const session = await Session.load(model, { device: 'reference' });
  want = Array.from(
    (((await session.run({ x: tensor('float32', [2, 2, 8, 8], feed) })) as Results)['y'] as Tensor)
      .data as Float32Array,
  );
  await session.release();
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await site?.close();
  if (app) rmSync(app, { recursive: true, force: true });
});

const files = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .flatMap((f) => (f.isFile() ? [relative(folder, join(f.parentPath, f.name))] : []))
    .sort();

/** Opens `index.html` of a folder of the app, and holds both devices to the reference. */
async function answers(folder: string): Promise<void> {
  const opened = await browser.newPage();
  const errors = watch(opened);
  try {
    await opened.goto(`${site.address}/app/${folder}/index.html`, { waitUntil: 'load', timeout: 60_000 });
    for (const device of ['wasm', 'webgpu']) {
      const got = await opened.evaluate(
        (d: string, values: number[]) =>
          (
            globalThis as unknown as {
              answer(model: string, device: string, values: number[]): Promise<{ device: string; y: number[] }>;
            }
          ).answer('/model.onnx', d, values),
        device,
        Array.from(feed),
      );
      expect(got.device).toBe(device);
      expect(got.y).toHaveLength(want.length);
      got.y.forEach((v, i) => expect(Math.abs(v - want[i]!)).toBeLessThan(1e-5));
    }
    expect(errors).toEqual([]);
  } finally {
    await opened.close();
  }
}

/** A bundle is scripts alone, and asks neither Node nor a package for anything. */
function checkBundle(folder: string): void {
  const made = files(join(app, folder)).filter((name) => name !== 'index.html');
  expect(made.filter((name) => !name.endsWith('.js'))).toEqual([]);
  const text = made.map((name) => readFileSync(join(app, folder, name), 'utf8')).join('\n');
  expect(text).not.toMatch(/(?:from|import|import\(|require\()\s*["'`](?:node:|webgpu|sardonyx)/);
  expect(text.length).toBeGreaterThan(200_000); // less is no bundle of the library
}
const withPage = (folder: string, script = './main.js'): void =>
  writeFileSync(join(app, folder, 'index.html'), page(script));

describe('an app', () => {
  it('is bundled by Vite as it is', async () => {
    const warnings: string[] = [];
    const logger = createLogger('warn');
    for (const level of ['warn', 'warnOnce', 'error'] as const)
      logger[level] = (message: string) => void warnings.push(message);
    await vite({
      root: app,
      configFile: false,
      base: './',
      customLogger: logger,
      build: { outDir: 'vite', chunkSizeWarningLimit: 2000 },
    });
    expect(warnings).toEqual([]);
    checkBundle('vite');
    await answers('vite');
  }, 60_000);

  it('is bundled by webpack as it is', async () => {
    // Unminified: its minifier takes longer than all the rest of this file.
    const stats = await new Promise<webpack.Stats>((done, fail) => {
      webpack(
        {
          mode: 'production',
          context: app,
          entry: './main.js',
          output: { path: join(app, 'webpack'), filename: 'main.js' },
          performance: { hints: false },
          optimization: { minimize: false },
        },
        (error, result) => (error ? fail(error) : done(result!)),
      );
    });
    expect(stats.toJson({ all: false, warnings: true, errors: true })).toMatchObject({ warnings: [], errors: [] });
    withPage('webpack');
    checkBundle('webpack');
    await answers('webpack');
  }, 60_000);

  it('is bundled by esbuild as it is', async () => {
    const { warnings, errors } = await esbuild({
      absWorkingDir: app,
      entryPoints: ['main.js'],
      bundle: true,
      splitting: true,
      format: 'esm',
      minify: true,
      outdir: 'esbuild',
      logLevel: 'silent',
    });
    expect([...warnings, ...errors]).toEqual([]);
    withPage('esbuild');
    checkBundle('esbuild');
    await answers('esbuild');
  }, 60_000);

  it('is one file where a bundler may not split it, as for workers that may not import()', async () => {
    const { warnings, errors } = await esbuild({
      absWorkingDir: app,
      entryPoints: ['main.js'],
      bundle: true,
      format: 'iife',
      minify: true,
      outdir: 'single',
      logLevel: 'silent',
    });
    expect([...warnings, ...errors]).toEqual([]);
    expect(files(join(app, 'single'))).toEqual(['main.js']);
    expect(readFileSync(join(app, 'single/main.js'), 'utf8')).not.toMatch(/\bimport\(["'`]/); // what is left asks for modules of Node, there
    withPage('single');
    checkBundle('single');
    await answers('single');
  }, 60_000);

  it('is bundled by rolldown as it is', async () => {
    const warnings: string[] = [];
    const bundler = await rolldown({
      cwd: app,
      input: './main.js',
      platform: 'browser',
      onLog: (level, log) => {
        if (level !== 'debug') warnings.push(log.message);
      },
    });
    await bundler.write({ dir: join(app, 'rolldown'), minify: true });
    await bundler.close();
    expect(warnings).toEqual([]);
    withPage('rolldown');
    checkBundle('rolldown');
    await answers('rolldown');
  }, 60_000);

  it('is loaded by a page without any bundler', async () => {
    mkdirSync(join(app, 'plain'));
    copyFileSync(join(app, 'main.js'), join(app, 'plain/main.js'));
    writeFileSync(
      join(app, 'plain/index.html'),
      page(
        './main.js',
        '<script type="importmap">{ "imports": { "sardonyx": "../node_modules/sardonyx/dist/index.js" } }</script>',
      ),
    );
    await answers('plain');
  }, 60_000);

  it.each(['esbuild', 'rolldown', 'webpack'])(
    'of onnxruntime-web runs on sardonyx/ort, bundled by %s',
    async (bundler) => {
      const folder = `ort-${bundler}`;
      const aliases = { 'onnxruntime-web/webgpu': 'sardonyx/ort', 'onnxruntime-web': 'sardonyx/ort' };
      cpSync(join(root, 'node_modules/onnxruntime-common'), join(app, 'node_modules/onnxruntime-common'), {
        recursive: true,
      });
      // As transformers.js does: the runtime as a namespace, and the tensor from onnxruntime-common.
      writeFileSync(
        join(app, 'ort.js'),
        `import * as ort from 'onnxruntime-web/webgpu'; import { Tensor } from 'onnxruntime-common';
      globalThis.answer = async (model, device, values) => {
        const session = await ort.InferenceSession.create(model, { executionProviders: [device] });
        const { y } = await session.run({ x: new Tensor('float32', Float32Array.from(values), [2, 2, 8, 8]) });
        return { device, y: Array.from(y.data) };
      };`,
      );
      if (bundler === 'esbuild')
        await esbuild({
          absWorkingDir: app,
          entryPoints: { main: 'ort.js' },
          bundle: true,
          splitting: true,
          format: 'esm',
          minify: true,
          outdir: folder,
          alias: aliases,
          logLevel: 'silent',
        });
      else if (bundler === 'rolldown')
        await (
          await rolldown({ cwd: app, input: { main: './ort.js' }, platform: 'browser', resolve: { alias: aliases } })
        ).write({ dir: join(app, folder), minify: true });
      else
        await new Promise<void>((done, fail) => {
          webpack(
            {
              mode: 'production',
              context: app,
              entry: './ort.js',
              output: { path: join(app, folder), filename: 'main.js' },
              resolve: { alias: aliases },
              optimization: { minimize: false },
            },
            (error, stats) => ((error ?? stats?.hasErrors()) ? fail(error ?? new Error(stats!.toString())) : done()),
          );
        });
      withPage(folder);
      checkBundle(folder);
      await answers(folder);
    },
    60_000,
  );

  const inNode = async (script: string, ...flags: string[]): Promise<string> =>
    (
      await run(process.execPath, [...flags, '-e', script], { cwd: app, env: { ...process.env, NODE_OPTIONS: '' } })
    ).stdout.trim();
  it('runs in Node, imported or required', async () => {
    writeFileSync(join(app, 'model.onnx'), model);
    const body = `const session = await Session.load('model.onnx', { device: 'wasm' });
      const { y } = await session.run({ x: tensor('float32', [2, 2, 8, 8], Float32Array.from(${JSON.stringify(Array.from(feed))})) });
      console.log(JSON.stringify(Array.from(y.data)));`;
    const imported = JSON.parse(
      await inNode(`import { Session, tensor } from 'sardonyx'; ${body}`, '--input-type=module'),
    ) as number[];
    imported.forEach((v, i) => expect(Math.abs(v - want[i]!)).toBeLessThan(1e-5));
    // From 20.19 and 22.12 on Node requires ES modules; before, its error names import().
    const required = await inNode(
      `(async () => { let it; try { it = require('sardonyx'); } catch (e) { if (e.code !== 'ERR_REQUIRE_ESM' || !/import\\(\\)/.test(e.message)) throw e; it = await import('sardonyx'); } const { Session, tensor } = it; ${body} })()`,
    );
    expect(JSON.parse(required)).toEqual(imported);
  });

  it('without the optional package webgpu is told so when it asks for a GPU in Node', async () => {
    const text = await inNode(
      `import { Session } from 'sardonyx'; try { await Session.load('model.onnx', { device: 'webgpu' }); } catch (e) { console.log(e.code, e.message); }`,
      '--input-type=module',
    );
    expect(text).toMatch(/^device_unavailable .*webgpu/);
  });
});

describe('the package', () => {
  it('holds what it needs to and no more', () => {
    const held = files(join(app, 'node_modules/sardonyx'));
    expect(held).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'package.json',
        'dist/index.js',
        'dist/index.d.ts',
        'dist/cli.js',
      ]),
    );
    expect(
      held.filter(
        (name) =>
          !/^(?:LICENSE|README\.md|package\.json|dist\/[\w./-]+\.(?:js|d\.ts)|dist\/LICENSE\.\w+)$/.test(name) ||
          /^dist\/(?:bench|demo|site|scratch)\//.test(name),
      ),
    ).toEqual([]);
  });

  it('passes publint', async () => {
    const { messages, pkg } = await publint({ pkgDir: join(app, 'node_modules/sardonyx'), strict: true, pack: false });
    expect(messages.map((m) => formatMessage(m, pkg))).toEqual([]);
  });

  const typed = async (types: readonly string[], lib: readonly string[]): Promise<string> => {
    writeFileSync(
      join(app, 'typed.mts'),
      `${['', '/plan', '/run', '/operators', '/tune'].map((entry, i) => `export * as e${i} from 'sardonyx${entry}';`).join('\n')}
      import { Session, tensor, type Tensor } from 'sardonyx';
      const session = await Session.load('model.onnx', { device: 'wasm' });
      const { y } = await session.run({ x: tensor('float32', [1], [1]) });
      export const first: number = (y as Tensor<'float32'>).data[0]!;
      // @ts-expect-error
      void Session.load('model.onnx', { device: 'gpu' });
      // @ts-expect-error
      void Session.load('model.onnx', { executionProviders: ['webgpu'] });
      // @ts-expect-error
      void tensor('float', [1], [1]);`,
    );
    writeFileSync(
      join(app, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: { strict: true, noEmit: true, target: 'es2022', module: 'nodenext', types, lib },
        files: ['typed.mts'],
      }),
    );
    return (
      await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', app], { cwd: app }).catch(
        (e: { stdout: string }) => e,
      )
    ).stdout;
  };
  it.each([
    ['the DOM', [], ['es2022', 'dom']],
    ['the DOM and WebGPU', ['@webgpu/types'], ['es2022', 'dom']],
    ['Node', ['node'], ['es2022']],
  ] as const)(
    'has types that compile beside those of %s alone, all checked',
    async (_, types, lib) => {
      expect(
        await typed(
          types.map((name) => join(root, 'node_modules', name === 'node' ? '@types/node' : name)),
          lib,
        ),
      ).toBe('');
    },
    60_000,
  );

  it('has types that resolve, by attw', async () => {
    // The one profile for packages of ES modules: they are not asked to work under Node 10's rules, or as CommonJS.
    const attw = resolve(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const { stdout } = await run(
      process.execPath,
      [attw, tarball, '--profile', 'esm-only', '--format', 'json', '--no-definitely-typed'],
      { cwd: app, maxBuffer: 2 ** 26 },
    ).catch((e: { stdout: string }) => e);
    const { analysis, problems } = JSON.parse(stdout) as {
      analysis: { types: { kind: string }; entrypoints: object };
      problems: Readonly<Record<string, readonly { resolutionKind?: string }[]>>;
    };
    expect(analysis.types.kind).toBe('included');
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: object };
    expect(Object.keys(analysis.entrypoints).sort()).toEqual(Object.keys(exports).sort());
    expect(
      Object.values(problems)
        .flat()
        .filter((p) => p.resolutionKind !== 'node10' && p.resolutionKind !== 'node16-cjs'),
    ).toEqual([]);
  }, 60_000);
});
