/** Rows that indices name. An index outside its axis is a fault, and nothing is touched out of bounds. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { moveGather } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { elemOf, widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { indexSlot, unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;
/** The axis, not negative. */
export const axisIn = (call: Call<{ readonly axis: number }>): number =>
  call.attrs.axis < 0 ? call.attrs.axis + call.inputs[0]!.shape.length : call.attrs.axis;
export const indicesElem = (call: Call): Elem => elemOf(call.inputs[1]!.dtype)!;
/** Has the data a width that moves as units? */
export const movable = (call: Call): boolean => widthOf(call.inputs[0]!.dtype) > 0;

export const gatherKernel: GpuKernel<{ readonly axis: number }> = {
  name: 'gather.rows',
  accepts: movable,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisIn(call);
    const run = sizeOf(shape.slice(axis + 1));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width);
    const count = sizeOf(call.outputs[0]!.shape) / times;
    return {
      module: moveGather,
      types: { ...unit.types, indices: indicesElem(call) },
      params: { WG, PER: unit.PER },
      slots: { write: writeSlot(unit), index: indexSlot(indicesElem(call)) },
      uniforms: { count, dim: shape[axis]!, rows: sizeOf(call.inputs[1]!.shape), inner: run / times },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
};
