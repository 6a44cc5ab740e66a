/** Kernels of the normalisations of rows. */
import { type Fact, sameNumbers } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { normGroup, normLane, normMoments, normSkipGroup, normSkipLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid, groups } from './grid.ts';
import {
  byLane,
  components,
  groupOf,
  inFours,
  isReal,
  laidOut,
  loadFour,
  narrow,
  needsScratch,
  type Rows,
  scratchFor,
  storeFour,
} from './rows.ts';
import { accessOf, type Member } from './operands.ts';

/** What a normalisation of rows looks at; indices are those of inputs and outputs. */
export interface NormForm {
  readonly rows: number;
  readonly n: number;
  /**
   * Elements of a row are so far apart, see `Rows`; by default 1. Then `scale` and `bias` have an element for each of a
   * row's.
   */
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
    return (
      f.n > 0 &&
      call.inputs.every((t) => t === null || isReal(t)) &&
      isReal(call.outputs[0]) &&
      moments.every((i) => call.outputs[i]!.dtype === 'float32') &&
      (!sums || inFours(rowsOf(f)) || !isPacked(elemOf(call.outputs[f.sum!]!.dtype)!, caps)) &&
      3 + (f.added?.length ?? 0) + 2 <= caps.limits.maxStorageBuffersPerShaderStage
    );
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
      const added = (f.added ?? [])
        .filter((i) => (call.inputs[i] ?? null) !== null)
        .map((i) => operandText(`a${i}`, call.inputs[i]!, call.inputs[0]!.shape, r, { input: i }));
      const affine = (
        [
          ['scale', f.scale],
          ['bias', f.bias],
        ] as const
      ).flatMap(([what, o]) =>
        o === undefined || (call.inputs[o.input] ?? null) === null
          ? []
          : [
              {
                what,
                ...operandText(
                  what,
                  { ...call.inputs[o.input]!, shape: o.shape ?? call.inputs[o.input]!.shape },
                  shape,
                  r,
                  { input: o.input },
                ),
              },
            ],
      );
      const { types, text } = laidOut(r, [
        { name: 'x', elem: elemOf(call.inputs[0]!.dtype)! },
        { name: 'y', elem: wide ? 'f32' : elemOf(out.dtype)!, writes: true },
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
        module: sums ? (lane ? normSkipLane : normSkipGroup) : lane ? normLane : normGroup,
        types: { ...types, ...Object.fromEntries(operands.map((o) => [o.name, o.elem])) },
        params: { CENTRED: Number(f.centred), ...(lane ? { WG } : groupOf(r.n, caps, tuned)) },
        uniforms,
        slots,
        workgroups: lane ? grid(r.rows, WG) : groups(r.rows),
        bind: [{ input: 0 }, to, ...(sums ? [{ output: f.sum! }] : [])],
        extra: operands.map((o) => ({ name: o.name, bind: o.bind })),
        extraUniforms: operands.flatMap((o) => o.uniforms),
      };
      const statistics: Launch[] =
        !wanted(call, f.mean) && !wanted(call, f.inverse)
          ? []
          : [
              {
                module: normMoments,
                types: {
                  ...(types.x ? { x: types.x } : {}),
                  ...Object.fromEntries(added.map((o) => [o.name, o.elem])),
                },
                params: { CENTRED: Number(f.centred), WG },
                uniforms,
                slots: {
                  again: `${laidOut(r, [{ name: 'x', elem: elemOf(call.inputs[0]!.dtype)! }]).text}${slots.again}\n${added.map((a) => a.fn).join('')}`,
                },
                workgroups: grid(r.rows, WG),
                bind: [
                  { input: 0 },
                  ...[f.mean, f.inverse].map((i): Ref => (wanted(call, i) ? { output: i! } : { scratch: 1 })),
                ],
                extra: added.map((o) => ({ name: o.name, bind: o.bind })),
                extraUniforms: added.flatMap((o) => o.uniforms),
              },
            ];
      return [main, ...(wide ? [narrow(out)] : []), ...statistics];
    },
  });
  return [variant(false), variant(true)];
}

interface OperandText {
  readonly name: string;
  readonly elem: Elem;
  readonly bind: Ref;
  readonly four: string;
  readonly fn: string;
  readonly uniforms: readonly Member[];
}
/** Four elements of an operand that broadcasts to `shape`, which is rows of n: as text of `row` and `k`. */
function operandText(name: string, fact: Fact, shape: readonly number[], r: Rows, bind: Ref): OperandText {
  const elem = elemOf(fact.dtype)!;
  const size = sizeOf(fact.shape);
  const own = { name, elem, bind, fn: '', uniforms: [] as readonly Member[] };
  const last = trailing(shape, r.n);
  // a row, and may be one of many
  const only = r.rows === 1 && r.inner === 1 && fact.constant === undefined && sameNumbers(fact.shape, shape);
  const perColumn =
    size === r.n && !only && (r.inner > 1 || (last <= shape.length && sizeOf(fact.shape.slice(-last)) === r.n));
  if (perColumn)
    return {
      ...own,
      four: inFours(r)
        ? `load4_${name}(k >> 2u)`
        : `vec4f(${components((c) => `load_${name}(min(k + ${c}u, u.n - 1u))`)})`,
    };
  const access = accessOf(name, fact, shape);
  if (access.kind === 'full') return { ...own, four: loadFour(name, r) };
  if (access.kind === 'scalar') return { ...own, four: `load_${name}(0u)` };
  const four =
    access.one && inFours(r)
      ? `load_${name}(${access.at('(row * u.n + k)')})`
      : `vec4f(${components((c) => `load_${name}(${access.at(`(row * u.n + min(k + ${c}u, u.n - 1u))`)})`)})`;
  return { ...own, four, fn: access.fn === '' ? '' : `${access.fn}\n`, uniforms: access.uniforms };
}
/** How many last dims of `shape` make up a row of n; more than it has when none do. */
function trailing(shape: readonly number[], n: number): number {
  let size = 1;
  for (let k = shape.length; k > 0; k--) {
    size *= shape[k - 1]!;
    if (size === n) return shape.length - k + 1;
  }
  return shape.length + 1;
}
