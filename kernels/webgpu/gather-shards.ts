/** Gather from a table that is bound shard by shard. */
import { sizeOf } from '../../src/core/tensor.ts';
import { moveGatherShard } from '../../wgsl/index.gen.ts';
import type { GpuKernel, Launch } from '../define.ts';
import { widthOf } from './elem.ts';
import { indicesElem, movable } from './gather.ts';
import { grid } from './grid.ts';
import { indexSlot, unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;
/**
 * Inputs: the first shard of rows, the indices, the other shards. A dispatch for each: it writes the rows that it has,
 * and leaves the others as they are.
 */
export const gatherShards: GpuKernel = {
  name: 'gather.shards',
  accepts: (call) => call.inputs.length !== 2 && movable(call),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const run = sizeOf(shape.slice(1));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width);
    const count = sizeOf(call.outputs[0]!.shape) / times;
    const numbers = call.inputs.map((_, i) => i).filter((i) => i !== 1);
    const dim = numbers.reduce((n, i) => n + call.inputs[i]!.shape[0]!, 0);
    let first = 0;
    return numbers.map((i): Launch => {
      const rows = call.inputs[i]!.shape[0]!;
      const from = first;
      first += rows;
      return {
        module: moveGatherShard,
        types: { ...unit.types, indices: indicesElem(call) },
        params: { WG, PER: unit.PER },
        slots: { write: writeSlot(unit), index: indexSlot(indicesElem(call)) },
        uniforms: { count, dim, inner: run / times, first: from, rows },
        workgroups: grid(Math.ceil(count / unit.PER), WG),
        bind: [{ input: i }, { input: 1 }, { output: 0 }, { fault: true }],
      };
    });
  },
};
