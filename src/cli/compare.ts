import { isFloat, isInt64 } from '../core/dtype.ts';
import { numbers } from '../core/numbers.ts';
import { isTensor, type Tensor, type Value } from '../core/tensor.ts';

/** A number is right when |got - want| <= atol + rtol * |want|. */
export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
  /** `atol` counts in the largest finite magnitude of the wanted tensor. */
  readonly scaled?: boolean;
  /** Integers may be off by this much; 0 unless someone says otherwise. */
  readonly integers?: number;
}
/** Of ONNX's own cases, and of recorded models. */
export const CASE_TOLERANCE: Tolerance = { rtol: 1e-3, atol: 1e-7 };
export const MODEL_TOLERANCE: Tolerance = { rtol: 1e-3, atol: 1e-4, scaled: true };

/** The first wrong element, and how many there are. */
export interface Mismatch {
  readonly at: string;
  readonly got: string;
  readonly want: string;
  readonly wrong: number;
  readonly of: number;
}
export interface Comparison {
  readonly mismatch: Mismatch | null;
  readonly maxAbs: number;
  readonly maxRel: number;
}

const SAME: Comparison = { mismatch: null, maxAbs: 0, maxRel: 0 };
const differ = (at: string, got: string, want: string): Comparison => ({
  mismatch: { at, got, want, wrong: 1, of: 1 },
  maxAbs: Infinity,
  maxRel: Infinity,
});

/** One line: "output_0[1,2]: got 3, want 4 (5 of 6 elements wrong)". */
export const mismatchText = (m: Mismatch): string =>
  `${m.at}: got ${m.got}, want ${m.want}${m.of > 1 ? ` (${m.wrong} of ${m.of} elements wrong)` : ''}`;

/**
 * Compares values of any kind; NaN equals NaN, equal infinities are equal, integers, bools and strings must be the
 * same.
 */
export function compareValues(got: Value, want: Value, tolerance: Tolerance, at: string): Comparison {
  if (isTensor(want))
    return isTensor(got) ? compareTensors(got, want, tolerance, at) : differ(at, kindOf(got), kindOf(want));
  if (isTensor(got) || got.kind !== want.kind) return differ(at, kindOf(got), kindOf(want));
  if (want.kind === 'sequence' && got.kind === 'sequence') {
    if (got.items.length !== want.items.length)
      return differ(at, `${got.items.length} items`, `${want.items.length} items`);
    return merge(want.items.map((item, i) => compareValues(got.items[i]!, item, tolerance, `${at}{${i}}`)));
  }
  if (want.kind === 'optional' && got.kind === 'optional') {
    if (want.value === null || got.value === null)
      return want.value === got.value
        ? SAME
        : differ(at, got.value ? kindOf(got.value) : 'none', want.value ? kindOf(want.value) : 'none');
    return compareValues(got.value, want.value, tolerance, at);
  }
  if (want.kind === 'map' && got.kind === 'map') {
    if (got.keys.length !== want.keys.length || got.keys.some((key, i) => key !== want.keys[i]))
      return differ(`${at} keys`, got.keys.join(', '), want.keys.join(', '));
    return compareTensors(got.values, want.values, tolerance, at);
  }
  return differ(at, kindOf(got), kindOf(want));
}

const kindOf = (v: Value): string => (isTensor(v) ? `${v.dtype}[${v.shape}]` : v.kind);
const merge = (all: readonly Comparison[]): Comparison => ({
  mismatch: all.find((c) => c.mismatch)?.mismatch ?? null,
  maxAbs: Math.max(0, ...all.map((c) => c.maxAbs)),
  maxRel: Math.max(0, ...all.map((c) => c.maxRel)),
});

function compareTensors(got: Tensor, want: Tensor, tolerance: Tolerance, at: string): Comparison {
  if (
    got.dtype !== want.dtype ||
    got.shape.length !== want.shape.length ||
    got.shape.some((d, i) => d !== want.shape[i])
  )
    return differ(at, kindOf(got), kindOf(want));
  const exact = !isFloat(want.dtype) && !want.dtype.startsWith('complex');
  const a = read(got);
  const b = read(want);
  if (a.length !== b.length) return differ(at, `${a.length} elements`, `${b.length} elements`);
  const { rtol } = tolerance;
  const atol = exact
    ? (tolerance.integers ?? 0)
    : tolerance.scaled
      ? tolerance.atol * largest(b as ArrayLike<number>)
      : tolerance.atol;
  let first = -1;
  let wrong = 0;
  let maxAbs = 0;
  let maxRel = 0;
  for (let i = 0; i < b.length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    if (x === y || (x !== x && y !== y)) continue;
    const off =
      typeof x === 'number' && typeof y === 'number'
        ? Math.abs(x - y)
        : typeof x === 'bigint' && typeof y === 'bigint'
          ? Number(x > y ? x - y : y - x)
          : Infinity;
    const size = typeof y === 'string' ? Infinity : Math.abs(Number(y));
    if (Number.isFinite(off)) {
      maxAbs = Math.max(maxAbs, off);
      if (size > 0) maxRel = Math.max(maxRel, off / size);
    } else maxAbs = maxRel = Infinity;
    if (off <= atol + (exact ? 0 : rtol * size) && size !== Infinity) continue;
    if (first < 0) first = i;
    wrong++;
  }
  if (first < 0) return { mismatch: null, maxAbs, maxRel };
  const parts = want.dtype.startsWith('complex') ? 2 : 1;
  const index = indexOf(Math.floor(first / parts), want.shape);
  return {
    mismatch: { at: `${at}[${index}]`, got: show(a[first]!), want: show(b[first]!), wrong, of: b.length },
    maxAbs,
    maxRel,
  };
}

const read = (t: Tensor): ArrayLike<number | bigint | string> =>
  t.dtype === 'string' || isInt64(t.dtype) ? (t.data as ArrayLike<bigint | string>) : numbers(t);
const show = (x: number | bigint | string): string =>
  typeof x === 'string'
    ? JSON.stringify(x)
    : typeof x === 'number' && !Number.isInteger(x)
      ? String(Number(x.toPrecision(8)))
      : String(x);

function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++)
    if (Math.abs(values[i]!) > most && Number.isFinite(values[i])) most = Math.abs(values[i]!);
  return most;
}

/** Row-major position -> index. */
function indexOf(position: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  for (let d = shape.length - 1; d >= 0; d--) {
    index[d] = position % shape[d]!;
    position = Math.floor(position / shape[d]!);
  }
  return index;
}

/** Elements of a dtype as text, for summaries. */
export const elementsText = (t: Tensor, most: number): string => {
  const all = read(t);
  return (
    Array.from({ length: Math.min(most, all.length) }, (_, i) => show(all[i]!)).join(', ') +
    (all.length > most ? ', …' : '')
  );
};
