/**
 * SHA-256 of what streams by (FIPS 180-4), and Subresource Integrity's form of it: Web Crypto hashes only what is in
 * memory as a whole.
 */
import { fail } from '../core/errors.ts';

/** The first 32 bits of the fractional parts of the n-th roots of the first primes. */
function roots(count: number, root: number): Uint32Array {
  const out = new Uint32Array(count);
  for (let n = 2, i = 0; i < count; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) prime = false;
    if (prime) out[i++] = fraction(n, root);
  }
  return out;
}
/** floor(2^32 · frac(n^(1/root))), exactly: the greatest r with r^root ≤ n · 2^(32·root). */
function fraction(n: number, root: number): number {
  const power = BigInt(n) << BigInt(32 * root);
  let r = 0n;
  for (let bit = 1n << 40n; bit > 0n; bit >>= 1n) if ((r + bit) ** BigInt(root) <= power) r += bit;
  return Number(r & 0xffffffffn);
}

/** A hash of bytes given bit by bit; `digest` ends it. */
interface Hash {
  update(bytes: Uint8Array): void;
  digest(): Uint8Array;
}

let table: Uint32Array | null = null;

export function sha256(): Hash {
  const K = (table ??= roots(64, 3));
  const H = roots(8, 2);
  const w = new Int32Array(64);
  const block = new Uint8Array(64);
  let held = 0;
  let total = 0;
  const compress = (bytes: Uint8Array, at: number): void => {
    for (let i = 0; i < 16; i++, at += 4)
      w[i] = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!;
      const y = w[i - 2]!;
      w[i] =
        w[i - 16]! +
        w[i - 7]! +
        (((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)) +
        (((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = H as unknown as [number, number, number, number, number, number, number, number];
    for (let i = 0; i < 64; i++) {
      const s =
        (h +
          (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) +
          ((e & f) ^ (~e & g)) +
          K[i]! +
          w[i]!) |
        0;
      const t =
        ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) +
          ((a & b) ^ (a & c) ^ (b & c))) |
        0;
      h = g;
      g = f;
      f = e;
      e = (d + s) | 0;
      d = c;
      c = b;
      b = a;
      a = (s + t) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((v, i) => {
      H[i] = H[i]! + v;
    });
  };
  const update = (bytes: Uint8Array): void => {
    let at = 0;
    total += bytes.length;
    while (at < bytes.length) {
      if (held === 0) for (; at + 64 <= bytes.length; at += 64) compress(bytes, at);
      const part = bytes.subarray(at, at + 64 - held);
      block.set(part, held);
      held += part.length;
      at += part.length;
      if (held === 64) {
        compress(block, 0);
        held = 0;
      }
    }
  };
  return {
    update,
    digest() {
      const bits = total * 8;
      const tail = new Uint8Array(((119 - (total % 64)) % 64) + 9);
      tail[0] = 0x80;
      const view = new DataView(tail.buffer);
      view.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32));
      view.setUint32(tail.length - 4, bits >>> 0);
      update(tail);
      const out = new DataView(new ArrayBuffer(32));
      H.forEach((v, i) => out.setUint32(4 * i, v));
      return new Uint8Array(out.buffer);
    },
  };
}

/** The digests of which one must be met. https://www.w3.org/TR/SRI/ @throws option_invalid */
export function expectedDigests(integrity: string): readonly string[] {
  const digests = integrity
    .trim()
    .split(/\s+/)
    .map((part) => /^sha256-([A-Za-z0-9+/]{43}=)(?:\?.*)?$/.exec(part)?.[1] ?? null);
  return digests.every((d) => d !== null)
    ? (digests as string[])
    : fail(
        'option_invalid',
        `integrity ${JSON.stringify(integrity)} is no list of "sha256-" and 44 characters of base64`,
      );
}

/** @throws integrity_mismatch */
function checkDigest(name: string, digest: Uint8Array, expected: readonly string[]): void {
  const got = btoa(String.fromCharCode(...digest));
  if (!expected.includes(got))
    fail(
      'integrity_mismatch',
      `${name} has the SHA-256 digest ${got}, not ${expected.join(' or ')}: it is another version, or was changed on its way`,
    );
}

/** What the bytes of a model must be. */
export interface Expected {
  /** The same chunks; after the last of them the digest is checked. @throws integrity_mismatch */
  stream(name: string, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array>;
  /** @throws integrity_mismatch */
  whole(name: string, bytes: Uint8Array): Promise<void>;
}

/** @throws option_invalid */
export function expectedOf(integrity: string): Expected {
  const expected = expectedDigests(integrity);
  async function* stream(name: string, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const hash = sha256();
    for await (const chunk of chunks) {
      hash.update(chunk);
      yield chunk;
    }
    checkDigest(name, hash.digest(), expected);
  }
  return { stream, whole: async (name, bytes) => checkDigest(name, await digestOf(bytes), expected) };
}

/** Web Crypto's where there is one: it does not hold up the page. */
async function digestOf(bytes: Uint8Array): Promise<Uint8Array> {
  if (globalThis.crypto?.subtle)
    return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
  const hash = sha256();
  hash.update(bytes);
  return hash.digest();
}
