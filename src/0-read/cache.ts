/** Where models are kept between visits. */
import { fail } from '../core/errors.ts';

/** Keeps models by their URL, one version of each. */
export interface ModelCache {
  /** The model kept for the URL, if it is this version; `version` null: whichever (there is no network). */
  get(url: string, version: string | null): Promise<Blob | null>;
  /**
   * Keeps a model that streams by, in place of any other version of it; only a stream that came to its end may be found
   * by `get`.
   */
  put(url: string, version: string, model: ReadableStream<Uint8Array>): Promise<void>;
  delete(url: string): Promise<void>;
}

const NAME = 'sardonyx-models';
const VERSION = 'x-model-version';

/** A cache by its name, or the caller's. */
export type CacheChoice = 'cache-api' | 'opfs' | ModelCache;
/** @throws option_invalid */
export function cacheOf(choice: CacheChoice): ModelCache {
  if (typeof choice === 'object') return choice;
  if (choice === 'cache-api') return cacheApi;
  if (choice === 'opfs') return opfs;
  return fail(
    'option_invalid',
    `cache is 'cache-api', 'opfs', false or a store of your own, not ${JSON.stringify(choice)}`,
  );
}

/** https://w3c.github.io/ServiceWorker/#cache-interface */
const cacheApi: ModelCache = {
  async get(url, version) {
    const found = await (await caches.open(NAME)).match(url);
    return found && (version === null || found.headers.get(VERSION) === encodeURIComponent(version))
      ? found.blob()
      : null;
  },
  put: async (url, version, model) =>
    (await caches.open(NAME)).put(
      url,
      new Response(model, {
        headers: { [VERSION]: encodeURIComponent(version), 'content-type': 'application/octet-stream' },
      }),
    ),
  delete: async (url) => {
    await (await caches.open(NAME)).delete(url);
  },
};

/**
 * The origin's private file system: a file for each model, and one beside it that names its version once it is whole.
 * https://fs.spec.whatwg.org/
 */
const opfs: ModelCache = {
  async get(url, version) {
    const folder = await opfsFolder();
    const name = await fileNameOf(url);
    try {
      const kept = await (await (await folder.getFileHandle(`${name}.version`)).getFile()).text();
      return version === null || kept === version ? await (await folder.getFileHandle(name)).getFile() : null;
    } catch (e) {
      if ((e as Error).name === 'NotFoundError') return null;
      throw e;
    }
  },
  async put(url, version, model) {
    const folder = await opfsFolder();
    const name = await fileNameOf(url);
    await folder.removeEntry(`${name}.version`).catch(() => undefined);
    await model.pipeTo(await (await folder.getFileHandle(name, { create: true })).createWritable());
    const mark = await (await folder.getFileHandle(`${name}.version`, { create: true })).createWritable();
    await mark.write(version);
    await mark.close();
  },
  async delete(url) {
    const folder = await opfsFolder();
    const name = await fileNameOf(url);
    for (const file of [`${name}.version`, name]) await folder.removeEntry(file).catch(() => undefined);
  },
};
const opfsFolder = async (): Promise<FileSystemDirectoryHandle> =>
  (await navigator.storage.getDirectory()).getDirectoryHandle(NAME, { create: true });
async function fileNameOf(url: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(url)));
  return Array.from(digest.subarray(0, 16), (b) => b.toString(16).padStart(2, '0')).join('');
}
