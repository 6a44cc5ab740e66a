import { SardonyxError } from '../../core/errors.ts';
import type { PlannedShader } from '../../core/plan.ts';

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Pipelines by their text, and layouts by their signature, of each device: sessions on one device share them. */
const caches = new WeakMap<
  GPUDevice,
  { pipelines: Map<string, Promise<Pipeline>>; layouts: Map<string, GPUBindGroupLayout> }
>();

/**
 * The pipeline of a shader; compiled once per device, asynchronously. @throws device_fault with the compiler's message
 * and the line it means
 */
export function pipelineFor(device: GPUDevice, shader: PlannedShader, onNew: () => void): Promise<Pipeline> {
  let cache = caches.get(device);
  if (cache === undefined) caches.set(device, (cache = { pipelines: new Map(), layouts: new Map() }));
  let pipeline = cache.pipelines.get(shader.code);
  if (pipeline === undefined) {
    onNew();
    pipeline = compile(device, shader, cache.layouts);
    cache.pipelines.set(shader.code, pipeline);
    pipeline.catch(() => cache.pipelines.delete(shader.code));
  }
  return pipeline;
}

async function compile(
  device: GPUDevice,
  shader: PlannedShader,
  layouts: Map<string, GPUBindGroupLayout>,
): Promise<Pipeline> {
  const signature = shader.layout.join();
  let layout = layouts.get(signature);
  if (layout === undefined) {
    const entries = shader.layout.map(
      (access, binding): GPUBindGroupLayoutEntry => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: access === 'uniform' ? 'uniform' : access === 'read' ? 'read-only-storage' : 'storage' },
      }),
    );
    layouts.set(signature, (layout = device.createBindGroupLayout({ entries, label: signature })));
  }
  // The compiler's message is reported with the pipeline's; Dawn would print it as well.
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: shader.code, label: shader.name });
  void device.popErrorScope().catch(() => undefined);
  try {
    const pipeline = await device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main' },
      label: shader.name,
    });
    return { pipeline, layout };
  } catch (cause) {
    const info = await module.getCompilationInfo().catch(() => null);
    const lines = shader.code.split('\n');
    const messages =
      info?.messages
        .filter((m) => m.type === 'error')
        .map((m) => `${m.lineNum}:${m.linePos} ${m.message}\n    ${lines[m.lineNum - 1] ?? ''}`) ?? [];
    throw new SardonyxError(
      'device_fault',
      `shader ${shader.name} does not compile: ${messages.join('\n') || (cause as Error).message}`,
      [],
      { cause },
    );
  }
}
