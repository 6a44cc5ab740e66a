import { fail, SardonyxError } from '../../core/errors.ts';
import type { Constant } from '../../core/graph.ts';
import type { GpuCaps, Plan } from '../../core/plan.ts';
import { byteLength, isTensor, type Tensor, tensorOver, type Value } from '../../core/tensor.ts';
import { type Backend, type Executable, type Held, hostHeld, type HostWork } from '../executable.ts';
import { hostConstants, hostValues } from '../host-values.ts';
import { capsOf, requestGpuDevice } from './device.ts';
import { pipelineFor } from './pipelines.ts';
import { padded, upload } from './transfer.ts';
import { type PlacedWeight, weightStore } from './weights.ts';

/** A value in a buffer of ours: valid until its executable runs again. */
interface GpuRef { readonly buffer: GPUBuffer; readonly offset: number }

/** Words that dispatches set when they meet a bad value, each in a binding of its own. */
interface Faults { readonly buffer: GPUBuffer; readonly nodes: readonly string[] }
const FAULT_STRIDE = 256;

type Counters = { buffers: number; pipelines: number; bindGroups: number; runs: number };

/** The GPU path. `device`: the caller's, never destroyed by us; without it one that is shared by all sessions. */
export async function webgpuBackend(own?: GPUDevice, options: { readonly allowSoftware?: boolean } = {}): Promise<Backend> {
  const { device, caps } = own ? { device: own, caps: capsOf(own) } : await requestGpuDevice({ allowSoftware: options.allowSoftware ?? true });
  return makeBackend(device, caps);
}

