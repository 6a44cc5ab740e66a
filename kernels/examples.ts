/**
 * A small plausible call of every operator: what the support table probes and what tests run. Only the command and
 * tests read it.
 */
import type { DType } from '../src/core/dtype.ts';
import { fail } from '../src/core/errors.ts';
import { fromNumbers } from '../src/core/numbers.ts';
import { sizeOf, type Tensor, tensor } from '../src/core/tensor.ts';
import { ALL, type Op } from './define.ts';

/**
 * A body of a control-flow example; names that it does not define are the example's "x0", "x1", …: its inputs in order.
 */
export interface Body {
  /** NAME or NAME: TYPE SHAPE. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly nodes: readonly {
    readonly op: string;
    readonly inputs: readonly string[];
    readonly outputs: readonly string[];
    readonly attrs?: ExampleAttrs;
  }[];
}
export type ExampleAttrs = Readonly<Record<string, number | string | readonly number[] | readonly string[] | Body>>;

/**
 * One call. An input is "TYPE SHAPE HOW", for instance "T 2x3", "int64 2 = 1 0", "int32 4 < 3": TYPE is a dtype, or T
 * for each dtype of the operator's main type in turn. SHAPE is left out for a scalar. HOW: nothing for numbers made up,
 * "= a b" for a constant of these values ("=": made up), "~ a b" for these values given when running, "< n" for whole
 * numbers 0 .. n - 1 given when running. "" is an input left out. "seq: A, B" is a sequence of A and B, "opt: A" an
 * optional that holds A. A tensor attribute is written like an input.
 */
export interface Example {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attrs?: ExampleAttrs | ((dtype: DType) => ExampleAttrs);
  /** Nodes in front, for operators that speak of others. */
  readonly before?: Body['nodes'];
  /** Default 1. */
  readonly outputs?: number;
  /** Of the numbers made up; default -1 to 1, of integers -5 to 5 or 0 to 9. */
  readonly range?: readonly [low: number, high: number];
  /**
   * The key of the operator's `types` that T stands for, or the dtypes themselves. Default: the type of its first
   * input.
   */
  readonly main?: string | readonly DType[];
  /** Version of its domain; default the newest. */
  readonly opset?: number;
  /** Results are drawn at random, or come in no order: only their shapes can be compared. */
  readonly loose?: true;
}

/** The dtypes that T of an example stands for in turn. */
export function dtypesOf(example: Example, op: Op): readonly DType[] {
  if (typeof example.main === 'object') return example.main;
  const key = example.main ?? /: (.*?)[?*]?$/.exec(op.inputs[0] ?? '')?.[1] ?? '';
  const first = example.inputs
    .map((text) => /^(?:seq: |opt: )?(\w+)/.exec(text)?.[1])
    .find((word) => word !== undefined);
  if (Object.hasOwn(op.types, key)) return op.types[key]!;
  return !example.inputs.some((text) => /\bT\b/.test(text)) ? [(first as DType | undefined) ?? 'float32'] : ALL;
}

/** An input of an example, read. */
interface Given {
  readonly tensor: Tensor;
  readonly constant: boolean;
}

/** @throws option_invalid when `text` is not of the form that `Example` describes */
export function given(text: string, dtype: DType, range: Example['range'], seed: number): Given {
  const [, type, dims, how, values] =
    /^(\w+)(?: (\d+(?:x\d+)*))?(?: ([=~<]) ?(.*))?$/.exec(text) ??
    fail('option_invalid', `an example has the input ${JSON.stringify(text)}`);
  const d = type === 'T' ? dtype : (type as DType);
  const shape = dims === undefined ? [] : dims.split('x').map(Number);
  const list = values === undefined || values === '' ? null : values.split(' ');
  const n = sizeOf(shape);
  const noise = spread(n, seed);
  if (d === 'string')
    return {
      constant: how === '=',
      tensor: tensor(
        'string',
        shape,
        Array.from({ length: n }, (_, i) => list?.[i % list.length] ?? 'abc'[Math.floor(noise[i]! * 3)]!) as never,
      ),
    };
  const whole = !/^(b?float|complex)/.test(d);
  const [low, high] =
    how === '<'
      ? [0, Number(values)]
      : (range ??
        (d === 'bool'
          ? [0, 2]
          : !whole
            ? [-1, 1]
            : d.startsWith('u')
              ? [0, 10]
              : /^int[24]$/.test(d)
                ? [-2, 2]
                : [-5, 6]));
  const made = noise.map((v) => {
    const x = low! + v * (high! - low!);
    return whole || how === '<' ? Math.floor(x) : x;
  });
  const numbersOf =
    how !== '<' && list !== null ? Array.from({ length: n }, (_, i) => Number(list[i % list.length])) : made;
  if (d.startsWith('complex'))
    return {
      constant: how === '=',
      tensor: tensor(
        d,
        shape,
        Array.from({ length: 2 * n }, (_, i) => numbersOf[i >> 1]! * (i % 2 ? 0.5 : 1)),
      ),
    };
  return { constant: how === '=', tensor: fromNumbers(d, shape, numbersOf) };
}

/** Numbers in [0, 1), the same for the same seed. */
function spread(count: number, seed: number): number[] {
  let s = ((seed + 1) * 2654435761) >>> 0;
  return Array.from({ length: count }, () => (s = (Math.imul(s, 1664525) + 1013904223) >>> 0) / 2 ** 32);
}
