/** The demos as a site: `npm run demo` serves it, `npm run demo:build` writes it to out/site. */
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join, normalize, resolve } from 'node:path';
import type { Plugin, UserConfig } from 'vite';

const root = import.meta.dirname;
const repository = resolve(root, '..');
/**
 * Models that no package brings lie beside the checkout, where they lie at all; a page without them asks for a file.
 */
const data = resolve(repository, '../shared/data');

/** The pages, as the links of every page name them. */
const PAGES = [
  ['read', 'Read'],
  ['listen', 'Listen'],
  ['write', 'Write'],
  ['inspect', 'Look inside'],
  ['tune', 'Tune'],
] as const;

/** The library as a consumer gets it: built, by the addresses that the package exports. */
function entries(): { find: RegExp; replacement: string }[] {
  const { exports } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    exports: Record<string, { default: string } | string>;
  };
  return Object.entries(exports).flatMap(([name, to]) =>
    typeof to === 'string'
      ? []
      : [{ find: new RegExp(`^sardonyx${name.slice(1)}$`), replacement: join(repository, to.default) }],
  );
}

/** Puts the header in place of `<!-- header -->`. */
const header: Plugin = {
  name: 'header',
  transformIndexHtml: (html, { path }) => {
    const home = path === '/index.html';
    const up = home ? './' : '../';
    const links = PAGES.map(
      ([folder, name]) =>
        `<a href="${up}${folder}/"${path.startsWith(`/${folder}/`) ? ' aria-current="page"' : ''}>${name}</a>`,
    );
    return html.replace(
      '<!-- header -->',
      `<a class="skip" href="#main">Skip to the demo</a>
<header><a class="brand" href="${up}"${home ? ' aria-current="page"' : ''}><span class="stone" aria-hidden="true"></span>Sardonyx</a><nav aria-label="Demos">${links.join('')}</nav></header>
<div class="bands" aria-hidden="true"></div>`,
    );
  },
};

/** Serves `/data/…` from beside the checkout. */
function serveData(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
  if (!path.startsWith('/data/')) return next();
  const file = join(data, path.slice('/data/'.length));
  if (!existsSync(file) || !statSync(file).isFile()) return void response.writeHead(404).end(`there is no ${path}`);
  createReadStream(file).pipe(
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': statSync(file).size }),
  );
}
const beside: Plugin = {
  name: 'data-beside',
  configureServer: (server) => void server.middlewares.use(serveData),
  configurePreviewServer: (server) => void server.middlewares.use(serveData),
};

/** Pages that are isolated may share memory between threads. */
const headers = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

const config: UserConfig = {
  root,
  base: './',
  appType: 'mpa',
  plugins: [header, beside],
  resolve: { alias: entries() },
  worker: { format: 'es' },
  server: { headers, fs: { strict: false } },
  preview: { headers },
  build: {
    outDir: resolve(repository, 'out/site'),
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 4000,
    assetsInlineLimit: 0,
    rolldownOptions: {
      checks: { pluginTimings: false },
      input: ['index.html', ...PAGES.map(([folder]) => `${folder}/index.html`)].map((page) => join(root, page)),
    },
  },
};

export { config as default };
