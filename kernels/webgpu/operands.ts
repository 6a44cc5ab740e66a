/**
 * How a broadcast operand is read, given the linear index of an output element: as text that is equal for equal
 * patterns, and numbers.
 */
import type { Fact } from '../../src/core/graph.ts';
import { numbers } from '../../src/core/numbers.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { remembered } from '../remembered.ts';

export interface Member {
  readonly name: string;
  readonly type: 'u32' | 'i32' | 'f32';
  readonly value: number;
}

export interface Access {
  /** Element `i` of the output itself, the one element there is, or something in between. */
  readonly kind: 'full' | 'scalar' | 'some';
  /** Its element's index, of the text of an output index. */
  readonly at: (i: string) => string;
  /** What the output's aligned fours read are aligned fours themselves, in order. */
  readonly four: boolean;
  /** They are one element each. */
  readonly one: boolean;
  /** A function that `at` calls, or "". */
  readonly fn: string;
  readonly uniforms: readonly Member[];
}

const SCALAR: Access = { kind: 'scalar', at: () => '0u', four: false, one: true, fn: '', uniforms: [] };
const FULL: Access = { kind: 'full', at: (i) => i, four: true, one: false, fn: '', uniforms: [] };

/** A number that the planner knows: it is a uniform, and takes no binding. */
export const isNumber = ({ dtype, shape, constant }: Fact): boolean =>
  dtype === 'float32' && constant !== undefined && sizeOf(shape) === 1 && constant.peek() !== null;
export const numberOf = (name: string, { constant }: Fact): Member => ({
  name,
  type: 'f32',
  value: numbers(constant!.peek()!)[0]!,
});

/**
 * `name` prefixes the uniforms and functions. The text is that of a batch even where it is one of 1: an input with 1 as its first dim is read as if both it
 * and the output had more there, a weight that lacks the output's first axes, or has 1 there, as one that repeats. With
 * `alike` it also does not depend on what four divides, nor on whether a weight has entries of its own for those of a
 * batch.
 */
export function accessOf(
  name: string,
  { shape, constant }: Pick<Fact, 'shape' | 'constant'>,
  out: readonly number[],
  alike = false,
): Access {
  const size = sizeOf(shape);
  const lead = out.length - shape.length;
  const fixed = constant !== undefined;
  const first = lead === 0 && shape[0] === 1;
  const batch = first && !fixed && out[0] === 1;
  if (size === 1 && !batch) return SCALAR;
  const apart = alike && fixed && lead === 0;
  if (size === sizeOf(out) && !apart && !(fixed && (lead > 0 || first))) return FULL;

  // From the innermost dim on; neighbours over which it moves evenly are one.
  const dims: number[] = [];
  const steps: number[] = [];
  for (let d = out.length - 1, n = 1; d >= 0; d--) {
    const own = shape[d - lead] ?? 1;
    const step = own > 1 || (d === 0 && batch) ? n : 0;
    const top = dims.length - 1;
    n *= own;
    if (d > 0 && out[d] === 1) continue;
    if (top >= 0 && step === steps[top]! * dims[top]! && (d > 0 || !apart)) dims[top]! *= out[d]!;
    else {
      dims.push(out[d]!);
      steps.push(step);
    }
  }
  const uniforms: Member[] = [];
  const moved = steps.findIndex((s) => s !== 0);
  const last = dims.length - 1;
  let moves = '';
  for (let k = 0; k <= last; k++) {
    const strided = (k > moved && steps[k] !== 0) || (k === last && apart);
    moves += strided ? 's' : k === moved ? '1' : '0';
    if (k < last) uniforms.push({ name: `${name}_d${k}`, type: 'u32', value: dims[k]! });
    if (strided) uniforms.push({ name: `${name}_s${k}`, type: 'u32', value: steps[k]! });
  }
  const whole = !alike && dims[0]! % 4 === 0;
  return {
    kind: 'some',
    at: (i) => `at_${name}(${i})`,
    four: whole && moved === 0 && steps.every((s, k) => k === 0 || s % 4 === 0),
    one: whole && moved !== 0,
    fn: walkText(name, moves),
    uniforms,
  };
}

/**
 * `fn at_NAME(i)` of a walk from the innermost dim on, over each of which it stays (0), goes on by elements (1) or by a
 * stride (s).
 */
const walkText = remembered((name: string, moves: string): string => {
  const lines: string[] = [];
  const terms: string[] = [];
  let rest = 'i';
  for (let k = 0; k < moves.length; k++) {
    const times = moves[k] === 's' ? ` * extra.${name}_s${k}` : '';
    const dim = `extra.${name}_d${k}`;
    const outer = k === moves.length - 1;
    if (!outer) lines.push(`let r${k} = ${rest} / ${dim};`);
    if (moves[k] !== '0') terms.push(`${outer ? rest : `(${rest} - r${k} * ${dim})`}${times}`);
    rest = `r${k}`;
  }
  return `fn at_${name}(i: u32) -> u32 { ${lines.join(' ')} return ${terms.join(' + ')}; }`;
});
