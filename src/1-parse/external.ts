import { fail } from '../core/errors.ts';
import type { External } from './proto.ts';

/** Reads `length` bytes at `offset` of the model's own file (null) or of one beside it: a safe relative path. */
export type ReadBytes = (file: string | null, offset: number, length: number) => Uint8Array | Promise<Uint8Array>;

/**
 * An external data location as a relative path that stays in the model's folder, whatever the system: segments split by
 * "/", none of them "..", empty, or spelt with characters that a file system or a URL gives another meaning. A leading
 * "./" is dropped.
 * @throws external_data_unsafe
 */
export function safePath(location: string): string {
  const refuse = (why: string): never =>
    fail(
      'external_data_unsafe',
      `external data location ${JSON.stringify(location.slice(0, 200))} ${why}; only files in the model's folder are read`,
    );
  if (location === '') refuse('is empty');
  if (location.length > 4096) refuse('is too long');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  if (/[\u0000-\u001f\u007f\ufffd]/.test(location)) refuse('has control characters');
  if (location.includes('\\')) refuse('has a backslash');
  if (location.startsWith('/')) refuse('is absolute');
  if (location.includes(':')) refuse('names a drive, a stream or a URL');
  if (/%[0-9a-f]{2}/i.test(location)) refuse('is percent-encoded');
  if (/[?#*<>|"]/.test(location)) refuse('has a character with a meaning of its own');
  const segments = location.replace(/^(?:\.\/)+/, '').split('/');
  for (const segment of segments) {
    if (segment === '') refuse('has an empty segment');
    if (/^[. ]+$/.test(segment)) refuse('leaves its folder');
    if (/[. ]$/.test(segment)) refuse('has a segment that ends in a dot or a space');
  }
  return segments.join('/');
}

const countOf = (text: string, what: string): number => {
  const n = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(n)
    ? n
    : fail('model_malformed', `external data ${what} ${JSON.stringify(text.slice(0, 40))} is not a byte count`);
};

/**
 * A TensorProto's `external_data` entries. Keys other than location, offset and length (checksum, basepath) carry
 * nothing that is read.
 */
export function externalOf(entries: ReadonlyMap<string, string>, tensor: string): External {
  const location =
    entries.get('location') ?? fail('model_malformed', `external tensor ${JSON.stringify(tensor)} has no location`);
  const offset = entries.get('offset');
  const length = entries.get('length');
  return {
    file: safePath(location),
    offset: offset === undefined ? 0 : countOf(offset, 'offset'),
    length: length === undefined ? null : countOf(length, 'length'),
  };
}
