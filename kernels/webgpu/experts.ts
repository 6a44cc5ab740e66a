/** Products of rows with the weights of the experts that were chosen for them. */
import { sizeOf } from '../../src/core/tensor.ts';
import { expertsGroup, expertsLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { type ExpertShape, expertShape } from '../experts.ts';
import { elemOf } from './elem.ts';
import { grid, groups } from './grid.ts';

type Expert = Call<{ readonly bits: number; readonly block_size: number }>;
export const shapeOf = ({ inputs, attrs }: Expert): ExpertShape =>
  expertShape(inputs[2]!, inputs[3] ?? null, inputs[4] ?? null, inputs[5] ?? null, attrs.bits, attrs.block_size);

/** `weights4(row, k)`: weights k .. k + 3 of a row; `bias(row)`. */
function slots(call: Expert, s: ExpertShape): Pick<Launch, 'types' | 'slots' | 'extra'> {
  const [x, , w, , zeros, bias] = call.inputs;
  const per = 32 / s.bits;
  const mask = 2 ** s.bits - 1;
  const zeroBytes = Math.ceil((s.blocks * s.bits) / 8);
  const zero = zeros
    ? `f32((load_zeros(row * ${zeroBytes}u + block / ${8 / s.bits}u) >> ((block % ${8 / s.bits}u) * ${s.bits}u)) & ${mask}u)`
    : `${2 ** (s.bits - 1)}.0`;
  const quantised = `  let w = load_weights((row * ${s.in}u + k) / ${per}u) >> ((k % ${per}u) * ${s.bits}u);
  let block = k / ${s.block}u;
  return (vec4f(vec4u(w, w >> ${s.bits}u, w >> ${2 * s.bits}u, w >> ${3 * s.bits}u) & vec4u(${mask}u)) - ${zero}) * load_scales(row * ${s.blocks}u + block);`;
  const plain =
    '  let i = row * K + k;\n  return vec4f(load_weights(i), load_weights(i + 1u), load_weights(i + 2u), load_weights(i + 3u));';
  return {
    types: {
      x: elemOf(x!.dtype)!,
      y: elemOf(x!.dtype)!,
      experts: 'i64',
      weights: s.bits ? 'u32' : elemOf(w!.dtype)!,
      ...(s.bits ? { scales: elemOf(call.inputs[3]!.dtype)! } : {}),
      ...(zeros ? { zeros: 'u8' as const } : {}),
      ...(bias ? { biases: elemOf(bias.dtype)! } : {}),
    },
    slots: {
      weights4: `fn weights4(row: u32, k: u32) -> vec4f {\n${s.bits ? quantised : plain}\n}`,
      bias: `fn bias(row: u32) -> f32 { return ${bias ? 'load_biases(row)' : '0.0'}; }`,
    },
    extra: [
      { name: 'weights', bind: { input: 2 } },
      ...(s.bits ? [{ name: 'scales', bind: { input: 3 } }] : []),
      ...(zeros ? [{ name: 'zeros', bind: { input: 4 } }] : []),
      ...(bias ? [{ name: 'biases', bind: { input: 5 } }] : []),
    ],
  };
}

const kernel = (
  name: string,
  module: typeof expertsLane | typeof expertsGroup,
  WG: number,
): GpuKernel<Expert['attrs']> => ({
  name: `experts.${name}`,
  accepts: (call, caps) => {
    const s = shapeOf(call);
    const per = s.bits ? 32 / s.bits : 4;
    const {
      outputs: [y],
    } = call;
    return (
      elemOf(y!.dtype) !== undefined &&
      s.in % per === 0 &&
      (s.bits === 0 || s.block % 4 === 0) &&
      4 + slots(call, s).extra!.length <= caps.limits.maxStorageBuffersPerShaderStage &&
      (module === expertsLane || !caps.software)
    );
  },
  launch: (call) => {
    const s = shapeOf(call);
    const count = sizeOf(call.outputs[0]!.shape);
    const quads = Math.ceil(count / 4);
    return {
      module,
      params: { WG, EXPERTS: s.experts, N: s.out, K: s.in },
      ...slots(call, s),
      // Rows of X are those of the pairs, or each is that of all pairs of a row.
      uniforms: { count, slots: call.inputs[0]!.shape[1] === 1 ? call.inputs[1]!.shape[1]! : 1 },
      workgroups: module === expertsLane ? grid(quads, WG) : groups(quads),
      bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }],
    };
  },
});
/** Asked in order: shared rows of weights where there are barriers to be had cheaply, else an invocation by itself. */
export const expertKernels: readonly GpuKernel<Expert['attrs']>[] = [
  kernel('group', expertsGroup, 64),
  kernel('lane', expertsLane, 64),
];
