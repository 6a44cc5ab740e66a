/** Reductions over axes. */
import { BITS } from '../../src/core/dtype.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { reduceGroup, reduceLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { literal, WGSL_TYPE, wgslBody } from '../expr-to-wgsl.ts';
import { constant, type Ex, input, type Kind, kindOf, x } from '../expr.ts';
import { mergeDims } from '../merge.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid, groups } from './grid.ts';
import { mapLaunch } from './map.ts';

export type Number = Exclude<Kind, 'f64' | 'bool'>;
export type Reduction = 'Sum' | 'Mean' | 'Max' | 'Min' | 'Prod' | 'L1' | 'L2' | 'SumSquare' | 'LogSum' | 'LogSumExp';

/**
 * A reduction as text: type A of what is merged, and the functions on it. `part`: the functions of a second pass over
 * what the first left.
 */
export interface Steps {
  readonly A: string;
  readonly first: string;
  readonly pre: string;
  readonly merge: string;
  readonly post: string;
  readonly Y: string;
}

export const body = (head: string, e: Ex, names: readonly string[]): string =>
  `fn ${head} {\n${wgslBody(e, (i) => names[i]!)}\n}`;

export function stepsOf(op: Reduction, kind: Number, n: number, least: Ex, greatest: Ex): Steps {
  const T = WGSL_TYPE[kind];
  const [a, b] = [input(0, kind), input(1, kind)];
  const value = (e: Ex): string => body(`pre(v: ${T}, k: u32) -> ${T}`, e, ['v']);
  const merged = (e: Ex): string => body(`merge(a: ${T}, b: ${T}) -> ${T}`, e, ['a', 'b']);
  const last = (e: Ex): string => body(`post(a: ${T}) -> ${T}`, e, ['a']);
  const begin = (e: Ex): string => body(`first() -> ${T}`, e, []);
  const zero = begin(x.like(0, a));
  const own = { A: T, Y: T };
  switch (op) {
    case 'Sum':
      return { ...own, first: zero, pre: value(a), merge: merged(x.add(a, b)), post: last(a) };
    case 'Mean':
      return {
        ...own,
        first: zero,
        pre: value(a),
        merge: merged(x.add(a, b)),
        post: n === 0 ? last(constant(NaN, kind)) : `fn post(a: ${T}) -> ${T} { return a / f32(u.n); }`,
      };
    case 'Prod':
      return { ...own, first: begin(x.like(1, a)), pre: value(a), merge: merged(x.mul(a, b)), post: last(a) };
    case 'Max':
      return { ...own, first: begin(least), pre: value(a), merge: merged(x.max(a, b)), post: last(a) };
    case 'Min':
      return { ...own, first: begin(greatest), pre: value(a), merge: merged(x.min(a, b)), post: last(a) };
    case 'L1':
      return { ...own, first: zero, pre: value(x.abs(a)), merge: merged(x.add(a, b)), post: last(a) };
    case 'L2':
      return { ...own, first: zero, pre: value(x.mul(a, a)), merge: merged(x.add(a, b)), post: last(x.sqrt(a)) };
    case 'SumSquare':
      return { ...own, first: zero, pre: value(x.mul(a, a)), merge: merged(x.add(a, b)), post: last(a) };
    case 'LogSum':
      return { ...own, first: zero, pre: value(a), merge: merged(x.add(a, b)), post: last(x.log(a)) };
    case 'LogSumExp':
      return {
        A: 'vec2f',
        Y: T,
        first: 'fn first() -> vec2f { return vec2f(LOWEST_F32, 0.0); }',
        pre: 'fn pre(v: f32, k: u32) -> vec2f { return vec2f(v, 1.0); }',
        merge: 'fn merge(a: vec2f, b: vec2f) -> vec2f { return merge_exponentials(a, b); }',
        post: 'fn post(a: vec2f) -> f32 { return select(a.x + nan_log(a.y), from_bits(0xff800000u), a.y == 0.0); }',
      };
  }
}
const ONLY_FLOATS: ReadonlySet<Reduction> = new Set(['Mean', 'L2', 'LogSum', 'LogSumExp']);

/** The elements that a call reduces: dims and strides of what stays and of what goes, merged, innermost last. */
export interface Space {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly depths: readonly number[];
  readonly steps: readonly number[];
  readonly n: number;
  readonly count: number;
}
export function spaceOf(shape: readonly number[], axes: readonly number[]): Space {
  const strides = stridesOf(shape);
  const pick = (inside: boolean): { shape: number[]; strides: number[] } => {
    const dims = shape.map((_, i) => i).filter((i) => axes.includes(i) === inside);
    const m = mergeDims(
      dims.map((i) => shape[i]!),
      [dims.map((i) => strides[i]!)],
      dims[0] === 0,
    );
    return { shape: m.dims, strides: m.strides[0]! };
  };
  const [kept, gone] = [pick(false), pick(true)];
  return {
    shape: kept.shape,
    strides: kept.strides,
    depths: gone.shape,
    steps: gone.strides,
    n: sizeOf(gone.shape),
    count: sizeOf(kept.shape),
  };
}

