import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '..');
const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
const text = (page: string): string => readFileSync(join(root, page), 'utf8');

/** Each example as a module of its own, as a user would have it beside the package. */
const examples = new Map(pages.flatMap((page) => [...text(page).matchAll(/^```ts\n(.*?)^```/gms)].map((m, i) => [join(root, `example-${page.replace(/\W/g, '-')}-${i + 1}.ts`), `${m[1]!}\nexport {};\n`] as const)));

describe('the documentation', () => {
  it('has examples that the package\'s types allow', { timeout: 120_000 }, () => {
    expect(examples.size).toBeGreaterThanOrEqual(12);
    const options: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts', 'lib.esnext.disposable.d.ts'],
      strict: true, noUncheckedIndexedAccess: true, noEmit: true, skipLibCheck: true, types: ['node', '@webgpu/types'],
      paths: Object.fromEntries(['', '/plan', '/run', '/operators', '/tune', '/ort'].map((entry) => [`sardonyx${entry}`, [join(root, `dist${entry || '/index'}.d.ts`)]])),
    };
    const host = ts.createCompilerHost(options);
    const { fileExists, readFile, getSourceFile } = host;
    host.fileExists = (file) => examples.has(file) || fileExists(file);
    host.readFile = (file) => examples.get(file) ?? readFile(file);
    host.getSourceFile = (file, ...more) => (examples.has(file) ? ts.createSourceFile(file, examples.get(file)!, ts.ScriptTarget.ES2022) : getSourceFile(file, ...more));
    const program = ts.createProgram([...examples.keys()], options, host);
    const wrong = [...examples.keys()].flatMap((file) => {
      const source = program.getSourceFile(file)!;
      return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map((d) => `${file.slice(root.length + 1)}:${source.getLineAndCharacterOfPosition(d.start ?? 0).line + 1} ${ts.flattenDiagnosticMessageText(d.messageText, ' ')}`);
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
    const rows = text('docs/errors.md').split('\n').filter((line) => line.startsWith('| `'));
    expect(rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map((m) => m[1]!)).sort()).toEqual([...codes].sort());
  });
  it.each(pages)('links to what is there: %s', (page) => {
    const links = [...text(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map((m) => m[1]!);
    const gone = links.filter((to) => { try { readFileSync(resolve(root, page, '..', to)); return false; } catch (e) { return (e as NodeJS.ErrnoException).code !== 'EISDIR'; } });
    expect(gone).toEqual([]);
  });
});
