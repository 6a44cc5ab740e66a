import { fail } from '../../core/errors.ts';
import type { Constant } from '../../core/graph.ts';
import type { GpuCaps, GpuStep, Plan } from '../../core/plan.ts';
import { byteLength, isTensor, type Tensor } from '../../core/tensor.ts';
import { type Executable, type Held, hostHeld, type HostWork, type Probe } from '../executable.ts';
import { hostConstants, hostValues } from '../host-values.ts';
import type { Bind, Bound } from './bound.ts';
import { copiedBytes } from './gpu-tensor.ts';
import { pipelineFor } from './pipelines.ts';
import { FAULT_STRIDE, type Faults, type Readback } from './readback.ts';
import type { Recorder } from './recorder.ts';
import { makeCosts } from './slices.ts';
import { padded, upload } from './transfer.ts';
import type { PlacedWeight, WeightStore } from './weights.ts';

/** A value in a buffer of ours, valid until its executable runs again; or in one of the caller's. */
export interface GpuRef {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly callers?: true;
}

/** What the executables of a session share. */
export interface GpuAround {
  readonly device: GPUDevice;
  readonly caps: GpuCaps;
  readonly made: { buffers: number; pipelines: number; bindGroups: number; runs: number };
  /** A copy within the device, counted. */
  readonly copy: (from: GpuRef, to: GpuRef, size: number) => void;
  readonly recorder: Recorder;
  readonly readback: Readback;
  readonly weights: WeightStore;
  readonly create: (size: number, usage: number, label: string) => GPUBuffer;
  readonly destroy: (b: GPUBuffer) => void;
  /** @throws device_lost */
  readonly checkAlive: () => void;
  /** Milliseconds of GPU time to submit at once; 0: a plan whole. */
  readonly sliceOf: (signal: AbortSignal | undefined) => number;
  /** What the device says of commands whose buffers are the caller's; waited for with the results. */
  readonly checks: Promise<GPUError | null>[];
}