/**
 * How the work is divided: a workgroup (of `width` invocations, if said) or an invocation an element, each in `parts`
 * that a second dispatch merges.
 */
export interface Division {
  readonly group: boolean;
  readonly parts: number;
  readonly width?: number | undefined;
}
/** What the tuner may try: invocations an element, and, where two dispatches may merge, parts that it has. */
export const WIDTHS = { WG: [1, 64, 128, 256] };
const SHARES = { ...WIDTHS, PARTS: [1, 8, 64] };
/** As tuned, or else as the regime of the space has it. All elements have no more than 2^18 parts between them. */
export function divide(s: Space, caps: GpuCaps, { WG, PARTS }: Readonly<Record<string, number>>): Division {
  const own = regimeOf(s, caps);
  return {
    group: WG ? WG > 1 : own.group,
    parts: PARTS ? Math.max(1, Math.min(PARTS, s.n, 2 ** 18 / s.count) | 0) : own.parts,
    width: WG,
  };
}
/**
 * Long rows by workgroups, in parts where they are few; columns and short rows by invocations, in parts where they are
 * few and long.
 */
function regimeOf(s: Space, caps: GpuCaps): Division {
  if (caps.software) return { group: false, parts: 1 };
  const rows = (s.steps.at(-1) ?? 0) === 1;
  if (rows && s.n > 32 && !(s.n <= 128 && s.count >= 16384))
    return { group: true, parts: s.count < 64 && s.n > 16384 ? Math.min(256, Math.ceil(s.n / 8192)) : 1 };
  return {
    group: false,
    parts: s.count < 4096 && s.n > 512 ? Math.min(Math.ceil(s.n / 64), Math.ceil(16384 / s.count), 256) : 1,
  };
}

const reversed = (list: readonly number[]): number[] => (list.length === 0 ? [0] : [...list].reverse());
export const WG = 64;
const pow2 = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));

export function launchOf(
  s: Space,
  d: Division,
  steps: Steps,
  types: { readonly x: Elem; readonly y: Elem },
  packed: boolean,
  from: Ref,
  to: Ref,
  caps: GpuCaps,
): Launch {
  const count = s.count * d.parts;
  const chunk = Math.max(1, Math.ceil(s.n / d.parts));
  const uniforms = {
    count,
    n: s.n,
    parts: d.parts,
    chunk,
    dims: reversed(s.shape),
    strides: reversed(s.strides),
    depths: reversed(s.depths),
    steps: reversed(s.steps),
  };
  const params = { RANK: s.shape.length, DEPTH: Math.max(1, s.depths.length) };
  const slots = {
    first: `alias A = ${steps.A};\n${steps.first}`,
    pre: steps.pre,
    merge: steps.merge,
    post: steps.post,
  };
  if (d.group) {
    const size = d.width ?? Math.min(256, caps.limits.maxComputeInvocationsPerWorkgroup, Math.max(32, pow2(chunk / 4)));
    return {
      module: reduceGroup,
      types,
      params: { ...params, WG: size },
      uniforms,
      slots,
      workgroups: groups(count),
      bind: [from, to],
    };
  }
  const PER = packed ? 4 : 1;
  const write = packed
    ? 'fn write(q: u32, last: u32) { let i = q * 4u; store4_y(q, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))); }'
    : 'fn write(q: u32, last: u32) { store_y(q, element(q)); }';
  return {
    module: reduceLane,
    types,
    params: { ...params, WG, PER },
    uniforms,
    slots: { ...slots, write },
    workgroups: grid(Math.ceil(count / PER), WG),
    bind: [from, to],
  };
}

export const WIDE: Readonly<Record<Number, Elem>> = { f32: 'f32', i32: 'i32', u32: 'u32', i64: 'i64', u64: 'u64' };
export const WIDE_DTYPE = { f32: 'float32', i32: 'int32', u32: 'uint32', i64: 'int64', u64: 'uint64' } as const;
/** Kind in which a dtype is reduced: bools as numbers 0 and 1. */
export const reducible = (call: Call): Number | null => {
  const { dtype } = call.inputs[0]!;
  const kind = dtype === 'bool' ? 'u32' : kindOf(dtype);
  return kind === undefined || kind === 'f64' || kind === 'bool' || elemOf(dtype) === undefined ? null : kind;
};
export const storage = (dtype: Call['inputs'][0] & object): Elem =>
  dtype.dtype === 'bool' ? 'u8' : elemOf(dtype.dtype)!;

