/**
 * Random operators that `draw-on-device` gave a key: two words, the last input. The numbers are those of Philox's
 * counter, the same for the same key, and others than the reference draws.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import { multinomial, random } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { elemOf, isReal } from './elem.ts';
import { countedLaunch } from './element.ts';
import { finishOf, putOf } from './finish.ts';
import { grid } from './grid.ts';

const WG = 64;
const hasKey = (call: Call, at: number): boolean =>
  call.inputs.length === at + 1 && call.inputs[at]!.dtype === 'uint32';
/** With `shaped`, input 0 is a tensor of which only the shape counts. */
const kernel = (
  name: string,
  key: number,
  drawn: string,
  uniforms: readonly string[] = [],
  probabilities = false,
): GpuKernel => ({
  name: `random.${name}`,
  accepts: (call) =>
    hasKey(call, key) &&
    (probabilities
      ? isReal(call.inputs[0]) && /^(u?int(8|16|32)|bool|b?float(16|32))$/.test(call.outputs[0]!.dtype)
      : isReal(call.outputs[0])) &&
    sizeOf(call.outputs[0]!.shape) > 0,
  launch: (call, caps) => {
    const put = putOf(call, caps, true, finishOf(call));
    const count = sizeOf(call.outputs[0]!.shape);
    return {
      module: random,
      params: { WG },
      types: { ...put.types, ...(probabilities ? { p: elemOf(call.inputs[0]!.dtype)! } : {}) },
      uniforms: { count },
      workgroups: grid(Math.ceil(count / 4), WG),
      slots: { put: put.text, drawn: `fn drawn(i: u32, bits: vec4u) -> vec4f { ${drawn} }` },
      bind: [{ input: key }, { output: 0 }],
      extra: [...put.extra, ...(probabilities ? [{ name: 'p', bind: { input: 0 } }] : [])],
      extraUniforms: [
        ...put.extraUniforms,
        ...uniforms.map((u) => ({ name: u, type: 'f32' as const, value: call.attrs[u] as number })),
      ],
    };
  },
});
const UNIFORM = ['return extra.low + (extra.high - extra.low) * unit_floats(bits);', ['low', 'high']] as const;
const NORMAL = ['return extra.mean + extra.scale * normal_floats(bits);', ['mean', 'scale']] as const;

export const uniformKernel = kernel('uniform', 0, ...UNIFORM),
  uniformLikeKernel = kernel('uniform', 1, ...UNIFORM);
export const normalKernel = kernel('normal', 0, ...NORMAL),
  normalLikeKernel = kernel('normal', 1, ...NORMAL);
export const bernoulliKernel = kernel(
  'bernoulli',
  1,
  'return select(vec4f(0.0), vec4f(1.0), unit_floats(bits) < load4_p(i >> 2u));',
  [],
  true,
);
export const multinomialKernel: GpuKernel = {
  name: 'random.multinomial',
  accepts: (call) => hasKey(call, 1) && isReal(call.inputs[0]) && sizeOf(call.outputs[0]!.shape) > 0,
  launch: (call) => {
    const count = sizeOf(call.outputs[0]!.shape);
    const elem = elemOf(call.outputs[0]!.dtype)!;
    return countedLaunch(
      {
        module: multinomial,
        types: { x: elemOf(call.inputs[0]!.dtype)!, y: elem },
        uniforms: { classes: call.inputs[0]!.shape[1]!, samples: call.outputs[0]!.shape[1]! },
        slots: {
          store: `fn store(i: u32, chosen: u32) { store_y(i, ${elem === 'i64' ? 'vec2u(chosen, 0u)' : 'i32(chosen)'}); }`,
        },
        bind: [{ input: 0 }, { input: 1 }, { output: 0 }],
      },
      count,
    );
  },
};
