import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { families, sets } from '../kernels/index.ts';
import { families as commonFamilies } from '../kernels/operators.ts';
import { MEMBERS, setsFor } from '../kernels/sets.ts';
import { common as wasmCommon } from '../kernels/wasm/index.ts';
import { common as gpuCommon } from '../kernels/webgpu/index.ts';
import * as shaders from '../wgsl/index.gen.ts';
import { PARAM } from '../wgsl/shader.ts';

const root = resolve(import.meta.dirname, '..');
const { WgslReflect } = (await import(
  'wgsl_reflect/wgsl_reflect.module.js' as string
)) as typeof import('wgsl_reflect'); // its main entry does not load in Node

/** Who may import whom. The most specific room that holds a file is its home; a room may always import itself. */
const MAY: Readonly<Record<string, readonly string[]>> = {
  'src/core': [],
  memory: [],
  wgsl: [],
  kernels: ['src/core', 'wgsl'],
  'src/0-read': ['src/core', 'src/1-parse'],
  'src/1-parse': ['src/core'],
  'src/2-optimize': ['src/core', 'kernels'],
  'src/3-plan': ['src/core', 'kernels', 'memory', 'wgsl'],
  'src/4-run': ['src/core'],
  'src/devices': ['src/core', 'src/3-plan', 'src/4-run', 'kernels'],
  'src/interop': ['src/core', 'src/3-plan', 'src/4-run', 'wgsl'],
  src: [
    'src/core',
    'src/0-read',
    'src/1-parse',
    'src/2-optimize',
    'src/3-plan',
    'src/4-run',
    'src/devices',
    'src/interop',
    'kernels',
  ],
  'src/tune': ['src', 'src/core', 'src/0-read', 'src/3-plan', 'src/4-run', 'src/devices', 'kernels', 'wgsl'],
  'src/cli': ['src', 'src/tune', 'src/core', 'src/0-read', 'src/1-parse', 'src/3-plan', 'src/4-run', 'kernels'],
  'src/ort': ['src', 'src/core', 'src/4-run'],
  'test/browser': [],
  demo: ['src'],
  bench: [
    'src',
    'src/tune',
    'src/devices',
    'src/core',
    'src/3-plan',
    'src/4-run',
    'src/cli',
    'kernels',
    'memory',
    'test/browser',
  ],
};
/** `src/core/plan.ts` describes what the planner knows of tensors alone; types may cross where values may not. */
const roomOf = (path: string): string | undefined =>
  Object.keys(MAY)
    .filter((room) => path.startsWith(`${room}/`))
    .sort((a, b) => b.length - a.length)[0];
const walk = (folder: string): string[] =>
  readdirSync(join(root, folder)).flatMap((name) => {
    const path = `${folder}/${name}`;
    return statSync(join(root, path)).isDirectory() ? walk(path) : [path];
  });
const files = ['src', 'kernels', 'wgsl', 'memory', 'demo', 'bench'].flatMap((f) => {
  try {
    return walk(f);
  } catch {
    return [];
  }
});
const sources = files.filter((f) => f.endsWith('.ts') && !f.endsWith('.d.ts'));

describe('the house', () => {
  it.each(sources)('%s imports only what its room may', (file) => {
    const home = roomOf(file)!;
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, spec] of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const to = relative(root, resolve(root, dirname(file), spec!)).replaceAll('\\', '/');
      const room = roomOf(to);
      if (room === home) continue;
      expect(room !== undefined && MAY[home]!.includes(room), `${file} may not import ${to}`).toBe(true);
    }
  });

  it.each(sources.filter((f) => !f.endsWith('.gen.ts')))('%s has no default export, enum or namespace', (file) => {
    const text = readFileSync(join(root, file), 'utf8');
    expect(text).not.toMatch(/^export default /m);
    expect(text).not.toMatch(/^\s*(export )?(const )?enum /m);
    expect(text).not.toMatch(/^\s*(export )?namespace /m);
  });

  it.each(files.filter((f) => /^wgsl\/[^/]+\.wgsl$/.test(f)))(
    '%s declares its parameters and bindings in the one form',
    (file) => {
      const text = readFileSync(join(root, file), 'utf8');
      expect([...text.matchAll(/^\s*(@id\(\d+\) )?override /gm)]).toHaveLength([...text.matchAll(PARAM)].length);
      expect(text).toMatch(/^\/\/ \S/); // says what it computes
      expect(text).toMatch(/@compute @workgroup_size/);
    },
  );

  it.each(Object.values(shaders).filter((s) => 'source' in s))(
    '$name has the layout of uniforms that WGSL gives it',
    ({ source, uniforms, uniformBytes }) => {
      const struct = /^struct Uniforms \{[^}]*\}/m.exec(source)?.[0];
      const members = struct === undefined ? [] : new WgslReflect(struct).structs[0]!.members;
      expect(uniforms.map(({ name, offset, size }) => [name, offset, size])).toEqual(
        members.map(({ name, offset, size }) => [name, offset, size]),
      );
      expect(uniformBytes).toBe(
        Math.ceil((uniforms.length && uniforms.at(-1)!.offset + uniforms.at(-1)!.size) / 16) * 16,
      );
      expect(/@binding\(\d+\) var<uniform>/.test(source)).toBe(uniforms.length > 0);
    },
  );

  it('defines each operator once', () => {
    const names = families.flat().map((o) => o.op);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it('loads a set of operators for each that is in it, and for no other', () => {
    const base = (name: string): string => name.slice(name.lastIndexOf('.') + 1);
    const atHand = new Set(commonFamilies.flat().map((o) => o.op));
    for (const [set, { families: own, webgpu, wasm }] of Object.entries(sets)) {
      const operators = [...new Set([...own.flat().map((o) => o.op), ...Object.keys(webgpu), ...Object.keys(wasm)])];
      if (set !== 'rare')
        expect([...new Set(operators.map(base))].sort()).toEqual(
          MEMBERS[set as keyof typeof MEMBERS].split(' ').sort(),
        );
      for (const name of operators) {
        const other = /EmbedLayerNorm|GroupNorm$/.test(name)
          ? ['norms']
          : /\.Q.*Pool$/.test(name)
            ? ['spatial']
            : /MoE$/.test(name)
              ? ['indexed', 'norms']
              : []; // a rewrite makes a norm of it, a pool, or a sort and a Gelu
        expect(setsFor([name], atHand), name).toEqual([...new Set([...other, set])].sort());
      }
    }
    for (const name of [...Object.keys(gpuCommon), ...Object.keys(wasmCommon)])
      expect(atHand.has(name), `${name} has kernels at hand, but no definition`).toBe(true);
  });

  it('lets no file of 4-run name an operator', () => {
    const names = new Set(
      files
        .filter((f) => f.startsWith('kernels/') && f.endsWith('.ts'))
        .flatMap((f) => [...readFileSync(join(root, f), 'utf8').matchAll(/\bop: '(\w[\w.]*)'/g)].map((m) => m[1]!)),
    );
    expect(names.size).toBeGreaterThan(100);
    for (const file of sources.filter((f) => f.startsWith('src/4-run/'))) {
      for (const [, word] of readFileSync(join(root, file), 'utf8').matchAll(/'([A-Za-z][\w.]*)'/g))
        expect(names.has(word!), `${file} names ${word}`).toBe(false);
    }
  });
});
