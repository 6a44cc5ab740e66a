/** MaxUnpool: zeros, then each element to where its index says. */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import { moveScatterElements } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { constant } from '../expr.ts';
import { isReal } from './elem.ts';
import { scatterPut } from './gather-scatter.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';

const WG = 64;
/** `shapesOf`: the shape that indices count in, and that of the output, which may be larger. */
export const unpoolKernel = (
  shapesOf: (call: Call) => { readonly natural: readonly number[]; readonly shape: readonly number[] },
): GpuKernel => ({
  name: 'unpool.indices',
  accepts: (call) => isReal(call.inputs[0]) && sizeOf(call.inputs[0]!.shape) > 0,
  launch: (call) => {
    const { dtype } = call.inputs[0]!;
    const { natural, shape } = shapesOf(call);
    const count = sizeOf(call.inputs[0]!.shape);
    const size = sizeOf(natural);
    const { types, put } = scatterPut(call, dtype === 'float32' ? 4 : 2, 'none')!;
    const [from, to] = [stridesOf(natural), stridesOf(shape)];
    const same = String(natural) === String(shape);
    const moved = natural
      .map((_, d) => `  at += (rest / ${from[d]}u) * ${to[d]}u;\n  rest = rest % ${from[d]}u;`)
      .join('\n');
    const zero = { dtype: 'uint32', shape: [Math.ceil((sizeOf(shape) * (dtype === 'float32' ? 4 : 2)) / 4)] } as const;
    return [
      mapLaunch(constant(0, 'u32'), zero, { output: 0 }, []),
      {
        module: moveScatterElements,
        types: { ...types, indices: 'i64' },
        params: { WG, RANK: 1 },
        slots: {
          put,
          index: `fn index(k: u32, dim: u32) -> u32 {\n  let v = load_indices(k);\n  if (v.y != 0u || v.x >= ${size}u) { atomicOr(&fault[0], 1u); }\n  var rest = min(v.x, ${size - 1}u);\n${same ? '  return rest;' : `  var at = 0u;\n${moved}\n  return at;`}\n}`,
        },
        uniforms: { count, steps: 1, step: 1, dim: size, along: 1, dims: [count], sources: [1], strides: [0] },
        workgroups: grid(count, WG),
        bind: [{ input: 1 }, { input: 0 }, { output: 0 }, { fault: true }],
      },
    ];
  },
});
