/**
 * Kernels that move elements to or from places that indices name. An index outside its axis is a fault, and nothing is
 * touched out of bounds.
 */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import {
  moveGatherElements,
  moveGatherNd,
  moveScatterElements,
  moveScatterNd,
  tensorScatter,
  tensorScatterRows,
} from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { WGSL_TYPE, wgslBody } from '../expr-to-wgsl.ts';
import { input, kindOf, x } from '../expr.ts';
import { axisOf } from '../shapes.ts';
import { elemOf, widthOf } from './elem.ts';
import { axisIn, indicesElem, movable } from './gather.ts';
import { grid } from './grid.ts';
import { wholeCopy } from './move.ts';
import { indexSlot, unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;
const reversed = (list: readonly number[]): number[] => [...list].reverse();

export const gatherElementsKernel: GpuKernel<{ readonly axis: number }> = {
  name: 'gather.elements',
  accepts: (call) => movable(call) && call.inputs[0]!.shape.length <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisIn(call);
    const unit = unitOf(widthOf(dtype));
    const at = call.inputs[1]!.shape;
    const strides = stridesOf(shape);
    const count = sizeOf(at);
    return {
      module: moveGatherElements,
      types: { ...unit.types, indices: indicesElem(call) },
      params: { WG, PER: unit.PER, RANK: at.length },
      slots: { write: writeSlot(unit), index: indexSlot(indicesElem(call)) },
      uniforms: {
        count,
        dim: shape[axis]!,
        along: strides[axis]!,
        dims: reversed(at),
        strides: reversed(strides.map((s, k) => (k === axis ? 0 : s))),
      },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
};

export const gatherNDKernel: GpuKernel<{ readonly batch_dims: number }> = {
  name: 'gather.nd',
  accepts: (call) => movable(call) && call.inputs[1]!.shape.at(-1)! <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const at = call.inputs[1]!.shape;
    const batch = call.attrs.batch_dims;
    const depth = at.at(-1)!;
    const dims = shape.slice(batch, batch + depth);
    const run = sizeOf(shape.slice(batch + depth));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width);
    const count = sizeOf(call.outputs[0]!.shape) / times;
    return {
      module: moveGatherNd,
      types: { ...unit.types, indices: indicesElem(call) },
      params: { WG, PER: unit.PER, DEPTH: depth },
      slots: { write: writeSlot(unit), index: indexSlot(indicesElem(call)) },
      uniforms: {
        count,
        inner: run / times,
        tuples: sizeOf(at.slice(batch, -1)),
        whole: sizeOf(dims),
        dims,
        strides: stridesOf(dims),
      },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
};

/**
 * Types and slot `put(at, i)` that lets y[at] take in updates[i]; null where elements that share words would have to be
 * combined.
 */
export function scatterPut(
  call: Call,
  width: number,
  reduction: string,
): { types: Readonly<Record<string, Elem>>; put: string } | null {
  const { dtype } = call.inputs[0]!;
  if (reduction !== 'none') {
    const kind = kindOf(dtype);
    const elem = elemOf(dtype);
    if (kind === undefined || kind === 'bool' || kind === 'f64' || elem === undefined || widthOf(dtype) < 4)
      return null;
    const [a, b] = [input(0, kind), input(1, kind)];
    const e =
      reduction === 'add'
        ? x.add(a, b)
        : reduction === 'mul'
          ? x.mul(a, b)
          : reduction === 'max'
            ? x.max(a, b)
            : x.min(a, b);
    return {
      types: { y: elem, updates: elem },
      put: `fn combine(a: ${WGSL_TYPE[kind]}, b: ${WGSL_TYPE[kind]}) -> ${WGSL_TYPE[kind]} {\n${wgslBody(e, (i) => (i === 0 ? 'a' : 'b'))}\n}\nfn put(at: u32, i: u32) { store_y(at, combine(load_y(at), load_updates(i))); }`,
    };
  }
  if (width >= 4) {
    const unit = unitOf(width, ['updates']);
    return {
      types: unit.types,
      put: [unit.text, 'fn put(at: u32, i: u32) { store_y(at, load_updates(i)); }'].filter((t) => t !== '').join('\n'),
    };
  }
  const [shift, mask] = width === 1 ? ['(at & 3u) * 8u', '0xffu'] : ['(at & 1u) * 16u', '0xffffu'];
  return {
    types: { updates: width === 1 ? 'u8' : 'u16' },
    put: `alias YStore = atomic<u32>;\nfn put(at: u32, i: u32) { let w = at >> ${width === 1 ? 2 : 1}u; let s = ${shift}; atomicAnd(&y[w], ~(${mask} << s)); atomicOr(&y[w], load_updates(i) << s); }`,
  };
}

interface Reduction {
  readonly reduction: string;
}
const scatters = (call: Call<Reduction>): boolean =>
  movable(call) && scatterPut(call, widthOf(call.inputs[0]!.dtype), call.attrs.reduction) !== null;

/**
 * A copy of the data, then the updates: each its own invocation, or with a reduction each line along the axis in order.
 */
export const scatterElementsKernel: GpuKernel<Reduction & { readonly axis: number }> = {
  name: 'scatter.elements',
  accepts: (call) => scatters(call) && call.inputs[0]!.shape.length <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisIn(call);
    const at = call.inputs[1]!.shape;
    const { types, put } = scatterPut(call, widthOf(dtype), call.attrs.reduction)!;
    const [sources, strides] = [stridesOf(at), stridesOf(shape)];
    const serial = call.attrs.reduction !== 'none';
    const dims = at.map((d, k) => (serial && k === axis ? 1 : d));
    const count = sizeOf(dims);
    if (sizeOf(at) === 0) return [wholeCopy(call, 0, 0)];
    const write: Launch = {
      module: moveScatterElements,
      types: { ...types, indices: indicesElem(call) },
      params: { WG, RANK: at.length },
      slots: { put, index: indexSlot(indicesElem(call)) },
      uniforms: {
        count,
        steps: serial ? at[axis]! : 1,
        step: sources[axis]!,
        dim: shape[axis]!,
        along: strides[axis]!,
        dims: reversed(dims),
        sources: reversed(sources),
        strides: reversed(strides.map((s, k) => (k === axis ? 0 : s))),
      },
      workgroups: grid(count, WG),
      bind: [{ input: 1 }, { input: 2 }, { output: 0 }, { fault: true }],
    };
    return [wholeCopy(call, 0, 0), write];
  },
};

/**
 * A copy of the data, then the updates: each element its own invocation, or with a reduction all tuples in order for
 * each element of a run.
 */
export const scatterNDKernel: GpuKernel<Reduction> = {
  name: 'scatter.nd',
  accepts: (call) => scatters(call) && call.inputs[1]!.shape.at(-1)! <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const at = call.inputs[1]!.shape;
    const depth = at.at(-1)!;
    const dims = shape.slice(0, depth);
    const run = sizeOf(shape.slice(depth));
    const tuples = sizeOf(at.slice(0, -1));
    const serial = call.attrs.reduction !== 'none';
    const { width, times } = serial ? { width: widthOf(dtype), times: 1 } : widest(widthOf(dtype), [run]);
    const { types, put } = scatterPut(call, width, call.attrs.reduction)!;
    const inner = run / times;
    const count = serial ? inner : inner * tuples;
    if (tuples === 0) return [wholeCopy(call, 0, 0)];
    const write: Launch = {
      module: moveScatterNd,
      types: { ...types, indices: indicesElem(call) },
      params: { WG, DEPTH: depth },
      slots: { put, index: indexSlot(indicesElem(call)) },
      uniforms: { count, steps: serial ? tuples : 1, inner, dims, strides: stridesOf(dims) },
      workgroups: grid(count, WG),
      bind: [{ input: 1 }, { input: 2 }, { output: 0 }, { fault: true }],
    };
    return [wholeCopy(call, 0, 0), write];
  },
};

