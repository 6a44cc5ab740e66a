import { safePath } from '../1-parse/external.ts';
import { type ErrorCode, fail } from '../core/errors.ts';
import { type Bytes, ranged } from './bytes.ts';

/**
 * A module of Node's. The name is an argument so that no bundler follows the import: bundles for browsers hold this
 * file, and never run it.
 */
const builtin = <T>(name: string): Promise<T> =>
  import(/* @vite-ignore */ /* webpackIgnore: true */ name) as Promise<T>;
const files = (): Promise<typeof import('node:fs/promises')> => builtin('node:fs/promises');
const paths = (): Promise<typeof import('node:path')> => builtin('node:path');

/**
 * A file of this machine, by path or file: URL. It is opened for each read, and must stay as it is. @throws
 * source_failed
 */
export async function openFile(
  path: string,
): Promise<Bytes & { readonly beside: (location: string, missing: () => never) => Promise<Bytes> }> {
  const [{ realpath, stat }, { basename, dirname, join, sep }, { fileURLToPath }] = await Promise.all([
    files(),
    paths(),
    builtin<typeof import('node:url')>('node:url'),
  ]);
  const file = path.startsWith('file:') ? fileURLToPath(path) : path;
  const cannot = (e: Error): never => fail('source_failed', `cannot read ${file}: ${e.message}`);
  const found = await stat(file).catch(cannot);
  if (!found.isFile()) fail('source_failed', `cannot read ${file}: it is no file`);
  const folder = await realpath(dirname(file)).catch(cannot);
  return {
    ...ranged(basename(file), found.size, reader(file, found, 'source_failed', 0)),
    beside: async (location, missing) => {
      const { constants } = await files();
      const real = await realpath(join(folder, safePath(location))).catch(missing);
      if (!real.startsWith(folder.endsWith(sep) ? folder : folder + sep))
        fail('external_data_unsafe', `external data ${JSON.stringify(location)} leads out of the model's folder`);
      const at = await stat(real).catch(missing);
      if (!at.isFile() || at.nlink > 1)
        fail('external_data_unsafe', `external data ${JSON.stringify(location)} is no plain file of its own`);
      return ranged(location, at.size, reader(real, at, 'external_data_missing', constants.O_NOFOLLOW ?? 0));
    },
  };
}

type Found = { readonly size: number; readonly mtimeMs: number; readonly ino: number };
function reader(
  file: string,
  found: Found,
  code: ErrorCode,
  flags: number,
): (offset: number, length: number) => Promise<Uint8Array> {
  return async (offset, length) => {
    const { constants, open } = await files();
    const handle = await open(file, constants.O_RDONLY | flags).catch((e: Error) =>
      fail(code, `cannot read ${file}: ${e.message}`),
    );
    try {
      const now = await handle.stat();
      if (now.size !== found.size || now.mtimeMs !== found.mtimeMs || now.ino !== found.ino)
        fail(code, `${file} was changed while it was in use; load the model again`);
      const bytes = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await handle.read(bytes, at, length - at, offset + at);
        if (bytesRead === 0) return bytes.subarray(0, at);
        at += bytesRead;
      }
      return bytes;
    } finally {
      await handle.close();
    }
  };
}
