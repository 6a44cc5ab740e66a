/** Kernels that make tensors from numbers. */
import { bigints, numbers } from '../../src/core/numbers.ts';
import { isInt64 } from '../../src/core/dtype.ts';
import { sizeOf, type Tensor } from '../../src/core/tensor.ts';
import { make } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { constant, type Kind, kindOf } from '../expr.ts';
import { elemOf, perWord } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';
import type { Member } from './operands.ts';
import { knows, writeSlot } from './unit.ts';

const WG = 64;
export const computes = (call: Call): boolean => {
  const { dtype } = call.outputs[0]!;
  return kindOf(dtype) !== undefined && elemOf(dtype) !== undefined;
};
const valueOf = (call: Call, i: number): Tensor => call.inputs[i]!.constant!.peek()!;

/** Elements by their index, `value` being the body of a function of it. */
export function made(call: Call, value: string, extraUniforms: readonly Member[]): Launch {
  const out = call.outputs[0]!;
  const elem = elemOf(out.dtype)!;
  const PER = perWord(elem) > 1 ? 4 : 1;
  const count = sizeOf(out.shape);
  return {
    module: make,
    types: { y: elem },
    params: { WG, PER },
    uniforms: { count },
    slots: { write: writeSlot({ types: {}, text: '', PER }), value: `fn value(i: u32) -> Y { ${value} }` },
    workgroups: grid(Math.ceil(count / PER), WG),
    bind: [{ output: 0 }],
    extraUniforms,
  };
}

/** Every element the one of `valueOf(call)`. */
export const fillKernel = (filled: (call: Call) => Tensor): GpuKernel => ({
  name: 'make.fill',
  accepts: computes,
  launch: (call) => {
    const t = filled(call);
    return mapLaunch(
      constant(isInt64(t.dtype) ? bigints(t)[0]! : numbers(t)[0]!, kindOf(t.dtype)!),
      call.outputs[0]!,
      { output: 0 },
      [],
    );
  },
});

/** start + i · delta. */
export const rangeKernel: GpuKernel = {
  name: 'make.range',
  accepts: (call) => computes(call) && knows(call, 0, 2),
  launch: (call) => {
    const kind: Kind = kindOf(call.outputs[0]!.dtype)!;
    const ends = [
      ['start', 0],
      ['delta', 2],
    ] as const;
    if (kind === 'i64') {
      const words = ends.flatMap(([name, i]): Member[] => {
        const v = BigInt.asUintN(64, bigints(valueOf(call, i))[0]!);
        return [
          { name: `${name}_low`, type: 'u32', value: Number(v & 0xffffffffn) },
          { name: `${name}_high`, type: 'u32', value: Number(v >> 32n) },
        ];
      });
      return made(
        call,
        'return add_i64(vec2u(extra.start_low, extra.start_high), mul_i64(vec2u(i, 0u), vec2u(extra.delta_low, extra.delta_high)));',
        words,
      );
    }
    const type = kind === 'f32' ? 'f32' : 'i32';
    return made(
      call,
      `return extra.start + ${type}(i) * extra.delta;`,
      ends.map(([name, i]) => ({ name, type, value: numbers(valueOf(call, i))[0]! })),
    );
  },
};
