/** Kernels of operators that look at whole rows: softmax and normalisations. */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { softmaxGroup, softmaxLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { input, kindOf, x } from '../expr.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid, groups } from './grid.ts';
import { mapLaunch } from './map.ts';

/** `rows` rows of `n` elements that are `inner` apart; row r begins at ⌊r / inner⌋ · n · inner + r mod inner. */
export interface Rows {
  readonly rows: number;
  readonly n: number;
  readonly inner: number;
}

/** Do rows consist of aligned fours? */
export const inFours = ({ n, inner }: Rows): boolean => inner === 1 && n % 4 === 0;
/** An invocation a row, rather than a workgroup a row. */
export const byLane = ({ rows, n, inner }: Rows, caps: GpuCaps): boolean =>
  caps.software || n <= 32 || (inner > 1 && (rows >= 1024 || n < 256));

const pow2 = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));
/** Invocations of a row, and quads that each keeps in registers. */
export function groupOf(
  n: number,
  caps: GpuCaps,
  tuned: Readonly<Record<string, number>>,
): { WG: number; HELD: number } {
  const WG = tuned.WG ?? Math.min(256, caps.limits.maxComputeInvocationsPerWorkgroup, Math.max(32, pow2(n / 4)));
  return { WG, HELD: Math.min(8, pow2(Math.ceil(n / 4 / WG))) };
}

const place = ({ inner }: Rows): string =>
  `fn place(row: u32, k: u32) -> u32 { let j = min(k, u.n - 1u); return ${inner === 1 ? 'row * u.n + j' : '(row / u.inner * u.n + j) * u.inner + row % u.inner'}; }`;
/** Four texts, parted by commas. */
export const components = (f: (c: number) => string): string => [0, 1, 2, 3].map(f).join(', ');
/** Four elements of row `row` from element k on, of a binding that is laid out like the rows. */
export const loadFour = (name: string, rows: Rows): string =>
  inFours(rows)
    ? `load4_${name}((row * u.n + k) >> 2u)`
    : `vec4f(${components((c) => `load_${name}(place(row, k + ${c}u))`)})`;
/** Statements that store `v` there. */
export const storeFour = (name: string, rows: Rows): string =>
  inFours(rows)
    ? `store4_${name}((row * u.n + k) >> 2u, v.x, v.y, v.z, v.w);`
    : [0, 1, 2, 3]
        .map(
          (c) =>
            `${c > 0 ? `if (k + ${c}u < u.n) { ` : ''}store_${name}(place(row, k + ${c}u), v.${'xyzw'[c]});${c > 0 ? ' }' : ''}`,
        )
        .join(' ');
/** Bindings of word-sized floats in aligned fours are bound as vec4f; the text that stands for their accessors. */
const fours = (name: string, elem: Elem, rows: Rows): string | null =>
  elem === 'f32' && inFours(rows)
    ? `alias ${name[0]!.toUpperCase()}${name.slice(1)}Store = vec4f;\nfn load4_${name}(i: u32) -> vec4f { return ${name}[i]; }\n`
    : null;
const storing = (name: string): string =>
  `fn store4_${name}(i: u32, a: f32, b: f32, c: f32, d: f32) { ${name}[i] = vec4f(a, b, c, d); }\n`;

interface Bound {
  readonly name: string;
  readonly elem: Elem;
  readonly writes?: boolean;
}
/** Types and text for bindings that are laid out like the rows. */
export function laidOut(rows: Rows, bound: readonly Bound[]): { types: Record<string, Elem>; text: string } {
  const types: Record<string, Elem> = {};
  let text = inFours(rows) ? '' : `${place(rows)}\n`;
  for (const { name, elem, writes } of bound) {
    const alias = fours(name, elem, rows);
    if (alias === null) types[name] = elem;
    else text += writes ? alias.slice(0, alias.indexOf('\n') + 1) + storing(name) : alias;
  }
  return { types, text };
}

/** Elements of the output that share words across rows are made as f32 first, in scratch 0, and then narrowed. */
export const needsScratch = (call: Call, rows: Rows, caps: GpuCaps): boolean =>
  isPacked(elemOf(call.outputs[0]!.dtype)!, caps) && !inFours(rows);
/** Makes the output of scratch 0. */
export const narrow = (out: Fact): Launch =>
  mapLaunch(x.cast(input(0, 'f32'), kindOf(out.dtype)!), out, { output: 0 }, [
    { fact: { dtype: 'float32', shape: out.shape }, bind: { scratch: 0 } },
  ]);
/** The bytes of scratch 0, if it is needed. */
export const scratchFor = (call: Call, rows: Rows, caps: GpuCaps): number[] =>
  needsScratch(call, rows, caps) ? [sizeOf(call.outputs[0]!.shape) * 4] : [];
/** Types in which a row is computed: floats of at most 32 bits. */
export const isReal = (f: Fact | null | undefined): boolean =>
  f?.dtype === 'float32' || f?.dtype === 'float16' || f?.dtype === 'bfloat16';

/** Softmax and LogSoftmax of the rows that `rowsOf` finds. */
export function softmaxKernels(
  log: boolean,
  rowsOf: (call: Call) => { readonly outer: number; readonly n: number; readonly inner: number },
): readonly GpuKernel[] {
  const of = (call: Call): Rows => {
    const { outer, n, inner } = rowsOf(call);
    return { rows: outer * inner, n, inner };
  };
  const variant = (lane: boolean): GpuKernel => ({
    name: lane ? 'softmax.lane' : 'softmax.group',
    accepts: (call, caps) => isReal(call.inputs[0]) && (lane || !byLane(of(call), caps)),
    tunables: { WG: [32, 64, 128, 256] },
    scratch: (call, caps) => scratchFor(call, of(call), caps),
    launch: (call, caps, tuned) => {
      const r = of(call);
      const out = call.outputs[0]!;
      const wide = needsScratch(call, r, caps);
      const { types, text } = laidOut(r, [
        { name: 'x', elem: elemOf(call.inputs[0]!.dtype)! },
        { name: 'y', elem: wide ? 'f32' : elemOf(out.dtype)!, writes: true },
      ]);
      const read = `(row: u32, k: u32) -> vec4f { return ${loadFour('x', r)}; }`;
      const group = groupOf(r.n, caps, tuned);
      const WG = tuned.WG ?? 64;
      const main: Launch = {
        module: lane ? softmaxLane : softmaxGroup,
        types,
        params: { LOG: Number(log), ...(lane ? { WG } : group) },
        uniforms: { rows: r.rows, n: r.n, inner: r.inner },
        slots: {
          take: `${text}fn take${read}`,
          again: `fn again${read}`,
          put: `fn put(row: u32, k: u32, v: vec4f) { ${storeFour('y', r)} }`,
        },
        workgroups: lane ? grid(r.rows, WG) : groups(r.rows),
        bind: [{ input: 0 }, wide ? { scratch: 0 } : { output: 0 }],
      };
      return wide ? [main, narrow(out)] : main;
    },
  });
  return [variant(false), variant(true)];
}
