/** Elementwise expressions (`expr.ts`) as WGSL. Functions that WGSL lacks, or has too coarsely, are in wgsl/lib. */
import { fail } from '../src/core/errors.ts';
import type { Ex, Fn, Kind } from './expr.ts';

/** The WGSL type that holds a value of each kind; f64 has none. */
export const WGSL_TYPE: Readonly<Record<Exclude<Kind, 'f64'>, string>> = {
  f32: 'f32',
  i32: 'i32',
  u32: 'u32',
  i64: 'vec2u',
  u64: 'vec2u',
  bool: 'bool',
};

/** Can the expression be computed in WGSL? Not with 64-bit floats, nor transcendental functions of integers. */
export function hasWgsl(e: Ex): boolean {
  if (e.k === 'f64') return false;
  if (e.f === 'in' || e.f === 'const') return true;
  return (
    e.a.every(hasWgsl) &&
    (e.f === 'cast' || e.f === 'select' || TEXT[e.a[0]!.k as Exclude<Kind, 'f64'>][e.f] !== undefined || e.f === 'wrap')
  );
}

/**
 * The body of a function that returns the expression: statements, then `return`. `input(i)` is the text of input i.
 * Equal subexpressions are computed once. Constants become `let`s, so that no constant expression overflows at compile
 * time.
 * @throws internal when `hasWgsl` is false
 */
export function wgslBody(e: Ex, input: (i: number) => string): string {
  const names = new Map<string, string>();
  const lines: string[] = [];
  const named = (text: string): string => {
    let name = names.get(text);
    if (name === undefined) {
      name = `t${names.size}`;
      names.set(text, name);
      lines.push(`  let ${name} = ${text};`);
    }
    return name;
  };
  const visit = (n: Ex): string => {
    if (n.f === 'in') return input(n.i);
    if (n.f === 'const') return named(literal(n.v, n.k));
    const power = n.f === 'pow' && n.k === 'f32' ? constantPower(n) : null;
    return named(power !== null ? power(visit(n.a[0]!)) : operation(n, n.a.map(visit)));
  };
  const result = visit(e);
  return [...lines, `  return ${result};`].join('\n');
}

/** A constant; NaN, infinities and -0 by their bits, at run time, because WGSL refuses them as constants. */
export function literal(v: number | string, k: Kind): string {
  switch (k) {
    case 'bool':
      return Number(v) !== 0 ? 'true' : 'false';
    case 'i32':
      return `i32(${Number(v)})`;
    case 'u32':
      return `${Number(v) >>> 0}u`;
    case 'i64':
    case 'u64': {
      const big = BigInt.asUintN(64, BigInt(v));
      return `vec2u(${big & 0xffffffffn}u, ${big >> 32n}u)`;
    }
    case 'f32': {
      const x = Math.fround(Number(v));
      if (Number.isNaN(x)) return 'from_bits(0x7fc00000u)';
      if (!Number.isFinite(x)) return `from_bits(${x > 0 ? '0x7f800000u' : '0xff800000u'})`;
      if (Object.is(x, -0)) return 'from_bits(0x80000000u)';
      return `f32(${x})`;
    }
    default:
      return fail('internal', `no WGSL constant of kind ${k}`);
  }
}

/** x², √x and their like are exact where pow is not. */
function constantPower(n: Ex & { readonly a: readonly Ex[] }): ((v: string) => string) | null {
  const by = n.a[1]!;
  if (by.f !== 'const') return null;
  switch (Number(by.v)) {
    case 1:
      return (v) => v;
    case 2:
      return (v) => `${v} * ${v}`;
    case 3:
      return (v) => `${v} * ${v} * ${v}`;
    case 4:
      return (v) => `(${v} * ${v}) * (${v} * ${v})`;
    case 0.5:
      return (v) => `nan_sqrt(${v})`;
    case -0.5:
      return (v) => `1.0 / nan_sqrt(${v})`;
    case -1:
      return (v) => `1.0 / ${v}`;
    default:
      return null;
  }
}

type Text = (a: readonly string[]) => string;
const infix =
  (op: string): Text =>
  ([a, b]) =>
    `${a} ${op} ${b}`;
const call =
  (name: string): Text =>
  (a) =>
    `${name}(${a.join(', ')})`;
const flipped =
  (name: string): Text =>
  ([a, b]) =>
    `!${name}(${b}, ${a})`;
const bitwise: Partial<Record<Fn, Text>> = { and: infix('&'), or: infix('|'), xor: infix('^'), not: ([a]) => `~${a}` };
const compare: Partial<Record<Fn, Text>> = { eq: infix('=='), lt: infix('<'), le: infix('<=') };
const never: Text = () => 'false';

