/** One GPU kernel on one call, without a session: for tuning, and for the tests of kernels. */
import type { Call, GpuKernel, Launch, Ref } from '../../kernels/define.ts';
import { assemble, type Shader } from '../../wgsl/assemble.ts';
import { library } from '../../wgsl/index.gen.ts';
import { packUniforms, packWords } from '../3-plan/uniforms.ts';
import { pipelineFor } from '../4-run/webgpu/pipelines.ts';
import { padded } from '../4-run/webgpu/transfer.ts';
import { bytesOf } from '../core/dtype.ts';
import type { Fact } from '../core/graph.ts';
import type { GpuCaps } from '../core/plan.ts';
import { bytesOfTensor, sizeOf, type Tensor, tensorOver } from '../core/tensor.ts';

/** Values of a kernel's `tunables`; what is left out has the kernel's default. */
export type Params = Readonly<Record<string, number>>;
/** Makes the bytes of a packed constant. */
export type Packer = (pack: NonNullable<Extract<Ref, { input: number }>['pack']>, t: Tensor) => Uint8Array;

/** Bytes before and behind each buffer's data that nobody may write. */
const GUARD = 256;
/** Bytes that no kernel should mistake for data: NaN as floats, far out as indices. */
const poison = (size: number): Uint8Array<ArrayBuffer> => new Uint8Array(size).fill(0xff);
const byteSize = (f: Fact): number => bytesOf(f.dtype, sizeOf(f.shape));

/** The launches of a kernel as shaders: what a plan would compile. */
export function shadersOf(
  kernel: GpuKernel,
  call: Call,
  caps: GpuCaps,
  tuned: Params = {},
): { launch: Launch; shader: Shader }[] {
  const launches = ([] as Launch[]).concat(kernel.launch(call, caps, tuned) as Launch | Launch[]);
  return launches.map((launch) => ({
    launch,
    shader: assemble(
      launch.module,
      {
        types: launch.types,
        ...(launch.params ? { params: launch.params } : {}),
        ...(launch.slots ? { slots: launch.slots } : {}),
        extra: (launch.extra ?? []).map((e) => e.name),
        extraUniforms: launch.extraUniforms ?? [],
      },
      library,
      caps.f16,
    ),
  }));
}

interface Slot {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
}

/** Device memory of one call, which all kernels that are tried on it share. Data have poison around and behind them. */
export interface CallMemory {
  readonly device: GPUDevice;
  readonly call: Call;
  slot(ref: Ref, scratch: readonly number[]): Slot;
  /** A buffer that lives as long as this memory. */
  uniform(words: readonly number[]): GPUBuffer;
  /** Fills outputs with poison and clears the fault words. */
  reset(): void;
  /** The outputs as they are now. @throws when a fault word is set, or something outside an output was written */
  read(who: string): Promise<Tensor[]>;
  destroy(): void;
}

