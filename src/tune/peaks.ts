/** What a GPU can do at most, measured: the roofline that kernels are held against. */
import { assemble } from '../../wgsl/assemble.ts';
import { library, peakCopy, peakFma } from '../../wgsl/index.gen.ts';
import { packUniforms } from '../3-plan/uniforms.ts';
import { pipelineFor } from '../4-run/webgpu/pipelines.ts';
import type { GpuCaps } from '../core/plan.ts';
import { makeTimer, type Recorded, type Timer } from './timer.ts';

/**
 * Billions of multiplications and additions a second in registers, and of bytes a second read and written by a copy.
 */
export interface Peaks {
  readonly gflops: number;
  readonly copyGBs: number;
}

const ROUNDS = 12;
const STEPS = 64;
/** Per step of the shader: four rows of eight chains of four, a multiplication and an addition each. */
const FLOPS_A_STEP = 4 * 8 * 4 * 2;

export interface Gauge {
  readonly timer: Timer;
  readonly peaks: Peaks;
}

/** Measures the peaks of a device, and finds a clock for it. Takes about a second. */
export async function gauge(device: GPUDevice, caps: GpuCaps): Promise<Gauge> {
  const made: GPUBuffer[] = [];
  const buffer = (size: number, usage: number): GPUBuffer => {
    const b = device.createBuffer({ size, usage });
    made.push(b);
    return b;
  };
  const bind = async (
    module: typeof peakCopy | typeof peakFma,
    params: Record<string, number>,
    uniforms: Record<string, number>,
    storage: readonly GPUBuffer[],
    workgroups: readonly [number, number],
  ): Promise<Recorded> => {
    const { pipeline, layout } = await pipelineFor(
      device,
      assemble(module, { types: {}, params }, library, false),
      () => undefined,
    );
    const words = Uint32Array.from(packUniforms(module, uniforms));
    const block = buffer(16, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    device.queue.writeBuffer(block, 0, words);
    const group = device.createBindGroup({
      layout,
      entries: [...storage, block].map((b, binding) => ({ binding, resource: { buffer: b } })),
    });
    return (pass) => {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    };
  };
  const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
  const WG = caps.software ? 64 : 256;
  const invocations = caps.software ? 1 << 12 : 1 << 20;
  const bytes = Math.min(
    caps.software ? 1 << 25 : 1 << 28,
    caps.limits.maxStorageBufferBindingSize,
    caps.limits.maxBufferSize,
  );
  try {
    const compute = await bind(
      peakFma,
      { WG, STEPS },
      { factor: 0.999, addend: 0.001 },
      [buffer(invocations * 16, STORAGE)],
      [invocations / WG, 1],
    );
    const quads = Math.floor(bytes / 16);
    const groups = Math.ceil(quads / WG);
    const across = Math.min(groups, caps.limits.maxComputeWorkgroupsPerDimension);
    const [from, to] = [buffer(quads * 16, STORAGE), buffer(quads * 16, STORAGE)];
    for (
      let at = 0, noise = new Uint32Array(1 << 20).map((_, i) => Math.imul(i, 2654435761));
      at < quads * 16;
      at += noise.byteLength
    )
      device.queue.writeBuffer(from, at, noise, 0, Math.min(noise.length, (quads * 16 - at) / 4));
    const copy = await bind(peakCopy, { WG }, { count: quads }, [from, to], [across, Math.ceil(groups / across)]);
    const timer = await makeTimer(device, compute);
    const best = async (record: Recorded): Promise<number> => {
      const repeats = timer.repeatsFor(Math.min(await timer.time(record), await timer.time(record)));
      const times: number[] = [];
      for (let i = 0; i < ROUNDS; i++) times.push(await timer.time(record, repeats));
      // A peak is what is reached undisturbed.
      return Math.min(...times);
    };
    const gflops = (invocations * STEPS * FLOPS_A_STEP) / 1e6 / (await best(compute));
    const copyGBs = (2 * quads * 16) / 1e6 / (await best(copy));
    return { timer, peaks: { gflops, copyGBs } };
  } finally {
    for (const b of made) b.destroy();
  }
}

/** Milliseconds below which work cannot be done on this device. */
export const floorMs = (work: { readonly flops: number; readonly bytes: number }, peaks: Peaks): number =>
  Math.max(work.flops / peaks.gflops, work.bytes / peaks.copyGBs) / 1e6;
