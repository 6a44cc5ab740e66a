/** Runs GPU kernels without a session: launch, assemble, dispatch, read back. */
import { bytesOfTensor, sizeOf, type Tensor, tensorOver } from '../src/core/tensor.ts';
import { bytesOf } from '../src/core/dtype.ts';
import type { GpuCaps } from '../src/core/plan.ts';
import { capsOf, type Gpu } from '../src/4-run/webgpu/device.ts';
import { packUniforms } from '../src/3-plan/uniforms.ts';
import type { Call, GpuKernel, Launch, Ref } from '../kernels/define.ts';
import { assemble, type Shader } from '../wgsl/assemble.ts';
import { library } from '../wgsl/index.gen.ts';

/** Makes the bytes of a packed constant; a test of a kernel that packs supplies `kernels/pack.ts`. */
export type Packer = (pack: NonNullable<Extract<Ref, { input: number }>['pack']>, t: Tensor) => Uint8Array;

const GUARD = 256;
const padded = (bytes: number): number => Math.max(16, Math.ceil(bytes / 16) * 16);
const pipelines = new WeakMap<GPUDevice, Map<string, Promise<GPUComputePipeline>>>();

/** The launches of a kernel as shaders: what a plan would compile. */
export function shadersOf(kernel: GpuKernel, call: Call, caps: GpuCaps, tuned: Readonly<Record<string, number>> = {}): { launch: Launch; shader: Shader }[] {
  const launches = ([] as Launch[]).concat(kernel.launch(call, caps, tuned) as Launch | Launch[]);
  return launches.map((launch) => ({
    launch,
    shader: assemble(launch.module, {
      types: launch.types, ...(launch.params ? { params: launch.params } : {}), ...(launch.slots ? { slots: launch.slots } : {}),
      extra: (launch.extra ?? []).map((e) => e.name), extraUniforms: launch.extraUniforms ?? [],
    }, library, caps.f16),
  }));
}

/** The pipeline of a shader, made once a device. @throws with the compiler's messages and the line they point at */
export function pipelineOf(device: GPUDevice, shader: Shader): Promise<GPUComputePipeline> {
  const made = pipelines.get(device) ?? new Map<string, Promise<GPUComputePipeline>>();
  pipelines.set(device, made);
  let pipeline = made.get(shader.code);
  if (pipeline === undefined) made.set(shader.code, (pipeline = compile(device, shader)));
  return pipeline;
}

async function compile(device: GPUDevice, shader: Shader): Promise<GPUComputePipeline> {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: shader.code });
  const layout = device.createBindGroupLayout({
    entries: shader.layout.map((access, binding) => ({ binding, visibility: 4, buffer: { type: access === 'uniform' ? 'uniform' : access === 'read' ? 'read-only-storage' : 'storage' } })),
  });
  const [{ messages }, pipeline] = await Promise.all([
    module.getCompilationInfo(),
    device.createComputePipelineAsync({ layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module, entryPoint: 'main' } }).catch((e: unknown) => e as Error),
  ]);
  const error = await device.popErrorScope();
  const worst = messages.find((m) => m.type === 'error');
  if (worst !== undefined) throw new Error(`${shader.name}: ${worst.message}\n  line ${worst.lineNum}: ${shader.code.split('\n')[worst.lineNum - 1]}\n${shader.code}`);
  if (pipeline instanceof Error) throw new Error(`${shader.name}: ${pipeline.message}\n${shader.code}`);
  if (error !== null) throw new Error(`${shader.name}: ${error.message}\n${shader.code}`);
  return pipeline as GPUComputePipeline;
}

/** Bytes that no kernel should mistake for data: NaN as floats, far out as indices. */
const poison = (size: number): Uint8Array<ArrayBuffer> => new Uint8Array(size).fill(0xff);

/**
 * Output tensors of one call. Buffers hold poison around and behind their data, so that a kernel that reads or writes beyond its
 * tensors (further than the padding to 16 bytes) gives wrong results or fails here.
 * @throws when the kernel does not accept the call, on validation errors, on faults, and on writes out of bounds
 */
