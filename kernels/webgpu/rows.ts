/** Kernels of operators that look at whole rows: softmax and normalisations. */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { normGroup, normLane, normMoments, normSkipGroup, normSkipLane, softmaxGroup, softmaxLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { input, kindOf, x } from '../expr.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid, groups } from './grid.ts';
import { mapLaunch } from './map.ts';
import { accessOf, type Member } from './operands.ts';

/** `rows` rows of `n` elements that are `inner` apart; row r begins at ⌊r / inner⌋ · n · inner + r mod inner. */
export interface Rows { readonly rows: number; readonly n: number; readonly inner: number }

/** Do rows consist of aligned fours? */
const inFours = ({ n, inner }: Rows): boolean => inner === 1 && n % 4 === 0;
/** An invocation a row, rather than a workgroup a row. */
const byLane = ({ rows, n, inner }: Rows, caps: GpuCaps): boolean => caps.software || n <= 32 || (inner > 1 && (rows >= 1024 || n < 256));

const pow2 = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));
/** Invocations of a row, and quads that each keeps in registers. */
function groupOf(n: number, caps: GpuCaps, tuned: Readonly<Record<string, number>>): { WG: number; HELD: number } {
  const WG = tuned.WG ?? Math.min(256, caps.limits.maxComputeInvocationsPerWorkgroup, Math.max(32, pow2(n / 4)));
  return { WG, HELD: Math.min(8, pow2(Math.ceil(n / 4 / WG))) };
}