function makeBackend(device: GPUDevice, caps: GpuCaps): Backend {
  const made: Counters = { buffers: 0, pipelines: 0, bindGroups: 0, runs: 0 };
  let bytes = 0;
  let lost: string | null = null;
  const lostReason = device.lost.then(({ reason, message }) => (lost = `${reason}: ${message}`));
  const checkAlive = (): void => { if (lost !== null) fail('device_lost', `the GPU device is lost (${lost}); load the session again`); };

  const createBuffer = (size: number, usage: number, label: string): GPUBuffer => {
    made.buffers++;
    bytes += size;
    return device.createBuffer({ size, usage, label });
  };
  const destroyBuffer = (buffer: GPUBuffer): void => {
    bytes -= buffer.size;
    buffer.destroy();
  };
  const weights = weightStore(device, caps, createBuffer, destroyBuffer);
  let staging: GPUBuffer | null = null;
  /** Fault words of runs whose results have not been read yet. */
  const watched = new Set<Faults>();

  /** There is one staging buffer: reads take turns. */
  let reading: Promise<unknown> = Promise.resolve();
  function readBack(wanted: Parameters<typeof readNow>[0]): Promise<Tensor[]> {
    const turn = reading.then(() => readNow(wanted), () => readNow(wanted));
    reading = turn;
    return turn;
  }
  /** Copies ranges of our buffers into one staging buffer, and maps it once. */
  async function readNow(wanted: readonly { buffer: GPUBuffer; offset: number; dtype: Tensor['dtype']; shape: readonly number[] }[]): Promise<Tensor[]> {
    checkAlive();
    const faults = [...watched];
    watched.clear();
    const results = await copyBack([...wanted, ...faults.map((f) => ({ buffer: f.buffer, offset: 0, dtype: 'uint32' as const, shape: [f.buffer.size / 4] }))]);
    const found = faults.flatMap((f, i) => f.nodes.filter((_, k) => (results[wanted.length + i]!.data as Uint32Array)[(k * FAULT_STRIDE) / 4] !== 0));
    if (found.length > 0) throw new SardonyxError('value_invalid', "an index is outside its tensor's bounds", [found[0]!]);
    return results.slice(0, wanted.length);
  }
  async function copyBack(wanted: readonly { buffer: GPUBuffer; offset: number; dtype: Tensor['dtype']; shape: readonly number[] }[]): Promise<Tensor[]> {
    let total = 0;
    const parts = wanted.map((w) => {
      const at = total;
      total += Math.ceil(byteLength(w) / 16) * 16;
      return at;
    });
    if (total === 0) return wanted.map((w) => tensorOver(w.dtype, w.shape, new Uint8Array(0)));
    if (staging === null || staging.size < total) {
      if (staging !== null) destroyBuffer(staging);
      staging = createBuffer(total, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST, 'readback');
    }
    const encoder = device.createCommandEncoder({ label: 'readback' });
    wanted.forEach((w, i) => {
      const size = Math.ceil(byteLength(w) / 4) * 4;
      if (size > 0) encoder.copyBufferToBuffer(w.buffer, w.offset, staging!, parts[i]!, size);
    });
    device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, total);
    } catch (cause) {
      checkAlive();
      throw new SardonyxError(lost === null ? 'device_fault' : 'device_lost', `results could not be read back: ${(cause as Error).message}`, [], { cause });
    }
    const mapped = new Uint8Array(staging.getMappedRange(0, total));
    const out = wanted.map((w, i) => tensorOver(w.dtype, w.shape, mapped.slice(parts[i]!, parts[i]! + byteLength(w))));
    staging.unmap();
    return out;
  }

  async function instantiate(plan: Plan, constants: readonly Constant[], work: HostWork): Promise<Executable> {
    checkAlive();
    const pipelines = plan.shaders.map((s) => pipelineFor(device, s, () => { made.pipelines++; }));
    // Compiling goes on while weights are read and uploaded; a failure is reported below.
    for (const p of pipelines) p.catch(() => undefined);
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation');
    const placed: PlacedWeight[] = await weights.place(plan.weights, constants, work);
    const slabs = plan.slabs.map((size, i) => createBuffer(Math.max(16, size), GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST, `slab ${i}`));
    const faults: Faults | null = plan.faults.length === 0 ? null : { buffer: createBuffer(plan.faults.length * FAULT_STRIDE, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST, 'faults'), nodes: plan.faults };
    const uniforms = uniformBuffer(device, plan, caps, createBuffer);
    const host = hostValues(plan, await hostConstants(plan, constants), work);
    const ready = await Promise.all(pipelines).catch(async (e: unknown) => {
      await Promise.all([device.popErrorScope(), device.popErrorScope()]);
      throw e;
    });
    const locate = (v: number): GpuRef | null => {
      const { home } = plan.values[v]!;
      switch (home.in) {
        case 'slab': return { buffer: slabs[home.slab]!, offset: home.offset };
        case 'weights': return placed[home.weight]!;
        case 'view': return locate(home.of);
        default: return null;
      }
    };
    const refs = plan.values.map((_, v) => locate(v));
    let block = 0;
    const dispatches = plan.steps.map((step) => {
      if (step.run !== 'gpu') return null;
      const { pipeline, layout } = ready[step.shader]!;
      const entries = step.bind.map((b, binding): GPUBindGroupEntry => {
        if ('uniform' in b) return { binding, resource: { buffer: uniforms!.buffer, offset: (block + b.uniform) * uniforms!.stride, size: step.uniforms[b.uniform]!.length * 4 } };
        if ('fault' in b) return { binding, resource: { buffer: faults!.buffer, offset: b.fault * FAULT_STRIDE, size: 16 } };
        if ('weight' in b) return { binding, resource: { buffer: placed[b.weight]!.buffer, offset: placed[b.weight]!.offset, size: padded(plan.weights[b.weight]!.bytes) } };
        const ref = refs[b.value] ?? fail('internal', `${step.kernel}: value ${plan.values[b.value]!.name} is not on the device`);
        return { binding, resource: { buffer: ref.buffer, offset: ref.offset, size: padded(byteLength(plan.values[b.value]!)) } };
      });
      block += step.uniforms.length;
      made.bindGroups++;
      return { pipeline, group: device.createBindGroup({ layout, entries, label: step.node }), x: step.workgroups[0], y: step.workgroups[1], z: step.workgroups[2] };
    });
    const validation = await device.popErrorScope();
    const memory = await device.popErrorScope();
    if (memory) fail('out_of_memory', `the GPU has no room for this plan (${plan.peakBytes} bytes of activations): ${memory.message}`);
    if (validation) fail('device_fault', `the GPU refuses this plan: ${validation.message}`);

    const flush = (encoder: GPUCommandEncoder, pass: GPUComputePassEncoder): void => {
      pass.end();
      device.queue.submit([encoder.finish()]);
    };
    return {
      async run(inputs, signal, probe) {
        checkAlive();
        made.runs++;
        for (const [i, held] of inputs.entries()) {
          const v = plan.inputs[i]!;
          if (held.on === 'device' && refs[v] == null) host.set(v, (await readBack([{ ...(held.ref as GpuRef), dtype: held.dtype, shape: held.shape }]))[0]!);
          else feed(device, plan, v, held, host, refs);
        }
        let encoder: GPUCommandEncoder | null = null;
        let pass: GPUComputePassEncoder | null = null;
        let last: GPUComputePipeline | null = null;
        let cleared = false;
        for (let i = 0; i < plan.steps.length; i++) {
          const d = dispatches[i];
          if (d != null) {
            if (probe) {
              await probe.gpu(i, (p) => {
                p.setPipeline(d.pipeline);
                p.setBindGroup(0, d.group);
                p.dispatchWorkgroups(d.x, d.y, d.z);
              });
              continue;
            }
            if (pass === null) {
              encoder = device.createCommandEncoder();
              if (faults !== null && !cleared) encoder.clearBuffer(faults.buffer);
              cleared = true;
              pass = encoder.beginComputePass();
              last = null;
            }
            if (d.pipeline !== last) pass.setPipeline((last = d.pipeline));
            pass.setBindGroup(0, d.group);
            pass.dispatchWorkgroups(d.x, d.y, d.z);
            continue;
          }
          const step = plan.steps[i]!;
          switch (step.run) {
            case 'host': {
              const pending = probe ? probe.host(i, () => host.run(step)) : host.run(step);
              if (pending) await pending;
              break;
            }
            case 'upload':
              // Writes are ordered with submits: what was recorded before must be submitted before.
              if (pass !== null) { flush(encoder!, pass); pass = null; }
              upload(device, refs[step.to]!, host.get(step.from) as Tensor);
              break;
            case 'download': {
              if (pass !== null) { flush(encoder!, pass); pass = null; }
              const { dtype, shape } = plan.values[step.from]!;
              const [t] = await readBack([{ ...refs[step.from]!, dtype, shape }]);
              host.set(step.to, t!);
              if (signal?.aborted) signal.throwIfAborted();
              break;
            }
            default: fail('internal', `a ${step.run} step on WebGPU`);
          }
        }
        if (pass !== null) flush(encoder!, pass);
        if (faults !== null && cleared) watched.add(faults);
        const outputs = plan.outputs.map((v): Held => {
          const ref = refs[v];
          return ref === null || ref === undefined ? hostHeld(host.get(v)) : { on: 'device', dtype: plan.values[v]!.dtype, shape: plan.values[v]!.shape, ref };
        });
        host.clear();
        return outputs;
      },
      destroy() {
        for (const s of slabs) destroyBuffer(s);
        if (uniforms) destroyBuffer(uniforms.buffer);
        if (faults) {
          watched.delete(faults);
          destroyBuffer(faults.buffer);
        }
        weights.drop(placed);
        host.clear();
      },
    };
  }

  return {
    caps, made, instantiate, gpu: device,
    get bytes() { return bytes; },
    lost: lostReason,
    async read(held) {
      const onDevice = held.flatMap((h, i) => (h.on === 'device' ? [{ i, ...(h.ref as GpuRef), dtype: h.dtype, shape: h.shape }] : []));
      const tensors = onDevice.length === 0 ? [] : await readBack(onDevice);
      const out: Value[] = held.map((h) => (h.on === 'host' ? h.value : tensors[0]!));
      onDevice.forEach((d, k) => { out[d.i] = tensors[k]!; });
      return out;
    },
    release() {
      if (staging !== null) destroyBuffer(staging);
      staging = null;
      weights.release();
    },
  };
}

