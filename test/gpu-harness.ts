/** Runs GPU kernels without a session: launch, assemble, dispatch, read back. */
import type { Call, GpuKernel } from '../kernels/define.ts';
import type { Shader } from '../wgsl/assemble.ts';
import { capsOf, type Gpu } from '../src/4-run/webgpu/device.ts';
import { pipelineFor } from '../src/4-run/webgpu/pipelines.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { bindKernel, callMemory, type Packer, type Params, runOnce, shadersOf } from '../src/tune/kernel.ts';

export { type Packer, shadersOf };

/** The pipeline of a shader, made once a device. @throws with the compiler's messages and the line they point at */
export const pipelineOf = async (device: GPUDevice, shader: Shader): Promise<GPUComputePipeline> =>
  (await pipelineFor(device, shader, () => undefined)).pipeline;

/**
 * Output tensors of one call. Buffers hold poison around and behind their data, so that a kernel that reads or writes
 * beyond its tensors (further than the padding to 16 bytes) gives wrong results or fails here.
 * @throws when the kernel does not accept the call, on validation errors, on faults, and on writes out of bounds
 */
export async function runGpuKernel(
  device: GPUDevice,
  caps: GpuCaps,
  kernel: GpuKernel,
  call: Call,
  inputs: readonly (Tensor | null)[],
  operands: readonly Tensor[] = [],
  tuned: Params = {},
  packer?: Packer,
): Promise<Tensor[]> {
  if (kernel.accepts && !kernel.accepts(call, caps)) throw new Error(`${kernel.name} does not accept the call`);
  const memory = callMemory(device, call, inputs, operands, packer);
  try {
    return await runOnce(memory, kernel.name, () => bindKernel(memory, caps, kernel, tuned));
  } finally {
    memory.destroy();
  }
}

/** A call with facts taken from tensors. `constants` lists inputs whose values the planner would know. */
export function callWith(
  inputs: readonly (Tensor | null)[],
  outputs: readonly ({ readonly dtype: Tensor['dtype']; readonly shape: readonly number[] } | null)[],
  attrs: object = {},
  constants: readonly number[] = [],
): Call {
  return {
    inputs: inputs.map((t, i) =>
      t === null
        ? null
        : {
            dtype: t.dtype,
            shape: t.shape,
            ...(constants.includes(i)
              ? { constant: { dtype: t.dtype, shape: t.shape, peek: () => t, load: () => t } }
              : {}),
          },
    ),
    outputs,
    attrs,
  };
}

/**
 * A device of Dawn's null backend, posing as hardware with these features: it compiles for what no software adapter
 * has, and runs nothing. `unsafe`: experimental ones too.
 */
export async function openNullDevice(features: readonly GPUFeatureName[], unsafe = false): Promise<Gpu> {
  const dawn = (await import('webgpu')) as unknown as { create: (flags: string[]) => GPU };
  const all = ((globalThis as { nullGpus?: Map<boolean, GPU> }).nullGpus ??= new Map());
  const kept =
    all.get(unsafe) ?? dawn.create(['backend=null', ...(unsafe ? ['enable-dawn-features=allow_unsafe_apis'] : [])]);
  all.set(unsafe, kept);
  const adapter = (await kept.requestAdapter())!;
  const device = await adapter.requestDevice({ requiredFeatures: [...features] });
  return { device, caps: { ...capsOf(device, adapter.info), software: false } };
}