/** By the kind of the first operand. */
const TEXT: Readonly<Record<Exclude<Kind, 'f64'>, Partial<Record<Fn, Text>>>> = {
  f32: {
    add: infix('+'),
    sub: infix('-'),
    mul: infix('*'),
    div: infix('/'),
    neg: ([a]) => `-${a}`,
    abs: call('abs'),
    min: call('nan_min'),
    max: call('nan_max'),
    sign: call('nan_sign'),
    mod: call('mod_f32'),
    rem: call('rem_f32'),
    pow: call('safe_pow'),
    sqrt: call('nan_sqrt'),
    rsqrt: ([a]) => `1.0 / nan_sqrt(${a})`,
    exp: call('nan_exp'),
    log: call('nan_log'),
    floor: call('floor'),
    ceil: call('ceil'),
    round: call('round'),
    trunc: call('trunc'),
    sin: call('safe_sin'),
    cos: call('safe_cos'),
    tan: call('safe_tan'),
    asin: call('safe_asin'),
    acos: call('safe_acos'),
    atan: call('safe_atan'),
    sinh: call('safe_sinh'),
    cosh: call('safe_cosh'),
    tanh: call('safe_tanh'),
    asinh: call('safe_asinh'),
    acosh: call('safe_acosh'),
    atanh: call('safe_atanh'),
    erf: call('erf'),
    sigmoid: call('sigmoid'),
    softplus: call('softplus'),
    ...compare,
    isnan: call('is_nan'),
    isinf: call('is_inf'),
  },
  i32: {
    add: infix('+'),
    sub: infix('-'),
    mul: infix('*'),
    div: infix('/'),
    neg: ([a]) => `-${a}`,
    abs: call('abs'),
    min: call('min'),
    max: call('max'),
    sign: call('sign'),
    mod: call('mod_i32'),
    rem: infix('%'),
    pow: call('pow_i32'),
    ...bitwise,
    ...compare,
    isnan: never,
    isinf: never,
    shl: ([a, b]) => `bitcast<i32>(shl_u32(bitcast<u32>(${a}), bitcast<u32>(${b})))`,
    shr: call('shr_i32'),
  },
  u32: {
    add: infix('+'),
    sub: infix('-'),
    mul: infix('*'),
    div: infix('/'),
    neg: ([a]) => `0u - ${a}`,
    abs: ([a]) => a!,
    min: call('min'),
    max: call('max'),
    sign: ([a]) => `min(${a}, 1u)`,
    mod: infix('%'),
    rem: infix('%'),
    pow: call('pow_u32'),
    ...bitwise,
    ...compare,
    isnan: never,
    isinf: never,
    shl: call('shl_u32'),
    shr: call('shr_u32'),
  },
  i64: {
    add: call('add_i64'),
    sub: call('sub_i64'),
    mul: call('mul_i64'),
    div: call('div_i64'),
    neg: call('neg_i64'),
    abs: call('abs_i64'),
    min: call('min_i64'),
    max: call('max_i64'),
    sign: call('sign_i64'),
    mod: call('mod_i64'),
    rem: call('rem_i64'),
    pow: call('pow_i64'),
    ...bitwise,
    eq: call('eq_i64'),
    lt: call('lt_i64'),
    le: flipped('lt_i64'),
    isnan: never,
    isinf: never,
    shl: call('shl_u64'),
    shr: call('shr_i64'),
  },
  u64: {
    add: call('add_i64'),
    sub: call('sub_i64'),
    mul: call('mul_i64'),
    div: call('div_u64'),
    neg: call('neg_i64'),
    abs: ([a]) => a!,
    min: call('min_u64'),
    max: call('max_u64'),
    sign: ([a]) => `vec2u(min(${a}.x | ${a}.y, 1u), 0u)`,
    mod: call('rem_u64'),
    rem: call('rem_u64'),
    pow: call('pow_u64'),
    ...bitwise,
    eq: call('eq_i64'),
    lt: call('lt_u64'),
    le: flipped('lt_u64'),
    isnan: never,
    isinf: never,
    shl: call('shl_u64'),
    shr: call('shr_u64'),
  },
  bool: {
    and: infix('&'),
    or: infix('|'),
    xor: infix('!='),
    not: ([a]) => `!${a}`,
    eq: infix('=='),
    lt: ([a, b]) => `!${a} & ${b}`,
    le: ([a, b]) => `!${a} | ${b}`,
  },
};

/** One operation on operands that are names. */
function operation(n: Ex & { readonly f: Fn }, a: readonly string[]): string {
  if (n.f === 'select') return `select(${a[2]}, ${a[1]}, ${a[0]})`;
  if (n.f === 'cast') return cast(a[0]!, n.a[0]!.k, n.k);
  if (n.f === 'wrap') {
    const bits = n.v ?? 32;
    if (n.k !== 'i32' && n.k !== 'u32') return fail('internal', `wrap of kind ${n.k}`);
    return `extractBits(${a[0]}, 0u, ${bits}u)`;
  }
  const text = n.a[0]!.k === 'f64' ? undefined : TEXT[n.a[0]!.k][n.f];
  return text === undefined ? fail('internal', `no WGSL for ${n.f} on ${n.a[0]!.k}`) : text(a);
}

function cast(v: string, from: Kind, to: Kind): string {
  if (from === to) return v;
  const wide = (k: Kind): boolean => k === 'i64' || k === 'u64';
  if (to === 'bool')
    return from === 'f32'
      ? `is_nonzero(${v})`
      : wide(from)
        ? `(${v}.x | ${v}.y) != 0u`
        : from === 'u32'
          ? `${v} != 0u`
          : `${v} != 0`;
  if (from === 'bool')
    return wide(to)
      ? `vec2u(select(0u, 1u, ${v}), 0u)`
      : to === 'f32'
        ? `select(0.0, 1.0, ${v})`
        : to === 'u32'
          ? `select(0u, 1u, ${v})`
          : `select(0i, 1i, ${v})`;
  if (wide(from)) {
    if (wide(to)) return v;
    return to === 'f32' ? `f32_of_${from}(${v})` : to === 'u32' ? `${v}.x` : `bitcast<i32>(${v}.x)`;
  }
  if (wide(to))
    return from === 'f32'
      ? to === 'i64'
        ? `i64_of_f32(${v})`
        : `wrapping_u64_of_f32(${v})`
      : from === 'u32'
        ? `vec2u(${v}, 0u)`
        : `i64_of_i32(${v})`;
  if (to === 'f32') return `f32(${v})`;
  if (from === 'f32') return to === 'u32' ? `truncated_u32(${v})` : `truncated_i32(${v})`;
  return to === 'u32' ? `bitcast<u32>(${v})` : `bitcast<i32>(${v})`;
}