/** All uniform blocks of a plan in one buffer, written once. */
function uniformBuffer(device: GPUDevice, plan: Plan, caps: GpuCaps, create: (size: number, usage: number, label: string) => GPUBuffer): { buffer: GPUBuffer; stride: number } | null {
  const blocks = plan.steps.flatMap((s) => (s.run === 'gpu' ? s.uniforms : []));
  if (blocks.length === 0) return null;
  const align = Math.max(256, caps.limits.minStorageBufferOffsetAlignment);
  const stride = Math.ceil((Math.max(...blocks.map((b) => b.length)) * 4) / align) * align;
  const words = new Uint32Array((stride / 4) * blocks.length);
  blocks.forEach((b, i) => words.set(b, (i * stride) / 4));
  const buffer = create(words.byteLength, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST, 'uniforms');
  device.queue.writeBuffer(buffer, 0, words);
  return { buffer, stride };
}

function feed(device: GPUDevice, plan: Plan, v: number, held: Held, host: { set(v: number, value: Value): void }, refs: readonly (GpuRef | null)[]): void {
  const ref = refs[v] ?? null;
  if (held.on === 'host') {
    if (ref === null) host.set(v, held.value);
    else if (isTensor(held.value)) upload(device, ref, held.value);
    else fail('type_mismatch', `input ${plan.values[v]!.name} must be a tensor`);
    return;
  }
  const from = held.ref as GpuRef;
  const size = Math.ceil(byteLength(held) / 4) * 4;
  if (size === 0) return;
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(from.buffer, from.offset, ref!.buffer, ref!.offset, size);
  device.queue.submit([encoder.finish()]);
}
