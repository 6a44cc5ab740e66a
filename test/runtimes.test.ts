import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

/**
 * The command as users have it, on engines that are not Node's: Deno's WebGPU is wgpu with naga, which Firefox has;
 * Bun's engine is JavaScriptCore, Safari's.
 */
const root = resolve(import.meta.dirname, '..');
const data = resolve(root, '../shared/data');
const scratch = mkdtempSync(join(tmpdir(), 'sardonyx-runtimes-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const ENGINES = {
  deno: ['run', '--allow-all', '--unstable-webgpu'],
  bun: [],
} as const;
type Engine = keyof typeof ENGINES;

/** Where npm put the binary: an install script may have been forbidden to link it. */
function binary(engine: Engine): string | null {
  const from = createRequire(join(root, 'package.json')).resolve(`${engine}/package.json`);
  const platform = createRequire(from).resolve;
  const candidates = [join(root, 'node_modules/.bin', engine)];
  for (const name of engine === 'deno'
    ? ['@deno/linux-x64-glibc/package.json']
    : ['@oven/bun-linux-x64/package.json']) {
    try {
      candidates.push(join(platform(name), '..', engine === 'deno' ? 'deno' : 'bin/bun'));
    } catch {
      // Another platform.
    }
  }
  return candidates.find((file) => existsSync(file) && spawnSync(file, ['--version']).status === 0) ?? null;
}
const found: Readonly<Record<Engine, string | null>> = { deno: binary('deno'), bun: binary('bun') };

interface Verified {
  readonly passed: number;
  readonly failed: number;
  readonly cases: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly nodes: readonly { readonly device: string; readonly why?: string }[];
  }[];
}

async function verify(engine: Engine, device: string, folder: string, ...more: readonly string[]): Promise<Verified> {
  const child = spawn(
    found[engine]!,
    [
      ...ENGINES[engine],
      join(root, 'dist/cli.js'),
      'verify',
      join(data, folder),
      '--device',
      device,
      '--json',
      ...more,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, DENO_DIR: scratch, DENO_NO_UPDATE_CHECK: '1', NO_COLOR: '1' },
    },
  );
  let [text, errors] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk;
  });
  const status = await new Promise((done) => child.once('close', done));
  if (!text.startsWith('{')) throw new Error(`${engine} ended with ${status}: ${errors || text}`);
  return JSON.parse(text) as Verified;
}
const wrong = ({ cases }: Verified): string[] =>
  cases.flatMap((c) => (c.status === 'failed' ? [`${c.name}: ${c.message}`] : []));
const wholly = ({ cases }: Verified, device: string): number =>
  cases.filter((c) => c.status === 'passed' && c.nodes.every((n) => n.device === device || n.why === 'shape')).length;
const MODELS = [
  'mnist-8',
  'silero-vad-v5',
  'bert-mini',
  'gpt2-mini',
  'stories260k-gqa',
  'mobilenetv2',
  'ppocr-cls',
  'convnext',
  'whisper',
].flatMap((name) => ['--filter', name]);

describe.skipIf(!existsSync(data)).each([
  ['deno', 'webgpu'],
  ['deno', 'wasm'],
  ['bun', 'wasm'],
] as const)('in %s, on %s', (engine, device) => {
  // Deno's WASM engine is Node's.
  it.skipIf(found[engine] === null || (engine === 'deno' && device === 'wasm'))(
    "ONNX's cases pass",
    { timeout: 600_000 },
    async () => {
      const all = await verify(engine, device, 'onnx/node');
      console.log(
        `ONNX node in ${engine} on ${device}: ${all.passed} passed, ${wholly(all, device)} of them wholly on the device`,
      );
      expect(wrong(all)).toEqual([]);
      expect(all.passed).toBeGreaterThanOrEqual(1783);
      expect(wholly(all, device)).toBeGreaterThanOrEqual(device === 'webgpu' ? 1540 : 1630);
    },
  );
  it.skipIf(found[engine] === null)('models give their recorded outputs', { timeout: 600_000 }, async () => {
    const all = await verify(engine, device, 'models', ...MODELS);
    expect(wrong(all)).toEqual([]);
    expect(all.passed).toBeGreaterThanOrEqual(11);
    for (const one of all.cases)
      expect(
        one.nodes.some((n) => n.device === device),
        one.name,
      ).toBe(true);
  });
});
