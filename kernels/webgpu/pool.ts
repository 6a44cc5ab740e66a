/** Pooling by windows, and of whole images. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { VALUE_TYPE } from '../../wgsl/assemble.ts';
import { poolGlobalGroup, poolGlobalLane, poolMax, poolMaxIndexed, poolMean } from '../../wgsl/index.gen.ts';
import type { Window } from '../conv-window.ts';
import type { Call, GpuKernel } from '../define.ts';
import { elemOf } from './elem.ts';
import { finishFits, finishOf, type Parts, putOf, storesOne } from './finish.ts';
import { grid, groups } from './grid.ts';

type WindowOf = (call: Call) => Window;
const WG = 64;

/** The kind in which elements are pooled. */
const kindOf = (call: Call): 'f32' | 'i32' | 'u32' | null => {
  const elem = elemOf(call.inputs[0]!.dtype);
  const kind = elem === undefined ? null : VALUE_TYPE[elem];
  return kind === 'f32' || kind === 'i32' || kind === 'u32' ? kind : null;
};
const fits = (call: Call, caps: GpuCaps, window: Window, bindings: number): boolean =>
  kindOf(call) !== null && window.kernel.length <= 3 && finishFits(call, caps, bindings, [], kindOf(call)!);
const put = (call: Call, caps: GpuCaps): Parts =>
  putOf(call, caps, true, finishOf(call, [], 1, kindOf(call)!), kindOf(call)!);

function windowUniforms(
  call: Call,
  w: Window,
): { params: Record<string, number>; uniforms: Record<string, number | readonly number[]> } {
  const three = (list: readonly number[], fill: number): number[] => [
    ...new Array<number>(3 - list.length).fill(fill),
    ...list,
  ];
  const rank = w.kernel.length;
  const size = call.inputs[0]!.shape.slice(2);
  const [K0, K1, K2] = three(w.kernel, 1) as [number, number, number];
  return {
    params: { WG, K0, K1, K2 },
    uniforms: {
      count: sizeOf(call.outputs[0]!.shape),
      size: three(size, 1),
      out: three(w.output, 1),
      strides: three(w.strides, 1),
      dilations: three(w.dilations, 1),
      pads: three(w.pads.slice(0, rank), 0),
      ends: three(
        size.map((s, d) => s + w.pads[d + rank]!),
        1,
      ),
    },
  };
}
const LOWEST = { f32: 'from_bits(0xff800000u)', i32: '-128', u32: '0u' } as const;

/** MaxPool, with where the greatest elements lie if asked. */
export const maxPoolKernels = (windowOf: WindowOf): readonly GpuKernel[] => [
  {
    name: 'pool.max',
    accepts: (call, caps) => fits(call, caps, windowOf(call), 3),
    launch: (call, caps) => {
      const { params, uniforms } = windowUniforms(call, windowOf(call));
      const stores = put(call, caps);
      const kind = kindOf(call)!;
      const indexed = (call.outputs[1] ?? null) !== null;
      return {
        module: indexed ? poolMaxIndexed : poolMax,
        types: { x: elemOf(call.inputs[0]!.dtype)!, ...(indexed ? { indices: 'i64' as const } : {}), ...stores.types },
        params: { ...params, ...(indexed ? { COLUMNS: call.attrs.storage_order } : {}) },
        uniforms,
        slots: { put: `alias Value = ${kind};\nfn lowest() -> Value { return ${LOWEST[kind]}; }\n${stores.text}` },
        workgroups: grid(Math.ceil(sizeOf(call.outputs[0]!.shape) / 4), WG),
        bind: [{ input: 0 }, { output: 0 }, ...(indexed ? [{ output: 1 }] : [])],
        extra: stores.extra,
        extraUniforms: stores.extraUniforms,
      };
    },
  },
];

/** AveragePool, or LpPool where `order` says its p. */
export const meanPoolKernels = (windowOf: WindowOf, order?: (call: Call) => number): readonly GpuKernel[] => [
  {
    name: order ? 'pool.norm' : 'pool.mean',
    accepts: (call, caps) => fits(call, caps, windowOf(call), 2),
    launch: (call, caps) => {
      const { params, uniforms } = windowUniforms(call, windowOf(call));
      const stores = put(call, caps);
      return {
        module: poolMean,
        types: { x: elemOf(call.inputs[0]!.dtype)!, ...stores.types },
        params: { ...params, LP: order ? 1 : 0, P: order?.(call) ?? 2, PADDED: call.attrs.count_include_pad ? 1 : 0 },
        uniforms,
        slots: { put: stores.text },
        workgroups: grid(Math.ceil(sizeOf(call.outputs[0]!.shape) / 4), WG),
        bind: [{ input: 0 }, { output: 0 }],
        extra: stores.extra,
        extraUniforms: stores.extraUniforms,
      };
    },
  },
];

/** Pooling of whole images: the mean, the greatest element or the p-norm. */
export function globalPoolKernels(kind: 'mean' | 'max' | 'norm'): readonly GpuKernel[] {
  const params = (call: Call): Record<string, number> => ({
    OP: ['mean', 'max', 'norm'].indexOf(kind),
    P: call.attrs.p ?? 2,
  });
  const uniforms = (call: Call): Record<string, number> => ({
    rows: sizeOf(call.outputs[0]!.shape),
    n: sizeOf(call.inputs[0]!.shape.slice(2)),
  });
  const floats = (call: Call, caps: GpuCaps): boolean =>
    kindOf(call) === 'f32' && sizeOf(call.inputs[0]!.shape) > 0 && finishFits(call, caps, 2);
  return [
    {
      name: 'pool.global-group',
      accepts: (call, caps) => !caps.software && floats(call, caps) && storesOne(call, caps) && uniforms(call).n! >= 32,
      tunables: { WG: [32, 64, 128, 256] },
      launch: (call, caps, tuned) => {
        const stores = putOf(call, caps, false, finishOf(call));
        return {
          module: poolGlobalGroup,
          types: { x: elemOf(call.inputs[0]!.dtype)!, ...stores.types },
          params: { ...params(call), WG: tuned.WG ?? (uniforms(call).n! >= 1024 ? 256 : 64) },
          uniforms: uniforms(call),
          slots: { finish: `${stores.text}\nfn finish(i: u32, v: f32) { put(i, vec4f(v), 1u); }` },
          workgroups: groups(uniforms(call).rows!),
          bind: [{ input: 0 }, { output: 0 }],
          extra: stores.extra,
          extraUniforms: stores.extraUniforms,
        };
      },
    },
    {
      name: 'pool.global-lane',
      accepts: floats,
      launch: (call, caps) => {
        const stores = put(call, caps);
        return {
          module: poolGlobalLane,
          types: { x: elemOf(call.inputs[0]!.dtype)!, ...stores.types },
          params: { ...params(call), WG },
          uniforms: uniforms(call),
          slots: { put: stores.text },
          workgroups: grid(Math.ceil(uniforms(call).rows! / 4), WG),
          bind: [{ input: 0 }, { output: 0 }],
          extra: stores.extra,
          extraUniforms: stores.extraUniforms,
        };
      },
    },
  ];
}