/** Of nothing, the greatest is the least that the type has, and the least the greatest. */
function ends(call: Call, kind: Number): { least: Ex; greatest: Ex } {
  const { dtype } = call.inputs[0]!;
  if (kind === 'f32') return { least: constant(-Infinity, kind), greatest: constant(Infinity, kind) };
  const bits = dtype === 'bool' ? 1n : BigInt(BITS[dtype]);
  const signed = kind === 'i32' || kind === 'i64';
  return {
    least: constant(signed ? -(2n ** (bits - 1n)) : 0n, kind),
    greatest: constant(signed ? 2n ** (bits - 1n) - 1n : 2n ** bits - 1n, kind),
  };
}

/** A Reduce… operator; `axesOf` gives the axes of a call, null while they are not known. */
export const reduceKernel = (op: Reduction, axesOf: (call: Call) => readonly number[] | null): GpuKernel => {
  const planOf = (
    call: Call,
    caps: GpuCaps,
    tuned: Readonly<Record<string, number>>,
  ): { s: Space; d: Division; kind: Number; packed: boolean } => {
    const s = spaceOf(call.inputs[0]!.shape, axesOf(call)!);
    const d = divide(s, caps, tuned);
    return {
      s,
      d: op === 'LogSumExp' ? { ...d, parts: 1 } : d,
      kind: reducible(call)!,
      packed: isPacked(storage(call.outputs[0]!), caps),
    };
  };
  /** Bytes of what the first of two dispatches leaves: parts, or words that are narrowed afterwards. */
  const between = ({ s, d, kind, packed }: ReturnType<typeof planOf>): number[] => {
    const width = kind === 'i64' || kind === 'u64' ? 8 : 4;
    return d.parts > 1 ? [s.count * d.parts * width] : d.group && packed ? [s.count * width] : [];
  };
  return {
    name: `reduce.${op.toLowerCase()}`,
    accepts: (call) => {
      const axes = axesOf(call);
      const kind = reducible(call);
      if (axes === null || kind === null || (ONLY_FLOATS.has(op) && kind !== 'f32')) return false;
      const s = spaceOf(call.inputs[0]!.shape, axes);
      return s.shape.length <= 8 && s.depths.length <= 8;
    },
    tunables: op === 'LogSumExp' ? WIDTHS : SHARES,
    scratch: (call, caps, tuned) => between(planOf(call, caps, tuned)),
    launch: (call, caps, tuned) => {
      const p = planOf(call, caps, tuned);
      const { s, d, kind, packed } = p;
      const { least, greatest } = ends(call, kind);
      const all = stepsOf(op, kind, s.n, least, greatest);
      const [from, to] = [storage(call.inputs[0]!), storage(call.outputs[0]!)];
      if (between(p).length === 0)
        return launchOf(s, d, all, { x: from, y: to }, packed, { input: 0 }, { output: 0 }, caps);
      const keep = `fn post(a: ${all.A}) -> ${all.A} { return a; }`;
      if (d.parts === 1) {
        const out = call.outputs[0]!;
        const narrow = out.dtype === 'bool' ? x.cast(input(0, 'u32'), 'bool') : input(0, kind);
        return [
          launchOf(s, d, all, { x: from, y: WIDE[kind] }, false, { input: 0 }, { scratch: 0 }, caps),
          mapLaunch(narrow, out, { output: 0 }, [
            { fact: { dtype: WIDE_DTYPE[kind], shape: out.shape }, bind: { scratch: 0 } },
          ]),
        ];
      }
      const second: Space = {
        shape: s.count === 1 ? [] : [s.count],
        strides: s.count === 1 ? [] : [d.parts],
        depths: [d.parts],
        steps: [1],
        n: d.parts,
        count: s.count,
      };
      const whole = op === 'Mean' ? `fn post(a: f32) -> f32 { return a / ${literal(s.n, 'f32')}; }` : all.post;
      return [
        launchOf(s, d, { ...all, post: keep }, { x: from, y: WIDE[kind] }, false, { input: 0 }, { scratch: 0 }, caps),
        launchOf(
          second,
          { group: false, parts: 1 },
          { ...all, pre: `fn pre(v: ${all.A}, k: u32) -> ${all.A} { return v; }`, post: whole },
          { x: WIDE[kind], y: to },
          packed,
          { scratch: 0 },
          { output: 0 },
          caps,
        ),
      ];
    },
  };
};
