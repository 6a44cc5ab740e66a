/** Kernels that make matrices, or move elements by their place in a matrix or sequence. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { moveOnehot, moveReverse, moveTrilu } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { literal } from '../expr-to-wgsl.ts';
import { kindOf } from '../expr.ts';
import { elemOf, widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { computes, made } from './make.ts';
import { unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;

export const eyeKernel: GpuKernel<{ readonly k: number }> = {
  name: 'make.eye',
  accepts: computes,
  launch: (call) =>
    made(
      call,
      `let row = i / extra.columns; return select(${literal(0, kindOf(call.outputs[0]!.dtype)!)}, ${literal(1, kindOf(call.outputs[0]!.dtype)!)}, i32(i - row * extra.columns) - i32(row) == extra.k);`,
      [
        { name: 'columns', type: 'u32', value: call.outputs[0]!.shape[1]! },
        { name: 'k', type: 'i32', value: Math.max(-(2 ** 30), Math.min(2 ** 30, call.attrs.k)) },
      ],
    ),
};

export const triluKernel: GpuKernel<{ readonly upper: number }> = {
  name: 'move.trilu',
  accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0 && widthOf(call.inputs[0]!.dtype) <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const unit = unitOf(widthOf(dtype));
    const given = (call.inputs[1] ?? null) !== null;
    const count = sizeOf(shape);
    return {
      module: moveTrilu,
      types: { ...unit.types, ...(given ? { diagonals: 'i64' } : {}) },
      params: { WG, PER: unit.PER, UPPER: call.attrs.upper ? 1 : 0 },
      slots: {
        write: writeSlot(unit),
        diagonal: `fn diagonal() -> i32 { return ${given ? 'saturated_i32(load_diagonals(0u))' : '0'}; }`,
      },
      uniforms: { count, rows: shape.at(-2)!, columns: shape.at(-1)! },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { output: 0 }],
      ...(given ? { extra: [{ name: 'diagonals', bind: { input: 1 } }] } : {}),
    };
  },
};

const PLACE: Readonly<Partial<Record<Elem, string>>> = {
  i32: 'load_indices(k)',
  i64: 'saturated_i32(load_indices(k))',
  f32: 'truncated_i32(load_indices(k))',
  i8: 'load_indices(k)',
  u8: 'i32(load_indices(k))',
  f16: 'truncated_i32(load_indices(k))',
};
/** OneHot along `axisOf(call)` of the output. */
export const oneHotKernel = (axisOf: (call: Call) => number): GpuKernel => ({
  name: 'move.onehot',
  accepts: (call) => widthOf(call.outputs[0]!.dtype) > 0 && PLACE[elemOf(call.inputs[0]!.dtype) ?? 'u4'] !== undefined,
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const unit = unitOf(widthOf(dtype));
    const indices = elemOf(call.inputs[0]!.dtype)!;
    const axis = axisOf(call);
    const count = sizeOf(shape);
    return {
      module: moveOnehot,
      types: { ...unit.types, indices },
      params: { WG, PER: unit.PER },
      slots: { write: writeSlot(unit), place: `fn place(k: u32) -> i32 { return ${PLACE[indices]}; }` },
      uniforms: { count, depth: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 2 }, { output: 0 }],
    };
  },
});

/** ReverseSequence whose batch is the axis `batchOf(call)`, 0 or 1. */
export const reverseKernel = (batchOf: (call: Call) => number): GpuKernel => ({
  name: 'move.reverse',
  accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const batch = batchOf(call);
    const run = sizeOf(shape.slice(2));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width);
    const count = sizeOf(shape) / times;
    return {
      module: moveReverse,
      types: unit.types,
      params: { WG, PER: unit.PER, BATCH_FIRST: batch === 0 ? 1 : 0 },
      slots: { write: writeSlot(unit) },
      uniforms: { count, inner: run / times, steps: shape[1 - batch]!, batch: shape[batch]! },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
});
