/** LinearAttention and CausalConvWithState: layers that carry a state from step to step. */
import { sizeOf } from '../../src/core/tensor.ts';
import { causalConv, linearAttention } from '../../wgsl/index.gen.ts';
import type { LinearShape } from '../attention-linear.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { countedLaunch, elementLaunch, extraOf, narrowed } from './element.ts';
import { isReal, realElem } from './elem.ts';

export const linearKernel = (shapeOf: (call: Call) => LinearShape): GpuKernel => ({
  name: 'linear_attention.columns',
  accepts: (call, caps) =>
    call.inputs.every(isReal) && caps.limits.maxStorageBuffersPerShaderStage >= 8 && sizeOf(call.outputs[0]!.shape) > 0,
  // The state and the result in f32, where an output does not hold them so.
  scratch: (call) => {
    const s = shapeOf(call);
    return [s.batch * s.kvHeads * s.size * s.valueSize * 4, s.batch * s.steps * s.outHeads * s.valueSize * 4];
  },
  launch: (call) => {
    const s = shapeOf(call);
    const direct = (i: 0 | 1): boolean => call.outputs[i]?.dtype === 'float32';
    const at = (i: 0 | 1): Ref => (direct(i) ? { output: i } : { scratch: 1 - i });
    const given = (i: number): boolean => (call.inputs[i] ?? null) !== null;
    const rider = (name: string, i: number, used: boolean) =>
      used ? ([name, realElem(call.inputs[i]!), { input: i }] as const) : null;
    const { types, extra } = extraOf(
      rider('earlier', 3, given(3)),
      rider('decay', 4, s.gated),
      rider('beta', 5, s.delta),
    );
    const out: Launch[] = [
      countedLaunch(
        {
          module: linearAttention,
          types: { q: realElem(call.inputs[0]!), k: realElem(call.inputs[1]!), v: realElem(call.inputs[2]!), ...types },
          params: { GATED: s.gated ? 1 : 0, DELTA: s.delta ? 1 : 0 },
          slots: {
            past: `fn past(i: u32) -> f32 { return ${given(3) ? 'load_earlier(i)' : '0.0'}; }`,
            keep: `fn keep(row: u32, g: u32, i: u32) -> f32 { return ${s.gated ? `exp(load_decay(${s.wideDecay ? '(row * u.kv_heads + g) * u.size + i' : 'row * u.kv_heads + g'}))` : '1.0'}; }`,
            rate: `fn rate(row: u32, g: u32) -> f32 { return ${s.delta ? `load_beta(${s.wideBeta ? 'row * u.kv_heads + g' : 'row'})` : '1.0'}; }`,
          },
          uniforms: {
            steps: s.steps,
            heads: s.heads,
            kv_heads: s.kvHeads,
            out_heads: s.outHeads,
            size: s.size,
            width: s.valueSize,
            scale: call.attrs.scale || 1 / Math.sqrt(s.size),
          },
          bind: [{ input: 0 }, { input: 1 }, { input: 2 }, at(1), at(0)],
          extra,
        },
        s.batch * s.kvHeads * s.valueSize,
      ),
    ];
    for (const i of [0, 1] as const)
      if (call.outputs[i] && !direct(i)) out.push(narrowed(call.outputs[i], { output: i }, at(i)));
    return out;
  },
});

export const causalKernel: GpuKernel<{ readonly activation: string; readonly dilation: number }> = {
  name: 'causal_conv.element',
  accepts: (call) => call.inputs.every(isReal),
  launch: (call, caps) => {
    const [x, w, bias, past] = call.inputs;
    const [, channels, steps] = x!.shape as [number, number, number];
    const taps = w!.shape[2]!;
    const { types, extra } = extraOf(
      bias ? ['bias', realElem(bias), { input: 2 }] : null,
      past ? ['earlier', realElem(past), { input: 3 }] : null,
    );
    return call.outputs.flatMap((out, i): Launch[] =>
      !out || sizeOf(out.shape) === 0
        ? []
        : [
            elementLaunch(
              {
                module: causalConv,
                types: { x: realElem(x!), w: realElem(w!), ...types },
                params: { STATE: i, SILU: call.attrs.activation === 'none' ? 0 : 1 },
                slots: {
                  past: `fn past(row: u32, i: u32) -> f32 { return ${past ? 'load_earlier(row * u.held + i)' : '0.0'}; }`,
                  shift: `fn shift(c: u32) -> f32 { return ${bias ? 'load_bias(c)' : '0.0'}; }`,
                },
                uniforms: {
                  channels,
                  steps,
                  taps,
                  dilation: call.attrs.dilation,
                  held: (taps - 1) * call.attrs.dilation,
                },
                reads: [{ input: 0 }, { input: 1 }],
                extra,
              },
              out,
              { output: i },
              caps,
            ),
          ],
    );
  },
};
