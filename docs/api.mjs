// Writes api.md from the types of the build: `npm run api`. Every export of every entry, with its contract.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

const root = resolve(import.meta.dirname, '..');
const ENTRIES = [
  [
    'sardonyx',
    'index',
    'Loads models and runs them. `sardonyx/webgpu` and `sardonyx/wasm` have the same exports, each with one device.',
  ],
  ['sardonyx/operators', 'operators'],
  ['sardonyx/plan', 'plan'],
  ['sardonyx/run', 'run'],
  ['sardonyx/tune', 'tune'],
];
const KINDS = [
  ['Classes and functions', ts.SymbolFlags.Class | ts.SymbolFlags.Function | ts.SymbolFlags.Variable],
  ['Types', ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias],
];

/** What an entry's module says of itself. */
const introOf = (file) =>
  /^(?:#!.*\n)?\/\*\*([\s\S]*?)\*\//
    .exec(readFileSync(join(root, 'src', file), 'utf8'))?.[1]
    .replace(/\n \* ?/g, ' ')
    .replace(/^\s*`[^`]*`:\s*/, '')
    .trim() ?? '';

/** A declaration with its comment, as it would be written in one file. */
function textOf(declaration) {
  const node = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  const lines = node
    .getFullText()
    .replace(/^\s*\/\/#(?:end)?region.*$/gm, '')
    .replace(/^(export )?declare /m, '')
    .replace(/^\s*readonly #\w+.*\n|^\s*#\w+.*\n|^\s*private constructor.*\n/gm, '')
    .replace(/\n{2,}/g, '\n')
    .trim();
  return lines;
}

/** The interfaces that a declaration extends. */
const basesOf = (checker, declaration) =>
  (declaration.heritageClauses ?? [])
    .flatMap((clause) => clause.types)
    .flatMap(({ expression }) => {
      const symbol = checker.getSymbolAtLocation(expression);
      const base = symbol && symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      return base?.declarations?.some(
        (d) => ts.isInterfaceDeclaration(d) && d.getSourceFile().fileName.startsWith(join(root, 'dist')),
      )
        ? [base]
        : [];
    });

/** The page. @returns {string} */
export function apiText() {
  const program = ts.createProgram(
    ENTRIES.map(([, file]) => join(root, 'dist', `${file}.d.ts`)),
    {
      target: ts.ScriptTarget.ES2022,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      module: ts.ModuleKind.ESNext,
      skipLibCheck: true,
      types: [],
    },
  );
  const checker = program.getTypeChecker();
  const told = new Map();
  const parts = ENTRIES.map(([entry, file, intro]) => {
    const symbols = checker
      .getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(join(root, 'dist', `${file}.d.ts`))))
      .map((s) => [s.name, s.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(s) : s]);
    // Options that an export inherits belong to the page, exported or not.
    const listed = new Set(symbols.map(([, s]) => s));
    for (const s of listed)
      for (const base of s.declarations.flatMap((d) => basesOf(checker, d)))
        if (!listed.has(base)) {
          listed.add(base);
          symbols.push([base.name, base]);
        }
    const again = [];
    const sections = KINDS.map(([title, flags]) => {
      const items = symbols
        .filter(([, s]) => s.flags & flags && !(title === 'Types' && s.flags & KINDS[0][1]))
        .sort(([a], [b]) => a.localeCompare(b, 'en'))
        .flatMap(([name, s]) => {
          const text = s.declarations.map(textOf).join('\n');
          if (told.get(name) === text) {
            again.push(name);
            return [];
          }
          told.set(name, text);
          return [`#### ${name}\n\n\`\`\`typescript\n${text}\n\`\`\`\n`];
        });
      return items.length > 0 ? `### ${title} of ${entry}\n\n${items.join('\n')}` : '';
    }).filter((s) => s !== '');
    return `## ${entry}\n\n${intro ?? introOf(`${file === 'tune' ? 'tune/index' : file}.ts`)}\n${again.length > 0 ? `\nAs in \`sardonyx\` or above: ${again.map((n) => `\`${n}\``).join(', ')}.\n` : ''}\n${sections.join('\n')}`;
  });
  return `# API\n\nEvery export, from the package's types (\`npm run api\` writes this page). [guide.md](guide.md) shows how they are used, [errors.md](errors.md) explains the codes of errors.\n\`sardonyx/ort\` has the exports of [onnxruntime-common](https://www.npmjs.com/package/onnxruntime-common), and all of them as its default.\n\n${parts.join('\n')}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  writeFileSync(join(import.meta.dirname, 'api.md'), apiText());