/** @throws out_of_memory and the like only when `read`: WebGPU reports errors late */
export function callMemory(
  device: GPUDevice,
  call: Call,
  inputs: readonly (Tensor | null)[],
  operands: readonly Tensor[],
  packer?: Packer,
): CallMemory {
  const made: GPUBuffer[] = [];
  const create = (size: number, usage: number): GPUBuffer => {
    const b = device.createBuffer({ size, usage });
    made.push(b);
    return b;
  };
  const fill = ({ buffer, bytes }: Slot, content?: Uint8Array): void => {
    const all = poison(padded(bytes) + 2 * GUARD);
    if (content) all.set(content, GUARD);
    device.queue.writeBuffer(buffer, 0, all);
  };
  const place = (bytes: number, content?: Uint8Array): Slot => {
    const slot = {
      buffer: create(
        padded(bytes) + 2 * GUARD,
        GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
      ),
      bytes,
    };
    fill(slot, content);
    return slot;
  };
  const upload = (t: Tensor): Slot => {
    const bytes = bytesOfTensor(t);
    return place(bytes.byteLength, bytes);
  };
  const kept = new Map<string, Slot>();
  const once = (key: string, make: () => Slot): Slot => {
    let slot = kept.get(key);
    if (slot === undefined) kept.set(key, (slot = make()));
    return slot;
  };
  const outs = call.outputs.map((o) => o && place(byteSize(o)));
  const flag = once('fault', () => place(16, new Uint8Array(16)));
  return {
    device,
    call,
    slot(ref, scratch) {
      if ('fault' in ref) return flag;
      if ('output' in ref) return outs[ref.output] ?? missing(ref);
      if ('operand' in ref) return once(`operand ${ref.operand}`, () => upload(operands[ref.operand] ?? missing(ref)));
      if ('scratch' in ref)
        return once(`scratch ${ref.scratch} ${scratch[ref.scratch]}`, () =>
          place(scratch[ref.scratch] ?? missing(ref)),
        );
      const tensor = inputs[ref.input] ?? missing(ref);
      const { pack } = ref;
      if (pack === undefined) return once(`input ${ref.input}`, () => upload(tensor));
      return once(JSON.stringify(ref), () => place(pack.bytes, (packer ?? missing(ref))(pack, tensor)));
    },
    uniform(words) {
      const data = Uint32Array.from(words);
      const b = create(padded(data.byteLength), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
      device.queue.writeBuffer(b, 0, data);
      return b;
    },
    reset() {
      for (const o of outs) if (o) fill(o);
      fill(flag, new Uint8Array(16));
    },
    async read(who) {
      const encoder = device.createCommandEncoder();
      const copies = [...outs, flag].map((o) => {
        if (o === null) return null;
        const b = device.createBuffer({
          size: o.buffer.size,
          usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
        });
        encoder.copyBufferToBuffer(o.buffer, 0, b, 0, o.buffer.size);
        return b;
      });
      device.queue.submit([encoder.finish()]);
      try {
        await Promise.all(copies.map((b) => b?.mapAsync(GPUMapMode.READ)));
        if (new Uint32Array(copies.at(-1)!.getMappedRange(), GUARD, 1)[0] !== 0) throw new Error(`${who}: fault`);
        return call.outputs.map((fact, n): Tensor => {
          if (fact === null) return null as unknown as Tensor;
          const all = new Uint8Array(copies[n]!.getMappedRange().slice(0));
          const { bytes } = outs[n]!;
          if (
            all.subarray(0, GUARD).some((v) => v !== 0xff) ||
            all.subarray(GUARD + padded(bytes)).some((v) => v !== 0xff)
          )
            throw new Error(`${who} wrote beyond output ${n}`);
          return tensorOver(fact.dtype, fact.shape, all.slice(GUARD, GUARD + bytes));
        });
      } finally {
        for (const b of copies) b?.destroy();
      }
    },
    destroy: () => made.forEach((b) => b.destroy()),
  };
}
const missing = (ref: Ref): never => {
  throw new Error(`a launch binds ${JSON.stringify(ref)}, which is not there`);
};

/**
 * Records the dispatches of a kernel on the call of `memory`. @throws with the compiler's messages; on launches beyond
 * the device's limits
 */
export async function bindKernel(
  memory: CallMemory,
  caps: GpuCaps,
  kernel: GpuKernel,
  tuned: Params = {},
): Promise<(pass: GPUComputePassEncoder) => void> {
  const { device, call } = memory;
  const scratch = kernel.scratch?.(call, caps, tuned) ?? [];
  const steps: { pipeline: GPUComputePipeline; group: GPUBindGroup; workgroups: Launch['workgroups'] }[] = [];
  for (const { launch, shader } of shadersOf(kernel, call, caps, tuned)) {
    const { pipeline, layout } = await pipelineFor(device, shader, () => undefined);
    const storage = [...launch.bind, ...(launch.extra ?? []).map((e) => e.bind)].map((ref) =>
      memory.slot(ref, scratch),
    );
    const extra = launch.extraUniforms ?? [];
    const blocks = [
      ...(launch.module.uniformBytes > 0 ? [packUniforms(launch.module, launch.uniforms ?? {})] : []),
      ...(extra.length > 0 ? [packWords(extra)] : []),
    ];
    let nextStorage = 0;
    let nextBlock = 0;
    const entries = shader.layout.map((access, binding): GPUBindGroupEntry => {
      if (access === 'uniform') return { binding, resource: { buffer: memory.uniform(blocks[nextBlock++]!) } };
      const s = storage[nextStorage++];
      if (s === undefined) throw new Error(`${launch.module.name}: more bindings than it is given`);
      return { binding, resource: { buffer: s.buffer, offset: GUARD, size: padded(s.bytes) } };
    });
    if (nextStorage !== storage.length)
      throw new Error(`${launch.module.name}: ${storage.length} bindings given, ${nextStorage} in the shader`);
    const max = caps.limits.maxComputeWorkgroupsPerDimension;
    if (launch.workgroups.some((w) => w < 1 || w > max || !Number.isInteger(w)))
      throw new Error(`${launch.module.name}: workgroups ${launch.workgroups}`);
    steps.push({ pipeline, group: device.createBindGroup({ layout, entries }), workgroups: launch.workgroups });
  }
  return (pass) => {
    for (const { pipeline, group, workgroups } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
  };
}

/**
 * Runs recorded dispatches once, and gives what they leave in the outputs of `memory`. @throws on validation errors,
 * faults and writes out of bounds
 */
export async function runOnce(
  memory: CallMemory,
  who: string,
  make: () => Promise<(pass: GPUComputePassEncoder) => void>,
): Promise<Tensor[]> {
  const { device } = memory;
  device.pushErrorScope('validation');
  device.pushErrorScope('out-of-memory');
  let problem: unknown;
  let results: Tensor[] = [];
  try {
    const record = await make();
    memory.reset();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    record(pass);
    pass.end();
    device.queue.submit([encoder.finish()]);
    results = await memory.read(who);
  } catch (e) {
    problem = e;
  }
  const memoryError = await device.popErrorScope();
  const validation = await device.popErrorScope();
  const error = validation ?? memoryError;
  if (error) throw new Error(`${who}: ${error.message}`);
  if (problem !== undefined) throw problem as Error;
  return results;
}