/** @throws out_of_memory, device_fault, device_lost */
export async function bindPlan(
  around: GpuAround,
  plan: Plan,
  constants: readonly Constant[],
  work: HostWork,
): Promise<Executable> {
  const { device, made, recorder, readback, weights, create, destroy, checkAlive } = around;
  checkAlive();
  refuseWide(plan, around.caps);
  recorder.flush(); // ours to wait for, not others'
  const pipelines = plan.shaders.map((s) =>
    pipelineFor(device, s, () => {
      made.pipelines++;
    }),
  );
  // Compiling goes on while weights are read and uploaded; a failure is reported below.
  for (const p of pipelines) p.catch(() => undefined);
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('validation');
  const placed: PlacedWeight[] = await weights.place(plan.weights, constants, work);
  const slabs = plan.slabs.map((size, i) =>
    create(Math.max(16, size), GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST, `slab ${i}`),
  );
  const faults: Faults | null =
    plan.faults.length === 0
      ? null
      : {
          buffer: create(
            plan.faults.length * FAULT_STRIDE,
            GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
            'faults',
          ),
          nodes: plan.faults,
        };
  const uniforms = uniformBuffer(device, plan, around.caps, create);
  const host = hostValues(plan, await hostConstants(plan, constants), work);
  const ready = await Promise.all(pipelines).catch(async (e: unknown) => {
    await Promise.all([device.popErrorScope(), device.popErrorScope()]);
    throw e;
  });
  const locate = (v: number): GpuRef | null => {
    const { home } = plan.values[v]!;
    switch (home.in) {
      case 'slab':
        return { buffer: slabs[home.slab]!, offset: home.offset };
      case 'weights':
        return placed[home.weight]!;
      case 'view':
        return locate(home.of);
      default:
        return null;
    }
  };
  const refs = plan.values.map((_, v) => locate(v));
  const rootOf = (v: number): number => {
    const { home } = plan.values[v]!;
    return home.in === 'view' ? rootOf(home.of) : v;
  };
  /**
   * The bind group of a step whose uniforms begin at `block`, with some values elsewhere, by the value that owns the
   * memory.
   */
  const groupOf = (step: GpuStep, block: number, at?: ReadonlyMap<number, GpuRef>): GPUBindGroup => {
    const entries = step.bind.map((b, binding): GPUBindGroupEntry => {
      if ('uniform' in b)
        return {
          binding,
          resource: {
            buffer: uniforms!.buffer,
            offset: (block + b.uniform) * uniforms!.stride,
            size: step.uniforms[b.uniform]!.length * 4,
          },
        };
      if ('fault' in b)
        return { binding, resource: { buffer: faults!.buffer, offset: b.fault * FAULT_STRIDE, size: 16 } };
      if ('weight' in b)
        return {
          binding,
          resource: {
            buffer: placed[b.weight]!.buffer,
            offset: placed[b.weight]!.offset,
            size: padded(plan.weights[b.weight]!.bytes),
          },
        };
      const ref =
        at?.get(rootOf(b.value)) ??
        refs[b.value] ??
        fail('internal', `${step.kernel}: value ${plan.values[b.value]!.name} is not on the device`);
      return {
        binding,
        resource: { buffer: ref.buffer, offset: ref.offset, size: padded(byteLength(plan.values[b.value]!)) },
      };
    });
    made.bindGroups++;
    return device.createBindGroup({ layout: ready[step.shader]!.layout, entries, label: step.node });
  };
  let blocks = 0;
  const dispatches = plan.steps.map((step) => {
    if (step.run !== 'gpu') return null;
    const block = blocks;
    blocks += step.uniforms.length;
    return {
      pipeline: ready[step.shader]!.pipeline,
      block,
      group: groupOf(step, block),
      x: step.workgroups[0],
      y: step.workgroups[1],
      z: step.workgroups[2],
    };
  });
  let bind: Bind | null = null;
  const placeOf = (v: number, bound: Bound | null): GpuRef | null => bound?.at.get(rootOf(v)) ?? refs[v] ?? null;
  const validation = await device.popErrorScope();
  const memory = await device.popErrorScope();
  checkAlive();
  if (memory)
    fail(
      'out_of_memory',
      `the GPU has no room for this plan (${plan.peakBytes} bytes of activations): ${memory.message}`,
    );
  if (validation) fail('device_fault', `the GPU refuses this plan: ${validation.message}`);
  const costs = makeCosts(
    device,
    dispatches.map((d) => (d === null ? 0 : d.x * d.y * d.z)),
  );

  /** Copies within the device come behind writes to the queue: those are submitted first. */
  async function takeFeeds(inputs: readonly Held[], bound: Bound | null): Promise<void> {
    const copies: [from: GpuRef, to: GpuRef, size: number][] = [];
    for (const [i, held] of inputs.entries()) {
      const v = plan.inputs[i]!;
      const ref = refs[v] ?? null;
      if (held.on === 'host') {
        if (ref === null) host.set(v, held.value);
        else if (isTensor(held.value)) upload(device, ref, held.value);
        else fail('type_mismatch', `input ${plan.values[v]!.name} must be a tensor`);
      } else if (ref === null)
        host.set(v, (await readback.read([{ ...(held.ref as GpuRef), dtype: held.dtype, shape: held.shape }]))[0]!);
      else if (byteLength(held) > 0 && !bound?.at.has(v)) copies.push([held.ref as GpuRef, ref, copiedBytes(held)]);
    }
    for (const copy of copies) around.copy(...copy);
  }

  async function replay(
    bound: Bound | null,
    slice: number,
    signal: AbortSignal | undefined,
    probe: Probe | undefined,
  ): Promise<void> {
    let pass: GPUComputePassEncoder | null = null;
    let last: GPUComputePipeline | null = null;
    let first = 0;
    let spent = 0;
    /** Submits what was recorded up to step `next`, and waits for the turn of what follows. */
    const cut = (next: number): Promise<void> | null => {
      if (slice > 0) recorder.submitted = () => costs.submitted(first, next);
      recorder.flush();
      first = next;
      spent = 0;
      return slice > 0 ? costs.enter() : null;
    };
    if (slice > 0) {
      const turn = costs.enter();
      if (turn !== null) await turn;
    }
    try {
      if (signal?.aborted) signal.throwIfAborted();
      // Words that nobody has read yet are kept: they tell of an earlier run.
      if (faults !== null && !readback.watched.has(faults)) recorder.encoder().clearBuffer(faults.buffer);
      for (let i = 0; i < plan.steps.length; i++) {
        const d = dispatches[i];
        if (d != null) {
          if (bound?.skipped.has(i)) continue;
          const group = bound?.groups.get(i) ?? d.group;
          if (probe) {
            recorder.flush();
            await probe.gpu(i, (p) => {
              p.setPipeline(d.pipeline);
              p.setBindGroup(0, group);
              p.dispatchWorkgroups(d.x, d.y, d.z);
            });
            continue;
          }
          if (slice > 0) {
            const cost = costs.of(i);
            if (spent > 0 && spent + cost > slice) {
              const turn = cut(i);
              if (turn !== null) await turn;
              if (signal?.aborted) signal.throwIfAborted();
            }
            spent += cost;
          }
          if (pass === null || pass !== recorder.pass) [pass, last] = [recorder.begin(), null];
          if (d.pipeline !== last) pass.setPipeline((last = d.pipeline));
          pass.setBindGroup(0, group);
          if (d.y === 1 && d.z === 1) pass.dispatchWorkgroups(d.x);
          else pass.dispatchWorkgroups(d.x, d.y, d.z);
          continue;
        }
        const step = plan.steps[i]!;
        switch (step.run) {
          case 'host': {
            const pending = probe ? probe.host(i, () => host.run(step)) : host.run(step);
            if (pending) await pending;
            break;
          }
          case 'upload': {
            const turn = cut(i);
            if (turn !== null) await turn;
            upload(device, placeOf(step.to, bound)!, host.get(step.from) as Tensor);
            break;
          }
          case 'download': {
            const turn = cut(i);
            if (turn !== null) await turn;
            const { dtype, shape } = plan.values[step.from]!;
            const [t] = await readback.read([{ ...placeOf(step.from, bound)!, dtype, shape }]);
            host.set(step.to, t!);
            if (signal?.aborted) signal.throwIfAborted();
            break;
          }
          default:
            fail('internal', `a ${step.run} step on WebGPU`);
        }
      }
    } catch (e) {
      recorder.drop();
      if (slice > 0) costs.leave();
      throw e;
    }
    // What is left is submitted with the copies of the results.
    if (slice > 0) recorder.submitted = () => costs.submitted(first, plan.steps.length);
    if (faults !== null) readback.watched.add(faults);
  }

  return {
    async run(inputs, signal, probe, targets) {
      checkAlive();
      made.runs++;
      recorder.flush();
      try {
        recorder.checks = null;
        const bound =
          targets || inputs.some((h) => h.on === 'device')
            ? (bind ??= (await import('./bound.ts')).makeBind(around, plan, refs, (i, at) =>
                groupOf(plan.steps[i] as GpuStep, dispatches[i]!.block, at),
              ))(inputs, targets)
            : null;
        await takeFeeds(inputs, bound);
        await replay(bound, probe ? 0 : around.sliceOf(signal), signal, probe);
        return plan.outputs.map((v): Held => {
          const ref = placeOf(v, bound);
          return ref === null
            ? hostHeld(host.get(v))
            : { on: 'device', dtype: plan.values[v]!.dtype, shape: plan.values[v]!.shape, ref };
        });
      } finally {
        host.clear();
      }
    },
    destroy() {
      for (const s of slabs) destroy(s);
      if (uniforms) destroy(uniforms.buffer);
      if (faults) {
        readback.watched.delete(faults);
        destroy(faults.buffer);
      }
      weights.drop(placed);
      host.clear();
    },
  };
}

/** What cannot be bound is refused before its bytes are read. @throws device_limit */
function refuseWide(plan: Plan, { limits }: GpuCaps): void {
  const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const wide = plan.weights.findIndex((w) => padded(w.bytes) > most);
  if (wide < 0) return;
  const name = plan.values.find(({ home }) => home.in === 'weights' && home.weight === wide)?.name;
  const node = plan.steps.find((s) => s.run === 'gpu' && s.bind.some((b) => 'weight' in b && b.weight === wide)) as
    | GpuStep
    | undefined;
  fail(
    'device_limit',
    `${name ?? `a weight of ${node?.node}`} takes ${plan.weights[wide]!.bytes} bytes on the device, which binds ${most} at once: use a smaller or quantised model, or another device`,
  );
}

/** All uniform blocks of a plan in one buffer, written once. */
function uniformBuffer(
  device: GPUDevice,
  plan: Plan,
  caps: GpuCaps,
  create: GpuAround['create'],
): { buffer: GPUBuffer; stride: number } | null {
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