const place = ({ inner }: Rows): string => `fn place(row: u32, k: u32) -> u32 { let j = min(k, u.n - 1u); return ${inner === 1 ? 'row * u.n + j' : '(row / u.inner * u.n + j) * u.inner + row % u.inner'}; }`;
const components = (f: (c: number) => string): string => [0, 1, 2, 3].map(f).join(', ');
/** Four elements of row `row` from element k on, of a binding that is laid out like the rows. */
const loadFour = (name: string, rows: Rows): string => (inFours(rows) ? `load4_${name}((row * u.n + k) >> 2u)` : `vec4f(${components((c) => `load_${name}(place(row, k + ${c}u))`)})`);
/** Statements that store `v` there. */
const storeFour = (name: string, rows: Rows): string => (inFours(rows) ? `store4_${name}((row * u.n + k) >> 2u, v.x, v.y, v.z, v.w);`
  : [0, 1, 2, 3].map((c) => `${c > 0 ? `if (k + ${c}u < u.n) { ` : ''}store_${name}(place(row, k + ${c}u), v.${'xyzw'[c]});${c > 0 ? ' }' : ''}`).join(' '));
/** Bindings of word-sized floats in aligned fours are bound as vec4f; the text that stands for their accessors. */
const fours = (name: string, elem: Elem, rows: Rows): string | null => (elem === 'f32' && inFours(rows)
  ? `alias ${name[0]!.toUpperCase()}${name.slice(1)}Store = vec4f;\nfn load4_${name}(i: u32) -> vec4f { return ${name}[i]; }\n` : null);
const storing = (name: string): string => `fn store4_${name}(i: u32, a: f32, b: f32, c: f32, d: f32) { ${name}[i] = vec4f(a, b, c, d); }\n`;

interface Bound { readonly name: string; readonly elem: Elem; readonly writes?: boolean }
/** Types and text for bindings that are laid out like the rows. */
function laidOut(rows: Rows, bound: readonly Bound[]): { types: Record<string, Elem>; text: string } {
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
const needsScratch = (call: Call, rows: Rows, caps: GpuCaps): boolean => isPacked(elemOf(call.outputs[0]!.dtype)!, caps) && !inFours(rows);
const narrow = (out: Fact): Launch => mapLaunch(x.cast(input(0, 'f32'), kindOf(out.dtype)!), out, { output: 0 }, [{ fact: { dtype: 'float32', shape: out.shape }, bind: { scratch: 0 } }]);
const scratchFor = (call: Call, rows: Rows, caps: GpuCaps): number[] => (needsScratch(call, rows, caps) ? [sizeOf(call.outputs[0]!.shape) * 4] : []);
/** Types in which a row is computed: floats of at most 32 bits. */
const isReal = (f: Fact | null | undefined): boolean => f?.dtype === 'float32' || f?.dtype === 'float16' || f?.dtype === 'bfloat16';

/** Softmax and LogSoftmax of the rows that `rowsOf` finds. */
export function softmaxKernels(log: boolean, rowsOf: (call: Call) => { readonly outer: number; readonly n: number; readonly inner: number }): readonly GpuKernel[] {
  const of = (call: Call): Rows => { const { outer, n, inner } = rowsOf(call); return { rows: outer * inner, n, inner }; };
  const variant = (lane: boolean): GpuKernel => ({
    name: lane ? 'softmax.lane' : 'softmax.group',
    accepts: (call, caps) => isReal(call.inputs[0]) && (lane || !byLane(of(call), caps)),
    tunables: { WG: [32, 64, 128, 256] },
    scratch: (call, caps) => scratchFor(call, of(call), caps),
    launch: (call, caps, tuned) => {
      const r = of(call);
      const out = call.outputs[0]!;
      const wide = needsScratch(call, r, caps);
      const { types, text } = laidOut(r, [{ name: 'x', elem: elemOf(call.inputs[0]!.dtype)! }, { name: 'y', elem: wide ? 'f32' : elemOf(out.dtype)!, writes: true }]);
      const read = `(row: u32, k: u32) -> vec4f { return ${loadFour('x', r)}; }`;
      const group = groupOf(r.n, caps, tuned);
      const WG = tuned.WG ?? 64;
      const main: Launch = {
        module: lane ? softmaxLane : softmaxGroup, types, params: { LOG: Number(log), ...(lane ? { WG } : group) }, uniforms: { rows: r.rows, n: r.n, inner: r.inner },
        slots: { take: `${text}fn take${read}`, again: `fn again${read}`, put: `fn put(row: u32, k: u32, v: vec4f) { ${storeFour('y', r)} }` },
        workgroups: lane ? grid(r.rows, WG) : groups(r.rows), bind: [{ input: 0 }, wide ? { scratch: 0 } : { output: 0 }],
      };
      return wide ? [main, narrow(out)] : main;
    },
  });
  return [variant(false), variant(true)];
}

/** What a normalisation of rows looks at; indices are those of inputs and outputs. */
export interface NormForm {
  readonly rows: number;
  readonly n: number;
  /** Elements of a row are so far apart, see `Rows`; by default 1. Then `scale` and `bias` have an element for each of a row's. */
  readonly inner?: number;
  readonly epsilon: number;
  readonly centred: boolean;
  /** Shape of input 0 under which `scale` and `bias` broadcast; by default its own. */
  readonly shape?: readonly number[];
  readonly scale?: { readonly input: number; readonly shape?: readonly number[] };
  readonly bias?: { readonly input: number; readonly shape?: readonly number[] };
  /** Added to input 0 before, by broadcasting. */
  readonly added?: readonly number[];
  /** Outputs that are wanted: that sum, and each row's mean and 1 / standard deviation. */
  readonly sum?: number;
  readonly mean?: number;
  readonly inverse?: number;
}

/** Normalisation of rows. */
export function normKernels(name: string, formOf: (call: Call) => NormForm): readonly GpuKernel[] {
  const wanted = (call: Call, i: number | undefined): boolean => i !== undefined && (call.outputs[i] ?? null) !== null;
  const rowsOf = ({ rows, n, inner = 1 }: NormForm): Rows => ({ rows, n, inner });
  const fits = (call: Call, caps: GpuCaps): boolean => {
    const f = formOf(call);
    const moments = [f.mean, f.inverse].filter((i): i is number => wanted(call, i));
    const sums = wanted(call, f.sum);
    return f.n > 0 && call.inputs.every((t) => t === null || isReal(t)) && isReal(call.outputs[0]) && moments.every((i) => call.outputs[i]!.dtype === 'float32')
      && (!sums || inFours(rowsOf(f)) || !isPacked(elemOf(call.outputs[f.sum!]!.dtype)!, caps)) && 3 + (f.added?.length ?? 0) + 2 <= caps.limits.maxStorageBuffersPerShaderStage;
  };
  const scratch = (call: Call, caps: GpuCaps): number[] => {
    const f = formOf(call);
    const own = scratchFor(call, rowsOf(f), caps);
    const alone = wanted(call, f.mean) !== wanted(call, f.inverse);
    return alone ? [...(own.length > 0 ? own : [16]), f.rows * 4] : own;
  };
  const variant = (lane: boolean): GpuKernel => ({
    name: `${name}.${lane ? 'lane' : 'group'}`,
    accepts: (call, caps) => fits(call, caps) && (lane || !byLane(rowsOf(formOf(call)), caps)),
    tunables: { WG: [32, 64, 128, 256] },
    scratch,
    launch: (call, caps, tuned) => {
      const f = formOf(call);
      const r = rowsOf(f);
      const out = call.outputs[0]!;
      const wide = needsScratch(call, r, caps);
      const sums = wanted(call, f.sum);
      const shape = f.shape ?? call.inputs[0]!.shape;
      const added = (f.added ?? []).filter((i) => (call.inputs[i] ?? null) !== null).map((i) => operandText(`a${i}`, call.inputs[i]!, call.inputs[0]!.shape, r, { input: i }));
      const affine = ([['scale', f.scale], ['bias', f.bias]] as const).flatMap(([what, o]) => (o === undefined || (call.inputs[o.input] ?? null) === null ? [] : [{ what, ...operandText(what, { ...call.inputs[o.input]!, shape: o.shape ?? call.inputs[o.input]!.shape }, shape, r, { input: o.input }) }]));
      const { types, text } = laidOut(r, [
        { name: 'x', elem: elemOf(call.inputs[0]!.dtype)! }, { name: 'y', elem: wide ? 'f32' : elemOf(out.dtype)!, writes: true },
        ...(sums ? [{ name: 'sum', elem: elemOf(call.outputs[f.sum!]!.dtype)!, writes: true }] : []),
      ]);
      const loaded = [loadFour('x', r), ...added.map((a) => a.four)].join(' + ');
      const scaled = affine.reduce((v, a) => (a.what === 'scale' ? `${v} * ${a.four}` : `${v} + ${a.four}`), 'w');
      const slots = {
        take: `${text}fn take(row: u32, k: u32) -> vec4f { let v = ${loaded}; ${sums ? storeFour('sum', r) : ''} return v; }`,
        again: `fn again(row: u32, k: u32) -> vec4f { return ${loaded}; }`,
        put: `fn put(row: u32, k: u32, w: vec4f) { let v = ${scaled}; ${storeFour('y', r)} }\n${[...added, ...affine].map((a) => a.fn).join('')}`,
      };
      const operands = [...added, ...affine];
      const WG = tuned.WG ?? 64;
      const uniforms = { rows: r.rows, n: r.n, inner: r.inner, epsilon: f.epsilon };
      const to: Ref = wide ? { scratch: 0 } : { output: 0 };
      const main: Launch = {
        module: sums ? (lane ? normSkipLane : normSkipGroup) : lane ? normLane : normGroup, types: { ...types, ...Object.fromEntries(operands.map((o) => [o.name, o.elem])) },
        params: { CENTRED: Number(f.centred), ...(lane ? { WG } : groupOf(r.n, caps, tuned)) }, uniforms, slots,
        workgroups: lane ? grid(r.rows, WG) : groups(r.rows), bind: [{ input: 0 }, to, ...(sums ? [{ output: f.sum! }] : [])],
        extra: operands.map((o) => ({ name: o.name, bind: o.bind })), extraUniforms: operands.flatMap((o) => o.uniforms),
      };
      const statistics: Launch[] = !wanted(call, f.mean) && !wanted(call, f.inverse) ? [] : [{
        module: normMoments, types: { ...(types.x ? { x: types.x } : {}), ...Object.fromEntries(added.map((o) => [o.name, o.elem])) }, params: { CENTRED: Number(f.centred), WG }, uniforms,
        slots: { again: `${laidOut(r, [{ name: 'x', elem: elemOf(call.inputs[0]!.dtype)! }]).text}${slots.again}\n${added.map((a) => a.fn).join('')}` },
        workgroups: grid(r.rows, WG), bind: [{ input: 0 }, ...[f.mean, f.inverse].map((i): Ref => (wanted(call, i) ? { output: i! } : { scratch: 1 }))],
        extra: added.map((o) => ({ name: o.name, bind: o.bind })), extraUniforms: added.flatMap((o) => o.uniforms),
      }];
      return [main, ...(wide ? [narrow(out)] : []), ...statistics];
    },
  });
  return [variant(false), variant(true)];
}

interface OperandText { readonly name: string; readonly elem: Elem; readonly bind: Ref; readonly four: string; readonly fn: string; readonly uniforms: readonly Member[] }
/** Four elements of an operand that broadcasts to `shape`, which is rows of n: as text of `row` and `k`. */
function operandText(name: string, fact: Fact, shape: readonly number[], r: Rows, bind: Ref): OperandText {
  const elem = elemOf(fact.dtype)!;
  const size = sizeOf(fact.shape);
  const own = { name, elem, bind, fn: '', uniforms: [] as readonly Member[] };
  const perColumn = size === r.n && sizeOf(fact.shape.slice(-trailing(shape, r.n))) === r.n;
  if (perColumn) return { ...own, four: inFours(r) ? `load4_${name}(k >> 2u)` : `vec4f(${components((c) => `load_${name}(min(k + ${c}u, u.n - 1u))`)})` };
  const access = accessOf(name, fact, shape);
  if (access.kind === 'full') return { ...own, four: loadFour(name, r) };
  if (access.kind === 'scalar') return { ...own, four: `load_${name}(0u)` };
  const four = access.one !== null && inFours(r) ? `load_${name}(${access.at('(row * u.n + k)')})` : `vec4f(${components((c) => `load_${name}(${access.at(`(row * u.n + min(k + ${c}u, u.n - 1u))`)})`)})`;
  return { ...own, four, fn: access.fn === '' ? '' : `${access.fn}\n`, uniforms: access.uniforms };
}
/** How many last dims of `shape` make up a row of n; its rank when none do. */
function trailing(shape: readonly number[], n: number): number {
  let size = 1;
  for (let k = shape.length; k > 0; k--) {
    size *= shape[k - 1]!;
    if (size === n) return shape.length - k + 1;
  }
  return shape.length + 1;
}