export async function runGpuKernel(
  device: GPUDevice, caps: GpuCaps, kernel: GpuKernel, call: Call, inputs: readonly (Tensor | null)[], operands: readonly Tensor[] = [],
  tuned: Readonly<Record<string, number>> = {}, packer?: Packer,
): Promise<Tensor[]> {
  if (kernel.accepts && !kernel.accepts(call, caps)) throw new Error(`${kernel.name} does not accept the call`);
  const wanted = call.outputs.map((o) => o);
  const made: GPUBuffer[] = [];
  const buffer = (size: number, usage: number): GPUBuffer => {
    const b = device.createBuffer({ size, usage });
    made.push(b);
    return b;
  };
  const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const place = (bytes: number, content?: Uint8Array): GPUBuffer => {
    const all = poison(padded(bytes) + 2 * GUARD);
    if (content) all.set(content, GUARD);
    const b = buffer(all.byteLength, STORAGE);
    device.queue.writeBuffer(b, 0, all);
    return b;
  };
  const upload = (t: Tensor): { buffer: GPUBuffer; bytes: number } => {
    const bytes = bytesOfTensor(t);
    return { buffer: place(bytes.byteLength, bytes), bytes: bytes.byteLength };
  };
  device.pushErrorScope('validation');
  device.pushErrorScope('out-of-memory');
  try {
    const ins = inputs.map((t) => (t === null ? null : upload(t)));
    const ops = operands.map(upload);
    const outs = wanted.map((o) => (o === null ? null : { buffer: place(bytesOf(o.dtype, sizeOf(o.shape))), bytes: bytesOf(o.dtype, sizeOf(o.shape)) }));
    const scratch = (kernel.scratch?.(call, caps) ?? []).map((bytes) => ({ buffer: place(bytes), bytes }));
    const faults: GPUBuffer[] = [];
    const packs = new Map<string, { buffer: GPUBuffer; bytes: number }>();
    const resolve = (ref: Ref): { buffer: GPUBuffer; bytes: number } => {
      if ('fault' in ref) {
        const flag = place(16, new Uint8Array(16));
        faults.push(flag);
        return { buffer: flag, bytes: 16 };
      }
      if ('input' in ref && ref.pack !== undefined) {
        if (packer === undefined) throw new Error(`${kernel.name} packs input ${ref.input}: give a packer`);
        const key = JSON.stringify(ref);
        let packed = packs.get(key);
        if (packed === undefined) {
          const bytes = packer(ref.pack, inputs[ref.input]!);
          packs.set(key, (packed = { buffer: place(ref.pack.bytes, bytes), bytes: ref.pack.bytes }));
        }
        return packed;
      }
      const found = 'input' in ref ? ins[ref.input] : 'output' in ref ? outs[ref.output] : 'operand' in ref ? ops[ref.operand] : scratch[ref.scratch];
      if (!found) throw new Error(`${kernel.name} binds ${JSON.stringify(ref)}, which is not there`);
      return found;
    };
    const steps: { pipeline: GPUComputePipeline; group: GPUBindGroup; workgroups: Launch['workgroups'] }[] = [];
    for (const { launch, shader } of shadersOf(kernel, call, caps, tuned)) {
      const pipeline = await pipelineOf(device, shader);
      const storage = [...launch.bind, ...(launch.extra ?? []).map((e) => e.bind)].map(resolve);
      const extra = launch.extraUniforms ?? [];
      const blocks = [
        ...(launch.module.uniformBytes > 0 ? [packUniforms(launch.module, launch.uniforms ?? {})] : []),
        ...(extra.length > 0 ? [packUniforms({ name: 'extra', uniforms: extra.map((u, i) => ({ ...u, offset: i * 4, size: 4 })), uniformBytes: padded(extra.length * 4) }, Object.fromEntries(extra.map((u) => [u.name, u.value])))] : []),
      ];
      let nextStorage = 0;
      let nextBlock = 0;
      const entries = shader.layout.map((access, binding): GPUBindGroupEntry => {
        if (access === 'uniform') {
          const words = Uint32Array.from(blocks[nextBlock++]!);
          const b = buffer(padded(words.byteLength), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
          device.queue.writeBuffer(b, 0, words);
          return { binding, resource: { buffer: b } };
        }
        const s = storage[nextStorage++];
        if (s === undefined) throw new Error(`${launch.module.name}: more bindings than it is given`);
        return { binding, resource: { buffer: s.buffer, offset: GUARD, size: padded(s.bytes) } };
      });
      if (nextStorage !== storage.length) throw new Error(`${launch.module.name}: ${storage.length} bindings given, ${nextStorage} in the shader`);
      const max = caps.limits.maxComputeWorkgroupsPerDimension;
      if (launch.workgroups.some((w) => w < 1 || w > max || !Number.isInteger(w))) throw new Error(`${launch.module.name}: workgroups ${launch.workgroups}`);
      steps.push({ pipeline, group: device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }), workgroups: launch.workgroups });
    }
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, workgroups } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
    pass.end();
    const readers = outs.map((o) => {
      if (o === null) return null;
      const size = padded(o.bytes) + 2 * GUARD;
      const b = buffer(size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
      encoder.copyBufferToBuffer(o.buffer, 0, b, 0, size);
      return b;
    });
    const flags = faults.map((f) => {
      const b = buffer(4, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
      encoder.copyBufferToBuffer(f, GUARD, b, 0, 4);
      return b;
    });
    device.queue.submit([encoder.finish()]);
    await Promise.all([...readers, ...flags].map((b) => b?.mapAsync(GPUMapMode.READ)));
    if (flags.some((b) => new Uint32Array(b.getMappedRange())[0] !== 0)) throw new Error(`${kernel.name}: fault`);
    return readers.map((b, n) => {
      if (b === null) return null as unknown as Tensor;
      const all = new Uint8Array(b.getMappedRange().slice(0));
      const { bytes } = outs[n]!;
      const end = GUARD + padded(bytes);
      if (all.subarray(0, GUARD).some((v) => v !== 0xff) || all.subarray(end).some((v) => v !== 0xff)) throw new Error(`${kernel.name} wrote beyond output ${n}`);
      const { dtype, shape } = wanted[n]!;
      return tensorOver(dtype, shape, all.slice(GUARD, GUARD + bytes));
    });
  } finally {
    const memory = await device.popErrorScope();
    const validation = await device.popErrorScope();
    for (const b of made) b.destroy();
    if (validation) throw new Error(`${kernel.name}: ${validation.message}`);
    if (memory) throw new Error(`${kernel.name}: ${memory.message}`);
  }
}

/** A call with facts taken from tensors. `constants` lists inputs whose values the planner would know. */
export function callWith(inputs: readonly (Tensor | null)[], outputs: readonly ({ readonly dtype: Tensor['dtype']; readonly shape: readonly number[] } | null)[], attrs: object = {}, constants: readonly number[] = []): Call {
  return {
    inputs: inputs.map((t, i) => (t === null ? null : { dtype: t.dtype, shape: t.shape, ...(constants.includes(i) ? { constant: { dtype: t.dtype, shape: t.shape, peek: () => t, load: () => t } } : {}) })),
    outputs, attrs,
  };
}

/** A device of Dawn's null backend, posing as hardware with these features: it compiles for what no software adapter has, and runs nothing. */
export async function openNullDevice(features: readonly GPUFeatureName[]): Promise<Gpu> {
  const dawn = (await import('webgpu')) as unknown as { create: (flags: string[]) => GPU };
  const kept = ((globalThis as { nullGpu?: GPU }).nullGpu ??= dawn.create(['backend=null']));
  const adapter = (await kept.requestAdapter())!;
  const device = await adapter.requestDevice({ requiredFeatures: [...features] });
  return { device, caps: { ...capsOf(device, adapter.info), software: false } };
}
