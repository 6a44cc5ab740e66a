import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { capsOf, requestGpuDevice, type Gpu } from '../src/4-run/webgpu/device.ts';
import { BASE_GPU } from '../src/core/plan.ts';

const request = { allowSoftware: true } as const;

/** Doubles numbers on the device and reads them back. */
async function doubled({ device }: Gpu, numbers: Float32Array<ArrayBuffer>): Promise<Float32Array> {
  const module = device.createShaderModule({
    code: `
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&x)) { y[id.x] = 2 * x[id.x]; }
    }`,
  });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const buffer = (usage: number): GPUBuffer => device.createBuffer({ size: numbers.byteLength, usage });
  const x = buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST);
  const y = buffer(GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
  const staging = buffer(GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  device.queue.writeBuffer(x, 0, numbers);
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [x, y].map((b, binding) => ({ binding, resource: { buffer: b } })),
    }),
  );
  pass.dispatchWorkgroups(Math.ceil(numbers.length / 64));
  pass.end();
  encoder.copyBufferToBuffer(y, 0, staging, 0, numbers.byteLength);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const result = new Float32Array(staging.getMappedRange().slice(0));
  for (const b of [x, y, staging]) b.destroy();
  return result;
}
/**
 * Milliseconds of processor time that this process's main thread has used: fields 14 and 15 of proc(5)'s stat, in
 * hundredths of a second.
 */
const mainThread = (): number => {
  const fields = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return 10 * (Number(fields[11]) + Number(fields[12]));
};
const numbers = Float32Array.from({ length: 1000 }, (_, i) => i - 500);

describe('a WebGPU device in Node', () => {
  test('computes', async () => {
    expect(await doubled(await requestGpuDevice(request), numbers)).toEqual(numbers.map((x) => 2 * x));
  });
  test('has all that its adapter offers, and says so', async () => {
    const { device, caps } = await requestGpuDevice(request);
    for (const [name, least] of Object.entries(BASE_GPU.limits)) {
      const granted = caps.limits[name as keyof typeof caps.limits];
      expect(granted, name).toBe(device.limits[name as keyof GPUSupportedLimits]);
      if (name === 'minStorageBufferOffsetAlignment') expect(granted).toBeLessThanOrEqual(least);
      else expect(granted, name).toBeGreaterThanOrEqual(least);
    }
    expect(caps.features).toEqual([...device.features].sort());
    expect(caps.f16).toBe(device.features.has('shader-f16'));
    expect(caps.subgroups).toBe(device.features.has('subgroups'));
  });
  test.runIf(process.env['SARDONYX_SOFTWARE_GPU'])('on SwiftShader', async () => {
    const { caps } = await requestGpuDevice(request);
    expect(caps).toMatchObject({
      kind: 'webgpu',
      vendor: 'google',
      architecture: 'swiftshader',
      software: true,
      f16: false,
      subgroups: true,
    });
    expect(caps.features).toContain('timestamp-query');
    expect(caps.limits.maxBufferSize).toBe(2 ** 30);
    expect(caps.limits.maxStorageBuffersPerShaderStage).toBeGreaterThan(8);
    await expect(requestGpuDevice({ allowSoftware: false })).rejects.toMatchObject({
      code: 'device_unavailable',
      message: expect.stringContaining('swiftshader'),
    });
  });
  test('can be held to what every user has', async () => {
    const gpu = await requestGpuDevice({ ...request, base: true });
    expect(gpu.caps.limits).toEqual(BASE_GPU.limits);
    expect(gpu.caps.features.filter((f) => f !== 'core-features-and-limits')).toEqual([]);
    expect(await doubled(gpu, numbers)).toEqual(numbers.map((x) => 2 * x));
  });
  test('is shared, until it is lost; own ones are not', async () => {
    const first = await requestGpuDevice(request);
    expect((await requestGpuDevice(request)).device).toBe(first.device);
    const own = await requestGpuDevice({ ...request, own: true });
    expect(own.device).not.toBe(first.device);
    own.device.destroy();
    expect((await requestGpuDevice(request)).device).toBe(first.device);
    first.device.destroy();
    await first.device.lost;
    const next = await requestGpuDevice(request);
    expect(next.device).not.toBe(first.device);
    expect(await doubled(next, numbers)).toEqual(numbers.map((x) => 2 * x));
  });
  test.runIf(process.platform === 'linux' && process.env['SARDONYX_SOFTWARE_GPU'])(
    'leaves the processor to others while it waits',
    async () => {
      const { device } = await requestGpuDevice(request);
      const module = device.createShaderModule({
        code: `
      @group(0) @binding(0) var<storage, read_write> y: array<u32>;
      @compute @workgroup_size(1) fn main() { var a = y[0]; for (var i = 0u; i < 60000000u; i++) { a = a * 1664525u + 1013904223u; } y[0] = a; }`,
      });
      const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
      const y = device.createBuffer({ size: 4, usage: GPUBufferUsage.STORAGE });
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(
        0,
        device.createBindGroup({
          layout: pipeline.getBindGroupLayout(0),
          entries: [{ binding: 0, resource: { buffer: y } }],
        }),
      );
      pass.dispatchWorkgroups(1);
      pass.end();
      device.queue.submit([encoder.finish()]);
      const start = performance.now();
      const busy = mainThread();
      await device.queue.onSubmittedWorkDone();
      const waited = performance.now() - start;
      expect(waited, 'long enough to tell').toBeGreaterThan(100);
      expect(mainThread() - busy, `ms of processor time while waiting ${waited} ms`).toBeLessThan(waited / 4);
      y.destroy();
    },
  );
});

