/** How a broadcast operand is read, given the linear index of an output element: as text that is equal for equal patterns, and numbers. */
import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { mergeDims } from '../merge.ts';
import { broadcastStrides } from '../shapes.ts';

export interface Member { readonly name: string; readonly type: 'u32' | 'i32' | 'f32'; readonly value: number }

export interface Access {
  /** Element `i` of the output itself, the one element there is, or something in between. */
  readonly kind: 'full' | 'scalar' | 'some';
  /** Its element's index, of the text of an output index. */
  readonly at: (i: string) => string;
  /** Index of the aligned four that hold the output's elements 4q .. 4q+3, in order; null where they are not four neighbours. */
  readonly four: ((q: string) => string) | null;
  /** Index of the one element for output elements 4q .. 4q+3; null where they differ. */
  readonly one: ((q: string) => string) | null;
  /** A function that `at` calls, or "". */
  readonly fn: string;
  readonly uniforms: readonly Member[];
}

/**
 * `name` prefixes the uniforms and functions. A weight that lacks the output's first axes, or has 1 there, is read with a modulo even where those of the
 * output are 1: its text is then the same for one row or image and for many.
 */
export function accessOf(name: string, { shape, constant }: Pick<Fact, 'shape' | 'constant'>, out: readonly number[]): Access {
  const size = sizeOf(shape);
  if (size === 1) return SCALAR;
  const again = constant !== undefined && (shape.length < out.length || shape[0] === 1);
  if (size === sizeOf(out) && !again) return FULL;

  const member = (what: string, value: number): Member => ({ name: `${name}_${what}`, type: 'u32', value });
  const run = runOf(shape, out);
  if (run !== null) {
    const { hold } = run, wraps = again || run.repeats, uniforms = [...(hold > 1 ? [member('hold', hold)] : []), ...(wraps ? [member('n', size)] : [])];
    const at = (i: string): string => {
      const held = hold > 1 ? `${i} / extra.${name}_hold` : i;
      return wraps ? `(${held}) % extra.${name}_n` : held;
    };
    if (hold % 4 === 0) return { kind: 'some', at, four: null, one: (q) => at(`(${q} * 4u)`), fn: '', uniforms };
    if (hold === 1 && (size % 4 === 0 || size === sizeOf(out))) return { kind: 'some', at, four: (q) => (wraps ? `${q} % ((extra.${name}_n + 3u) >> 2u)` : q), one: null, fn: '', uniforms };
    return { kind: 'some', at, four: null, one: null, fn: '', uniforms };
  }
  const { dims, strides: [strides] } = mergeDims(out, [broadcastStrides(shape, out)]) as { dims: number[]; strides: [number[]] };
  const lines = dims.map((_, k) => k).reverse().map((k) =>
    k === 0 ? `o += r * extra.${name}_s0;` : `{ let t = r / extra.${name}_d${k}; o += (r - t * extra.${name}_d${k}) * extra.${name}_s${k}; r = t; }`);
  return {
    kind: 'some', four: null, one: null, at: (i) => `at_${name}(${i})`,
    fn: `fn at_${name}(i: u32) -> u32 {\n  var r = i;\n  var o = 0u;\n  ${lines.join('\n  ')}\n  return o;\n}`,
    uniforms: [...dims.slice(1).map((d, k) => member(`d${k + 1}`, d)), ...strides.map((s, k) => member(`s${k}`, s))],
  };
}

const SCALAR: Access = { kind: 'scalar', at: () => '0u', four: null, one: () => '0u', fn: '', uniforms: [] };
const FULL: Access = { kind: 'full', at: (i) => i, four: (q) => q, one: null, fn: '', uniforms: [] };

/** Where all dims that an operand has more than 1 of are neighbours: each of its elements is `hold` of the output's in a row, and all of them repeat where there are dims before. */
function runOf(shape: readonly number[], out: readonly number[]): { readonly hold: number; readonly repeats: boolean } | null {
  const lead = out.length - shape.length, dim = (d: number): number => shape[d - lead] ?? 1;
  let first = 0, end = out.length, hold = 1, before = 1;
  while (dim(first) === 1) before *= out[first++]!;
  while (dim(end - 1) === 1) hold *= out[--end]!;
  for (let d = first; d < end; d++) if (dim(d) !== out[d]) return null;
  return { hold, repeats: before > 1 };
}
