/** How `sampleTokens` draws: on the host, or by one dispatch with the same arithmetic. */
import { assemble, type Elem } from '../../wgsl/assemble.ts';
import { library, sample as sampleModule } from '../../wgsl/index.gen.ts';
import { packUniforms } from '../3-plan/uniforms.ts';
import { checkGpuTensor, holdGpuTensor, readAlone } from '../4-run/webgpu/gpu-tensor.ts';
import { padded } from '../4-run/webgpu/transfer.ts';
import { BITS, type DType } from '../core/dtype.ts';
import { fail } from '../core/errors.ts';
import { numbers } from '../core/numbers.ts';
import { byteLength, type GpuTensor, isGpuTensor, sizeOf, type Tensor } from '../core/tensor.ts';
import type { SampleOptions } from './sample.ts';

const ELEM: Readonly<Partial<Record<DType, Elem>>> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };

/** Row r begins at element `offset` + r · `stride`. `scale`: of differences of logits, for powers of two. */
interface Drawn { readonly rows: number; readonly n: number; readonly stride: number; readonly offset: number; readonly most: number; readonly share: number; readonly scale: number; readonly draws: readonly number[] }

function drawnOf({ dtype, shape }: Tensor | GpuTensor, { temperature = 1, topK, topP = 1, random = Math.random }: SampleOptions): Drawn {
  if (ELEM[dtype] === undefined) fail('input_dtype', `logits are float32, float16 or bfloat16, not ${dtype}`);
  if (sizeOf(shape) === 0 || shape.length === 0) fail('input_shape', `logits of shape [${shape}] have nothing to draw`);
  if (!(temperature >= 0)) fail('option_invalid', `temperature is a number from 0 on, not ${temperature}`);
  if (topK !== undefined && !(Number.isSafeInteger(topK) && topK > 0)) fail('option_invalid', `topK is a whole number from 1 on, not ${topK}`);
  if (!(topP > 0 && topP <= 1)) fail('option_invalid', `topP is greater than 0 and at most 1, not ${topP}`);
  const n = shape.at(-1)!, places = shape.length > 2 ? shape.at(-2)! : 1, rows = sizeOf(shape) / (n * places), greedy = temperature === 0;
  return {
    rows, n, stride: places * n, offset: (places - 1) * n, most: Math.min(n, greedy ? 1 : topK ?? n), share: greedy ? 1 : topP, scale: Math.LOG2E / (greedy ? 1 : temperature),
    draws: Array.from({ length: rows }, () => (greedy ? 0 : Math.min(1 - 2 ** -24, Math.max(0, random())))),
  };
}

export async function sample(logits: Tensor | GpuTensor, options: SampleOptions): Promise<number[]> {
  const d = drawnOf(logits, options);
  if (isGpuTensor(logits)) return sampleOnGpu(logits, d);
  const values = numbers(logits);
  return d.draws.map((draw, r) => drawRow(Float64Array.from({ length: d.n }, (_, i) => Number(values[d.offset + r * d.stride + i])), d, draw));
}

function drawRow(logits: Float64Array, { most, share, scale }: Drawn, draw: number): number {
  const sorted = logits.filter((v) => !Number.isNaN(v)).sort().reverse(), top = Math.max(sorted[0] ?? 0, -3.4028234663852886e38);
  const weights = logits.map((v) => (Number.isNaN(v) ? 0 : 2 ** ((v - top) * scale)));
  let bound = sorted[Math.min(most, sorted.length) - 1] ?? 0;
  const mass = (): number => weights.reduce((sum, w, i) => (logits[i]! >= bound ? sum + w : sum), 0);
  if (share < 1) {
    const goal = share * mass();
    let held = 0;
    bound = sorted.find((v) => (held += 2 ** ((v - top) * scale)) >= goal) ?? bound;
  }
  const goal = draw * mass();
  let before = 0, chosen = 0;
  weights.forEach((w, i) => {
    if (!(logits[i]! >= bound) || w === 0) return;
    if (before <= goal) chosen = i;
    before += w;
  });
  return chosen;
}

const pipelines = new WeakMap<GPUDevice, Map<string, Promise<GPUComputePipeline>>>();
function pipelineFor(device: GPUDevice, elem: Elem): Promise<GPUComputePipeline> {
  const made = pipelines.get(device) ?? new Map<string, Promise<GPUComputePipeline>>();
  pipelines.set(device, made);
  let pipeline = made.get(elem);
  if (pipeline === undefined) {
    const { code } = assemble(sampleModule, { types: { x: elem } }, library, device.features.has('shader-f16'));
    made.set(elem, (pipeline = device.createComputePipelineAsync({ layout: 'auto', compute: { module: device.createShaderModule({ code, label: 'sample' }) }, label: 'sample' })));
    pipeline.catch(() => made.delete(elem));
  }
  return pipeline;
}

async function sampleOnGpu(logits: GpuTensor, { rows, draws, ...uniforms }: Drawn): Promise<number[]> {
  const { device } = logits;
  checkGpuTensor(logits, device);
  if ((logits.buffer.usage & GPUBufferUsage.STORAGE) === 0) fail('option_invalid', `the buffer ${logits.buffer.label} needs the usage STORAGE to be drawn from`);
  if (rows > device.limits.maxComputeWorkgroupsPerDimension) fail('device_limit', `${rows} sequences; the device starts ${device.limits.maxComputeWorkgroupsPerDimension} workgroups`);
  const release = holdGpuTensor(logits), made: GPUBuffer[] = [];
  const buffer = (size: number, usage: number, content?: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): GPUBuffer => {
    const b = device.createBuffer({ size: padded(size), usage: usage | GPUBufferUsage.COPY_DST, label: 'sample' });
    made.push(b);
    if (content) device.queue.writeBuffer(b, 0, content);
    return b;
  };
  try {
    const pipeline = await pipelineFor(device, ELEM[logits.dtype]!);
    // A binding begins where the device can bind; what is left of the offset is in elements.
    const align = device.limits.minStorageBufferOffsetAlignment, begin = Math.floor(logits.offset / align) * align;
    const size = Math.min(logits.buffer.size - begin, padded(logits.offset - begin + byteLength(logits)));
    const block = packUniforms(sampleModule, { ...uniforms, offset: uniforms.offset + ((logits.offset - begin) * 8) / BITS[logits.dtype] });
    const tokens = buffer(rows * 4, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
    const bound = [{ buffer: logits.buffer, offset: begin, size }, { buffer: buffer(rows * 4, GPUBufferUsage.STORAGE, new Float32Array(draws)) }, { buffer: tokens }, { buffer: buffer(block.length * 4, GPUBufferUsage.UNIFORM, new Uint32Array(block)) }];
    const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: bound.map((resource, binding) => ({ binding, resource })) }));
    pass.dispatchWorkgroups(rows);
    pass.end();
    device.queue.submit([encoder.finish()]);
    return Array.from((await readAlone(device, { dtype: 'uint32', shape: [rows], buffer: tokens, offset: 0 })).data as Uint32Array);
  } finally {
    release();
    for (const b of made) b.destroy();
  }
}