test('software adapters are told from hardware', () => {
  const device = { features: new Set<string>(), limits: BASE_GPU.limits } as unknown as GPUDevice;
  const software = (info: Partial<GPUAdapterInfo>): boolean => capsOf(device, info as GPUAdapterInfo).software;
  expect(software({ vendor: 'google', architecture: 'swiftshader' })).toBe(true);
  expect(software({ vendor: 'mesa', architecture: 'software' })).toBe(true);
  expect(software({ vendor: 'mesa', architecture: '', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' })).toBe(true);
  expect(software({ vendor: 'microsoft', architecture: 'warp' })).toBe(true);
  expect(software({ vendor: 'any', isFallbackAdapter: true })).toBe(true);
  expect(software({ vendor: 'nvidia', architecture: 'hopper', description: 'NVIDIA H100' })).toBe(false);
  expect(software({ vendor: 'apple', architecture: 'metal-3' })).toBe(false);
});

describe.runIf(process.env['SARDONYX_SOFTWARE_GPU'])('a command that finds no adapter', () => {
  const script = `
    const { respawnWithSoftwareGpu } = await import(${JSON.stringify(new URL('../dist/software-gpu.js', import.meta.url).href)});
    const { create } = await import('webgpu');
    const adapter = await create([]).requestAdapter();
    console.log(adapter?.info.architecture ?? 'none', process.argv.slice(1).join());
    if (adapter) process.exit(7);
    if (!(await respawnWithSoftwareGpu())) process.exit(3);`;
  const command = (more: Record<string, string>): { status: number | null; stdout: string } => {
    const { VK_ICD_FILENAMES, VK_DRIVER_FILES, LD_LIBRARY_PATH, SARDONYX_SOFTWARE_GPU, ...env } = process.env;
    const none = { VK_ICD_FILENAMES: '/none.json', VK_DRIVER_FILES: '/none.json' };
    return spawnSync(process.execPath, ['--input-type=module', '-e', script, 'one', 'two'], {
      encoding: 'utf8',
      env: { ...env, ...none, ...more },
    });
  };
  test('runs again with SwiftShader, with its arguments, and ends with that status', () => {
    const { status, stdout } = command({});
    expect(stdout).toBe('none one,two\nswiftshader one,two\n');
    expect(status).toBe(7);
  });
  test('does so once', () => {
    expect(command({ SARDONYX_SOFTWARE_GPU: '1' })).toMatchObject({ status: 3, stdout: 'none one,two\n' });
  });
});