/**
 * A cache with an update written behind what it holds: a copy of it, then the update; one pass over all of it where
 * elements share words.
 */
export const tensorScatterKernel: GpuKernel<{ readonly axis: number; readonly mode: string }> = {
  name: 'scatter.cache',
  accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0 && sizeOf(call.inputs[1]!.shape) > 0,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisOf(call.attrs.axis, shape.length);
    const run = sizeOf(shape.slice(axis + 1));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width, ['x', 'update']);
    const count = sizeOf(shape) / times;
    const given = (call.inputs[2] ?? null) !== null;
    const start_of = `fn start_of(b: u32) -> i32 { return ${given ? 'saturated_i32(load_starts(b))' : '0'}; }`;
    const starts = given ? { extra: [{ name: 'starts', bind: { input: 2 } }] } : {};
    if (width >= 4) {
      const count = sizeOf(call.inputs[1]!.shape) / times;
      const { types, put } = scatterPut(call, width, 'none')!;
      return [
        wholeCopy(call, 0, 0),
        {
          module: tensorScatterRows,
          types: { ...types, ...(given ? { starts: 'i64' } : {}) },
          params: { WG, CIRCULAR: call.attrs.mode === 'linear' ? 0 : 1 },
          slots: { put, start_of },
          uniforms: {
            count,
            inner: run / times,
            long: shape[axis]!,
            short: call.inputs[1]!.shape[axis]!,
            per_batch: sizeOf(shape.slice(1, axis)),
          },
          workgroups: grid(count, WG),
          bind: [{ input: 1 }, { output: 0 }, { fault: true }],
          ...starts,
        },
      ];
    }
    return {
      module: tensorScatter,
      types: { ...unit.types, ...(given ? { starts: 'i64' } : {}) },
      params: { WG, PER: unit.PER, CIRCULAR: call.attrs.mode === 'linear' ? 0 : 1 },
      slots: { write: writeSlot(unit), start_of },
      uniforms: {
        count,
        inner: run / times,
        long: shape[axis]!,
        short: call.inputs[1]!.shape[axis]!,
        per_batch: sizeOf(shape.slice(1, axis)),
      },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
      ...starts,
    };
  },
};
