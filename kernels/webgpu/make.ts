/** Kernels that make tensors from numbers, and some that move elements by their place in a matrix or sequence. */
import { bigints, numbers } from '../../src/core/numbers.ts';
import { isInt64 } from '../../src/core/dtype.ts';
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { make, moveOnehot, moveReverse, moveTrilu } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { literal } from '../expr-to-wgsl.ts';
import { constant, type Kind, kindOf } from '../expr.ts';
import { elemOf, perWord, widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';
import type { Member } from './operands.ts';
import { knows, unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;
const computes = (call: Call): boolean => { const { dtype } = call.outputs[0]!; return kindOf(dtype) !== undefined && elemOf(dtype) !== undefined; };
const valueOf = (call: Call, i: number): Tensor => call.inputs[i]!.constant!.peek()!;

function made(call: Call, value: string, extraUniforms: readonly Member[]): Launch {
  const out = call.outputs[0]!;
  const elem = elemOf(out.dtype)!;
  const PER = perWord(elem) > 1 ? 4 : 1;
  const count = sizeOf(out.shape);
  return {
    module: make, types: { y: elem }, params: { WG, PER }, uniforms: { count }, slots: { write: writeSlot({ types: {}, text: '', PER }), value: `fn value(i: u32) -> Y { ${value} }` },
    workgroups: grid(Math.ceil(count / PER), WG), bind: [{ output: 0 }], extraUniforms,
  };
}

/** Every element the one of `valueOf(call)`. */
export const fillKernel = (filled: (call: Call) => Tensor): GpuKernel => ({
  name: 'make.fill', accepts: computes,
  launch: (call) => {
    const t = filled(call);
    return mapLaunch(constant(isInt64(t.dtype) ? bigints(t)[0]! : numbers(t)[0]!, kindOf(t.dtype)!), call.outputs[0]!, { output: 0 }, []);
  },
});

export const eyeKernel: GpuKernel<{ readonly k: number }> = {
  name: 'make.eye', accepts: computes,
  launch: (call) => made(call, `let row = i / extra.columns; return select(${literal(0, kindOf(call.outputs[0]!.dtype)!)}, ${literal(1, kindOf(call.outputs[0]!.dtype)!)}, i32(i - row * extra.columns) - i32(row) == extra.k);`, [
    { name: 'columns', type: 'u32', value: call.outputs[0]!.shape[1]! }, { name: 'k', type: 'i32', value: Math.max(-(2 ** 30), Math.min(2 ** 30, call.attrs.k)) },
  ]),
};

/** start + i · delta. */
export const rangeKernel: GpuKernel = {
  name: 'make.range', accepts: (call) => computes(call) && knows(call, 0, 2),
  launch: (call) => {
    const kind: Kind = kindOf(call.outputs[0]!.dtype)!;
    const ends = [['start', 0], ['delta', 2]] as const;
    if (kind === 'i64') {
      const words = ends.flatMap(([name, i]): Member[] => {
        const v = BigInt.asUintN(64, bigints(valueOf(call, i))[0]!);
        return [{ name: `${name}_low`, type: 'u32', value: Number(v & 0xffffffffn) }, { name: `${name}_high`, type: 'u32', value: Number(v >> 32n) }];
      });
      return made(call, 'return add_i64(vec2u(extra.start_low, extra.start_high), mul_i64(vec2u(i, 0u), vec2u(extra.delta_low, extra.delta_high)));', words);
    }
    const type = kind === 'f32' ? 'f32' : 'i32';
    return made(call, `return extra.start + ${type}(i) * extra.delta;`, ends.map(([name, i]) => ({ name, type, value: numbers(valueOf(call, i))[0]! })));
  },
};

export const triluKernel: GpuKernel<{ readonly upper: number }> = {
  name: 'move.trilu', accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0 && widthOf(call.inputs[0]!.dtype) <= 8,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const unit = unitOf(widthOf(dtype));
    const given = (call.inputs[1] ?? null) !== null;
    const count = sizeOf(shape);
    return {
      module: moveTrilu, types: { ...unit.types, ...(given ? { diagonals: 'i64' } : {}) }, params: { WG, PER: unit.PER, UPPER: call.attrs.upper ? 1 : 0 },
      slots: { write: writeSlot(unit), diagonal: `fn diagonal() -> i32 { return ${given ? 'saturated_i32(load_diagonals(0u))' : '0'}; }` },
      uniforms: { count, rows: shape.at(-2)!, columns: shape.at(-1)! },
      workgroups: grid(Math.ceil(count / unit.PER), WG), bind: [{ input: 0 }, { output: 0 }], ...(given ? { extra: [{ name: 'diagonals', bind: { input: 1 } }] } : {}),
    };
  },
};

const PLACE: Readonly<Partial<Record<Elem, string>>> = { i32: 'load_indices(k)', i64: 'saturated_i32(load_indices(k))', f32: 'truncated_i32(load_indices(k))', i8: 'load_indices(k)', u8: 'i32(load_indices(k))', f16: 'truncated_i32(load_indices(k))' };
/** OneHot along `axisOf(call)` of the output. */
export const oneHotKernel = (axisOf: (call: Call) => number): GpuKernel => ({
  name: 'move.onehot', accepts: (call) => widthOf(call.outputs[0]!.dtype) > 0 && PLACE[elemOf(call.inputs[0]!.dtype) ?? 'u4'] !== undefined,
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const unit = unitOf(widthOf(dtype));
    const indices = elemOf(call.inputs[0]!.dtype)!;
    const axis = axisOf(call);
    const count = sizeOf(shape);
    return {
      module: moveOnehot, types: { ...unit.types, indices }, params: { WG, PER: unit.PER }, slots: { write: writeSlot(unit), place: `fn place(k: u32) -> i32 { return ${PLACE[indices]}; }` },
      uniforms: { count, depth: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) },
      workgroups: grid(Math.ceil(count / unit.PER), WG), bind: [{ input: 0 }, { input: 2 }, { output: 0 }],
    };
  },
});

/** ReverseSequence whose batch is the axis `batchOf(call)`, 0 or 1. */
export const reverseKernel = (batchOf: (call: Call) => number): GpuKernel => ({
  name: 'move.reverse', accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const batch = batchOf(call);
    const run = sizeOf(shape.slice(2));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width);
    const count = sizeOf(shape) / times;
    return {
      module: moveReverse, types: unit.types, params: { WG, PER: unit.PER, BATCH_FIRST: batch === 0 ? 1 : 0 }, slots: { write: writeSlot(unit) },
      uniforms: { count, inner: run / times, steps: shape[1 - batch]!, batch: shape[batch]! },
      workgroups: grid(Math.ceil(count / unit.PER), WG), bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
});
