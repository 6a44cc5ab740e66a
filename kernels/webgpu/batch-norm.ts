/** BatchNormalization whose statistics are known only when it runs; with constants it is a map. */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuKernel } from '../define.ts';
import { constant, input, x } from '../expr.ts';
import { isReal } from './elem.ts';
import { mapLaunch } from './map.ts';

export const batchNormKernel: GpuKernel<{
  readonly epsilon: number;
  readonly training_mode: number;
  readonly spatial: number;
}> = {
  name: 'batchnorm.map',
  accepts: (call, caps) =>
    !call.attrs.training_mode &&
    !!call.attrs.spatial &&
    call.inputs.every(isReal) &&
    call.inputs[0]!.shape.length >= 2 &&
    caps.limits.maxStorageBuffersPerShaderStage >= 6,
  launch: (call) => {
    const [v, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((i) => input(i, 'f32')) as [
      ReturnType<typeof input>,
      ReturnType<typeof input>,
      ReturnType<typeof input>,
      ReturnType<typeof input>,
      ReturnType<typeof input>,
    ];
    const expr = x.add(
      x.mul(x.div(x.sub(v, mean), x.sqrt(x.add(variance, constant(call.attrs.epsilon, 'f32')))), scale),
      bias,
    );
    const { shape } = call.inputs[0]!;
    const along = (f: Fact): Fact => ({ dtype: f.dtype, shape: [shape[1]!, ...shape.slice(2).map(() => 1)] });
    return mapLaunch(
      expr,
      call.outputs[0]!,
      { output: 0 },
      call.inputs.map((f, i) => ({ fact: i === 0 ? f! : along(f!), bind: { input: i } })),
    );
  },
};
