/**
 * Elementwise arithmetic as data: one form that becomes WGSL, WebAssembly or a JavaScript function, and in which chains
 * of operators are fused. An expression is JSON.
 */
import type { DType } from '../src/core/dtype.ts';

/** The type in which an element is computed. Narrow types are widened on load and wrapped on store. */
export type Kind = 'f32' | 'f64' | 'i32' | 'u32' | 'i64' | 'u64' | 'bool';

export type Fn =
  | 'add'
  | 'sub'
  | 'mul'
  | 'div'
  | 'neg'
  | 'abs'
  | 'min'
  | 'max'
  | 'sign' // numbers; div truncates on integers; min and max propagate NaN
  | 'mod'
  | 'rem' // sign of the divisor (Python), sign of the dividend (C fmod)
  | 'pow'
  | 'sqrt'
  | 'rsqrt'
  | 'exp'
  | 'log'
  | 'floor'
  | 'ceil'
  | 'round'
  | 'trunc' // floats; round is half to even
  | 'sin'
  | 'cos'
  | 'tan'
  | 'asin'
  | 'acos'
  | 'atan'
  | 'sinh'
  | 'cosh'
  | 'tanh'
  | 'asinh'
  | 'acosh'
  | 'atanh'
  | 'erf'
  | 'sigmoid'
  | 'softplus'
  | 'and'
  | 'or'
  | 'xor'
  | 'not'
  | 'shl'
  | 'shr' // bool and integers
  | 'eq'
  | 'lt'
  | 'le'
  | 'isnan'
  | 'isinf' // to bool
  | 'select' // [condition, if true, if false]
  | 'cast' // to kind `k`: float -> integer truncates, -> bool is != 0
  | 'wrap'; // keeps the low `v` bits of an integer, sign-extended for i32: int8 and its like between fused operators

export type Ex =
  | { readonly k: Kind; readonly f: 'in'; readonly i: number }
  /**
   * Number; 64-bit integers and what JSON has no number for as text ("9007199254740993", "Infinity", "-Infinity",
   * "NaN", "-0").
   */
  | { readonly k: Kind; readonly f: 'const'; readonly v: number | string }
  | { readonly k: Kind; readonly f: Fn; readonly a: readonly Ex[]; readonly v?: number };

const KIND: Readonly<Partial<Record<DType, Kind>>> = {
  float32: 'f32',
  float16: 'f32',
  bfloat16: 'f32',
  float64: 'f64',
  int8: 'i32',
  int16: 'i32',
  int32: 'i32',
  uint8: 'u32',
  uint16: 'u32',
  uint32: 'u32',
  int64: 'i64',
  uint64: 'u64',
  bool: 'bool',
};
/** The kind in which a dtype is computed; undefined for types that have no arithmetic here. */
export const kindOf = (d: DType): Kind | undefined => KIND[d];

/** Expressions by their text: far more than the models of a page have. */
const KNOWN = new Map<string, Ex>();
const MOST = 1000;
function known(text: string, e: Ex): Ex {
  if (KNOWN.size >= MOST) KNOWN.clear();
  KNOWN.set(text, e);
  return e;
}
/** An expression in an attribute: equal texts are one object. */
export const parsed = (text: string): Ex => KNOWN.get(text) ?? known(text, JSON.parse(text) as Ex);
/** The text of an expression, which `parsed` knows then. */
export function written(e: Ex): string {
  const text = JSON.stringify(e);
  if (!KNOWN.has(text)) known(text, e);
  return text;
}

export const input = (i: number, k: Kind): Ex => ({ k, f: 'in', i });
export const constant = (v: number | bigint, k: Kind): Ex => ({
  k,
  f: 'const',
  v: typeof v === 'bigint' ? v.toString() : Object.is(v, -0) ? '-0' : Number.isFinite(v) ? v : String(v),
});
const same =
  (f: Fn) =>
  (...a: Ex[]): Ex => ({ k: a[0]!.k, f, a });
const toBool =
  (f: Fn) =>
  (...a: Ex[]): Ex => ({ k: 'bool', f, a });

export const x = {
  add: same('add'),
  sub: same('sub'),
  mul: same('mul'),
  div: same('div'),
  neg: same('neg'),
  abs: same('abs'),
  min: same('min'),
  max: same('max'),
  sign: same('sign'),
  mod: same('mod'),
  rem: same('rem'),
  pow: same('pow'),
  sqrt: same('sqrt'),
  rsqrt: same('rsqrt'),
  exp: same('exp'),
  log: same('log'),
  floor: same('floor'),
  ceil: same('ceil'),
  round: same('round'),
  trunc: same('trunc'),
  sin: same('sin'),
  cos: same('cos'),
  tan: same('tan'),
  asin: same('asin'),
  acos: same('acos'),
  atan: same('atan'),
  sinh: same('sinh'),
  cosh: same('cosh'),
  tanh: same('tanh'),
  asinh: same('asinh'),
  acosh: same('acosh'),
  atanh: same('atanh'),
  erf: same('erf'),
  sigmoid: same('sigmoid'),
  softplus: same('softplus'),
  and: same('and'),
  or: same('or'),
  xor: same('xor'),
  not: same('not'),
  shl: same('shl'),
  shr: same('shr'),
  eq: toBool('eq'),
  lt: toBool('lt'),
  le: toBool('le'),
  gt: (a: Ex, b: Ex): Ex => toBool('lt')(b, a),
  ge: (a: Ex, b: Ex): Ex => toBool('le')(b, a),
  isnan: toBool('isnan'),
  isinf: toBool('isinf'),
  select: (c: Ex, a: Ex, b: Ex): Ex => ({ k: a.k, f: 'select', a: [c, a, b] }),
  cast: (a: Ex, k: Kind): Ex => (a.k === k ? a : { k, f: 'cast', a: [a] }),
  wrap: (a: Ex, bits: number): Ex => ({ k: a.k, f: 'wrap', a: [a], v: bits }),
  /** A constant of the same kind as `like`. */
  like: (v: number, like: Ex): Ex => constant(v, like.k),
};

/** Replaces inputs: `with_[i]` takes the place of input i. */
export const substitute = (e: Ex, with_: readonly Ex[]): Ex =>
  e.f === 'in' ? (with_[e.i] ?? e) : e.f === 'const' ? e : { ...e, a: e.a.map((c) => substitute(c, with_)) };

/** Operations in the expression: what fusion limits. */
export const costOf = (e: Ex): number =>
  e.f === 'in' || e.f === 'const' ? 0 : 1 + e.a.reduce((n, c) => n + costOf(c), 0);

/** Inputs that the expression reads, ascending. */
export function inputsOf(e: Ex): number[] {
  const found = new Set<number>();
  const visit = (n: Ex): void => {
    if (n.f === 'in') found.add(n.i);
    else if (n.f !== 'const') n.a.forEach(visit);
  };
  visit(e);
  return [...found].sort((a, b) => a - b);
}
