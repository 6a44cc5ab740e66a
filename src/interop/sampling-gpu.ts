/** Tokens drawn on the GPU, with the arithmetic of `sampling.ts`. */
import { assemble, type Elem } from '../../wgsl/assemble.ts';
import { library, sample as sampleModule } from '../../wgsl/index.gen.ts';
import { packUniforms } from '../3-plan/uniforms.ts';
import { makeGpuTensor, readAlone } from '../4-run/webgpu/gpu-tensor.ts';
import { padded } from '../4-run/webgpu/transfer.ts';
import { BITS, type DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { byteLength, type GpuTensor } from '../core/tensor.ts';
import type { Drawn } from './sampling.ts';

const ELEM: Readonly<Partial<Record<DType, Elem>>> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };

const pipelines = new WeakMap<GPUDevice, Map<string, Promise<GPUComputePipeline>>>();
function pipelineFor(device: GPUDevice, elem: Elem, STEP: number): Promise<GPUComputePipeline> {
  const made = pipelines.get(device) ?? new Map<string, Promise<GPUComputePipeline>>();
  pipelines.set(device, made);
  const key = `${elem}${STEP}`;
  let pipeline = made.get(key);
  if (pipeline === undefined) {
    const { code } = assemble(
      sampleModule,
      { types: { x: elem }, params: { STEP } },
      library,
      device.features.has('shader-f16'),
    );
    made.set(
      key,
      (pipeline = device.createComputePipelineAsync({
        layout: 'auto',
        compute: { module: device.createShaderModule({ code, label: 'sample' }) },
        label: 'sample',
      })),
    );
    pipeline.catch(() => made.delete(key));
  }
  return pipeline;
}

/**
 * Draws by one dispatch; `logits` must be held by the caller. `stay`: the tokens are left there, the caller's to
 * dispose. @throws option_invalid, device_limit
 */
export async function sampleOnGpu(
  logits: GpuTensor,
  { rows, draws, ...uniforms }: Drawn,
  stay: boolean,
): Promise<number[] | GpuTensor<'int64'>> {
  const { device } = logits;
  if ((logits.buffer.usage & GPUBufferUsage.STORAGE) === 0)
    fail('option_invalid', `the buffer ${logits.buffer.label} needs the usage STORAGE to be drawn from`);
  if (rows > device.limits.maxComputeWorkgroupsPerDimension)
    fail(
      'device_limit',
      `${rows} sequences; the device starts ${device.limits.maxComputeWorkgroupsPerDimension} workgroups`,
    );
  const made: GPUBuffer[] = [];
  const buffer = (
    size: number,
    usage: number,
    content?: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>,
  ): GPUBuffer => {
    const b = device.createBuffer({ size: padded(size), usage: usage | GPUBufferUsage.COPY_DST, label: 'sample' });
    made.push(b);
    if (content) device.queue.writeBuffer(b, 0, content);
    return b;
  };
  try {
    const STEP = stay ? 2 : 1;
    const pipeline = await pipelineFor(device, ELEM[logits.dtype]!, STEP);
    // A binding begins where the device can bind; what is left of the offset is in elements.
    const align = device.limits.minStorageBufferOffsetAlignment;
    const begin = Math.floor(logits.offset / align) * align;
    const size = Math.min(logits.buffer.size - begin, padded(logits.offset - begin + byteLength(logits)));
    const block = packUniforms(sampleModule, {
      ...uniforms,
      offset: uniforms.offset + ((logits.offset - begin) * 8) / BITS[logits.dtype],
    });
    const tokens = buffer(rows * 4 * STEP, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    const bound = [
      { buffer: logits.buffer, offset: begin, size },
      { buffer: buffer(rows * 4, GPUBufferUsage.STORAGE, new Float32Array(draws)) },
      { buffer: tokens },
      { buffer: buffer(block.length * 4, GPUBufferUsage.UNIFORM, new Uint32Array(block)) },
    ];
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: bound.map((resource, binding) => ({ binding, resource })),
      }),
    );
    pass.dispatchWorkgroups(rows);
    pass.end();
    device.queue.submit([encoder.finish()]);
    if (stay) {
      made.splice(made.indexOf(tokens), 1);
      return makeGpuTensor(
        device,
        { dtype: 'int64', shape: [rows, 1], buffer: tokens, offset: 0 },
        () => tokens.destroy(),
        (t) => readAlone(device, t),
      );
    }
    return Array.from(
      (await readAlone(device, { dtype: 'uint32', shape: [rows], buffer: tokens, offset: 0 })).data as Uint32Array,
    );
  } finally {
    for (const b of made) b.destroy();
  }
}
