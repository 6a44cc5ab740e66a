/**
 * The 512 tokens of the stories260K model (Andrej Karpathy's tinyllamas, MIT): three marks, the 256 bytes, and 253
 * pieces, the earlier the sooner merged.
 */
import pieces from './pieces.json';

export const START = 1;
export const END = 2;
const BYTES = 3;
const PIECES = BYTES + 256;
export const VOCABULARY = PIECES + pieces.length;

const idOf = new Map(pieces.map((piece, i) => [piece, PIECES + i]));
const utf8 = new TextEncoder();

/** Tokens of a text, the start mark first: letters, then byte-pair merges of the earliest piece until none is left. */
export function encode(text: string): number[] {
  const ids = [...(text === '' ? '' : ` ${text}`)].flatMap((letter) => {
    const id = idOf.get(letter);
    return id === undefined ? Array.from(utf8.encode(letter), (byte) => BYTES + byte) : [id];
  });
  for (;;) {
    let best = { at: -1, id: Infinity };
    for (let i = 0; i + 1 < ids.length; i++) {
      const id = idOf.get((pieces[ids[i]! - PIECES] ?? '\0') + (pieces[ids[i + 1]! - PIECES] ?? '\0'));
      if (id !== undefined && id < best.id) best = { at: i, id };
    }
    if (best.at < 0) return [START, ...ids];
    ids.splice(best.at, 2, best.id);
  }
}

/** Makes a function that turns tokens into text, one after another: bytes wait until they are a letter. */
export function decoder(): (id: number) => string {
  const bytes = new TextDecoder();
  let first = true;
  return (id) => {
    if (id < BYTES) return '';
    const text = id < PIECES ? bytes.decode(Uint8Array.of(id - BYTES), { stream: true }) : pieces[id - PIECES]!;
    const shown = first ? text.replace(/^ /, '') : text;
    first = false;
    return shown;
  };
}
