import { inNode, nodeModule } from './worker.ts';

/** (module (func (result v128) f32x4.relaxed_madd of three zeros)): the smallest module that needs relaxed SIMD. */
const ZERO = [0xfd, 0x0c, ...new Array<number>(16).fill(0)];
const BODY = [0x00, ...ZERO, ...ZERO, ...ZERO, 0xfd, 0x85, 0x02, 0x0b];
const RELAXED = new Uint8Array([
  0,
  0x61,
  0x73,
  0x6d,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  0x60,
  0,
  1,
  0x7b,
  3,
  2,
  1,
  0,
  10,
  BODY.length + 2,
  1,
  BODY.length,
  ...BODY,
]);

/** Has the engine relaxed SIMD? SIMD128 is required. */
export const fma = (): boolean => WebAssembly.validate(RELAXED);

/**
 * Threads where nobody says how many: half of what the machine runs at once, 4 at most. Two threads of one core gain
 * nothing in products, which fill its multipliers; a phone's slow cores hold up the fast ones; and the rest of the
 * program wants to run too.
 */
export async function coresToUse(): Promise<number> {
  const cores =
    typeof navigator === 'undefined' || navigator.hardwareConcurrency === undefined
      ? await nodeCores()
      : navigator.hardwareConcurrency;
  return Math.max(1, Math.min(4, Math.floor(cores / 2)));
}
const nodeCores = async (): Promise<number> =>
  inNode
    ? (
        (await import(/* @vite-ignore */ /* webpackIgnore: true */ nodeModule('os'))) as typeof import('node:os')
      ).availableParallelism()
    : 1;
