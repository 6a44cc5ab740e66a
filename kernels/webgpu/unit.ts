/** Units of movement: elements by their width, or several that always move together as one. */
import type { Elem } from '../../wgsl/assemble.ts';
import type { Call } from '../define.ts';
import type { Given } from '../given.ts';

/**
 * How shaders move units of a width: the types of bindings, text for slots, and how many units an invocation must write
 * together.
 */
export interface Unit {
  readonly types: Readonly<Record<string, Elem>>;
  readonly text: string;
  readonly PER: 1 | 4;
}

const BY_WIDTH: Readonly<Record<number, Elem>> = { 1: 'u8', 2: 'u16', 4: 'u32', 8: 'i64' };

/** Units of `width` bytes (1 to 16) in the bindings `reads` and in `y`. */
export function unitOf(width: number, reads: readonly string[] = ['x']): Unit {
  const elem = BY_WIDTH[width];
  if (elem !== undefined)
    return { types: Object.fromEntries(['y', ...reads].map((n) => [n, elem])), text: '', PER: width < 4 ? 4 : 1 };
  const text = [
    'alias Y = vec4u;',
    'alias YStore = vec4u;',
    'fn load_y(i: u32) -> vec4u { return y[i]; }',
    'fn store_y(i: u32, v: vec4u) { y[i] = v; }',
    ...reads.flatMap((n) => [
      `alias ${n[0]!.toUpperCase()}${n.slice(1)}Store = vec4u;`,
      `fn load_${n}(i: u32) -> vec4u { return ${n}[i]; }`,
    ]),
  ];
  return { types: {}, text: text.join('\n'), PER: 1 };
}

/**
 * Slot `write(q, last)` of a module that has `fn element(i: u32) -> Y`: one unit, or four neighbours where they share
 * words.
 */
export const writeSlot = (unit: Unit): string =>
  [
    unit.text,
    unit.PER === 1
      ? 'fn write(q: u32, last: u32) { store_y(q, element(q)); }'
      : 'fn write(q: u32, last: u32) { let i = q * 4u; store4_y(q, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))); }',
  ]
    .filter((t) => t !== '')
    .join('\n');

/** The widest unit, from `width` on, that divides all of `counts`, and how many elements it holds. */
export function widest(width: number, counts: readonly number[]): { width: number; times: number } {
  let times = 1;
  while (width * times < 16 && counts.every((n) => n % (times * 2) === 0)) times *= 2;
  return { width: width * times, times };
}

/**
 * Slot `index(k, dim)`: entry k of the binding `indices`, kept inside an axis of `dim`; one that was outside sets the
 * binding `fault`.
 */
export const indexSlot = (indices: Elem): string =>
  [
    'fn index(k: u32, dim: u32) -> u32 {',
    `  let v = ${indices === 'i64' ? 'saturated_i32(load_indices(k))' : 'load_indices(k)'};`,
    '  if (!index_fits(v, dim)) { atomicOr(&fault[0], 1u); }',
    '  return wrapped_index(v, dim);',
    '}',
  ].join('\n');

/** Is the value of these inputs, where given, known while planning? */
export const knows = (call: Call, ...inputs: readonly number[]): boolean =>
  inputs.every((i) => (call.inputs[i] ?? null) === null || (call.inputs[i]!.constant?.peek() ?? null) !== null);

/** What a shape function may ask of a call; values only of inputs that `knows` answers for. */
export const givenCall = <A>(call: Call<A>): Given<A> => ({
  attrs: call.attrs,
  outputs: call.outputs.length,
  count: call.inputs.length,
  has: (i) => (call.inputs[i] ?? null) !== null,
  shape: (i) => call.inputs[i]!.shape,
  dtype: (i) => call.inputs[i]!.dtype,
  value: (i) => call.inputs[i]!.constant!.peek()!,
});
