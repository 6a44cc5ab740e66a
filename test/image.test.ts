import { beforeAll, describe, expect, it } from 'vitest';
import { requestGpuDevice } from '../src/4-run/webgpu/device.ts';
import { numbers } from '../src/core/numbers.ts';
import {
  drawToCanvas,
  gpuTensor,
  type GpuTensor,
  type ImageOptions,
  type Pixels,
  type SardonyxError,
  Session,
  type Tensor,
  tensor,
  tensorFromImage,
} from '../src/index.ts';
import { encode, node, noise, port } from './onnx-model.ts';

const picture = (width: number, height: number, seed = 1): Pixels => ({
  width,
  height,
  data: Uint8Array.from(noise(4 * width * height, seed), (v) => Math.floor((v + 1) * 128)),
});
const values = (t: Tensor): number[] => Array.from(numbers(t) as Float64Array);
const codeOf = (f: () => Promise<unknown>): Promise<string> =>
  f().then(
    () => 'nothing was thrown',
    (e: unknown) => (e as SardonyxError).code,
  );

let device: GPUDevice;
beforeAll(async () => {
  ({ device } = await requestGpuDevice({ allowSoftware: true }));
});

describe('an image as a tensor', () => {
  it('holds its pixels, in planes or as they are', async () => {
    const image: Pixels = { width: 2, height: 1, data: new Uint8Array([255, 0, 51, 255, 102, 204, 0, 255]) };
    const run = async (options: ImageOptions): Promise<number[]> =>
      values(await tensorFromImage(image, options)).map((v) => Math.round(v * 1000) / 1000);
    expect((await tensorFromImage(image)).shape).toEqual([1, 3, 1, 2]);
    expect(await run({})).toEqual([1, 0.4, 0, 0.8, 0.2, 0]);
    expect((await tensorFromImage(image, { layout: 'nhwc' })).shape).toEqual([1, 1, 2, 3]);
    expect(await run({ layout: 'nhwc' })).toEqual([1, 0, 0.2, 0.4, 0.8, 0]);
    expect(await run({ channels: 'bgr', range: 255 })).toEqual([51, 0, 0, 204, 255, 102]);
    expect(await run({ dtype: 'uint8', layout: 'nhwc', channels: 'rgba' })).toEqual([
      255, 0, 51, 255, 102, 204, 0, 255,
    ]);
    expect(await run({ channels: 'gray' })).toEqual([0.322, 0.589]);
    expect(await run({ mean: [0.5, 0, 0.2], std: [0.5, 1, 0.1] })).toEqual([1, -0.2, 0, 0.8, 0, -2]);
    // quarters of the way, held at the edges
    expect(await run({ size: [4, 1], channels: 'gray' })).toEqual([0.322, 0.389, 0.522, 0.589]);
    expect(await run({ size: [1, 1] })).toEqual([0.7, 0.4, 0.1]);
    expect(await run({ size: [2, 3], fit: 'contain', channels: 'gray' })).toEqual([0, 0, 0.322, 0.589, 0, 0]);
    expect(await run({ crop: [1, 0, 1, 1], size: [2, 1] })).toEqual([0.4, 0.4, 0.8, 0.8, 0, 0]);
    expect(await run({ size: [4, 1], filter: 'nearest', channels: 'gray' })).toEqual([0.322, 0.322, 0.589, 0.589]);
  });

  const CASES: readonly (readonly [string, ImageOptions])[] = [
    ['as it is', {}],
    ['smaller, normalised', { size: [13, 7], mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }],
    ['larger', { size: [67, 41], layout: 'nhwc' }],
    ['contained', { size: [32, 32], fit: 'contain', channels: 'bgr', mean: 0.5 }],
    ['cropped', { crop: [3.5, 2, 11, 9.25], size: [8, 9] }],
    ['half floats', { size: [9, 5], dtype: 'float16' }],
    ['bytes', { size: [11, 5], dtype: 'uint8', layout: 'nhwc', channels: 'rgba' }],
    ['gray', { size: [21, 3], channels: 'gray', range: 255 }],
    ['nearest', { size: [17, 23], filter: 'nearest' }],
    ['one pixel', { size: [1, 1] }],
  ];
  it.each(CASES)('%s is the same from the GPU', async (_, options) => {
    const image = picture(29, 19);
    const want = await tensorFromImage(image, options);
    const got = await tensorFromImage(image, { ...options, device });
    const read = await got.read();
    got.dispose();
    expect([read.dtype, read.shape]).toEqual([want.dtype, want.shape]);
    const tolerance = options.dtype === 'uint8' ? 1 : options.dtype === 'float16' ? 2e-3 : 2e-5 * (options.range ?? 1);
    const [a, b] = [values(read), values(want)];
    a.forEach((v, i) => expect(Math.abs(v - b[i]!), `element ${i}: ${v} and ${b[i]}`).toBeLessThanOrEqual(tolerance));
  });

  it('goes into a session on its device, one after another', async () => {
    const model = encode({
      input: [port('x', [1, 3, 'h', 'w'])],
      output: [port('y', [1, 3, 1, 1])],
      node: [node('GlobalAveragePool', ['x'], ['y'])],
    });
    await using session = await Session.load(model, { device });
    for (const seed of [1, 2, 3]) {
      const image = picture(16, 12, seed);
      const x = await tensorFromImage(image, { device });
      const run = session.run({ x });
      x.dispose();
      const mean = [0, 1, 2].map(
        (c) =>
          Array.from(image.data)
            .filter((_, i) => i % 4 === c)
            .reduce((a, b) => a + b, 0) /
          192 /
          255,
      );
      values((await run).y as Tensor).forEach((v, c) => expect(v).toBeCloseTo(mean[c]!, 5));
    }
  });

  it('is refused with what is wrong', async () => {
    const image = picture(4, 4);
    const wrong: readonly ImageOptions[] = [
      { size: [0, 4] },
      { size: [2.5, 2] },
      { crop: [0, 0, 5, 4] },
      { crop: [-1, 0, 2, 2] },
      { mean: [1, 2] },
      { std: 0 },
      { dtype: 'int8' as 'uint8' },
      { channels: 'cmyk' as 'rgb' },
      { fit: 'cover' as 'fill' },
      { layout: 'chw' as 'nchw' },
      { filter: 'cubic' as 'linear' },
    ];
    for (const options of wrong)
      expect(await codeOf(() => tensorFromImage(image, options)), JSON.stringify(options)).toBe('option_invalid');
    expect(await codeOf(() => tensorFromImage({ ...image, width: 5 }))).toBe('option_invalid');
    expect(await codeOf(() => tensorFromImage({ width: 0, height: 0, data: new Uint8Array(0) }))).toBe(
      'option_invalid',
    );
  });
});

/** What a canvas of a page offers, over a texture that can be looked at. */
function canvasOver(): { canvas: OffscreenCanvas; pixels: () => Promise<Uint8Array> } {
  let texture: GPUTexture | undefined;
  const context = {
    configure: () => undefined,
    getCurrentTexture: () =>
      (texture = device.createTexture({
        size: [canvas.width, canvas.height],
        format: 'rgba8unorm',
        usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_SRC | GPUTextureUsage.RENDER_ATTACHMENT,
      })),
  };
  const canvas = { width: 1, height: 1, getContext: (kind: string) => (kind === 'webgpu' ? context : null) };
  const pixels = async (): Promise<Uint8Array> => {
    const row = Math.ceil((4 * canvas.width) / 256) * 256;
    const buffer = device.createBuffer({
      size: row * canvas.height,
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
    });
    const encoder = device.createCommandEncoder();
    encoder.copyTextureToBuffer({ texture: texture! }, { buffer, bytesPerRow: row }, [canvas.width, canvas.height]);
    device.queue.submit([encoder.finish()]);
    await buffer.mapAsync(GPUMapMode.READ);
    const all = new Uint8Array(buffer.getMappedRange());
    return Uint8Array.from(
      { length: 4 * canvas.width * canvas.height },
      (_, i) => all[Math.floor(i / (4 * canvas.width)) * row + (i % (4 * canvas.width))]!,
    );
  };
  return { canvas: canvas as unknown as OffscreenCanvas, pixels };
}

describe('a tensor on a canvas', () => {
  it.each([
    {},
    { layout: 'nhwc', channels: 'bgr' },
    { mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4] },
    { channels: 'rgba', dtype: 'uint8' },
    { dtype: 'float16', range: 255 },
  ] as ImageOptions[])('is the picture it was made of: %o', async (options) => {
    const image = picture(37, 11);
    const t = await tensorFromImage(image, { ...options, device });
    const { canvas, pixels } = canvasOver();
    await drawToCanvas(t as GpuTensor, canvas, options);
    expect([canvas.width, canvas.height]).toEqual([37, 11]);
    const alpha = options.channels === 'rgba';
    (await pixels()).forEach((v, i) =>
      expect(Math.abs(v - (i % 4 === 3 && !alpha ? 255 : image.data[i]!)), `byte ${i}`).toBeLessThanOrEqual(
        options.dtype === 'float16' ? 1 : 0,
      ),
    );
  });

  it("may lie anywhere in a buffer of the caller's", async () => {
    const buffer = device.createBuffer({
      size: 1024,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(buffer, 300, new Float32Array([0, 0.2, 0.4, 0.6, 0.8, 1]));
    const { canvas, pixels } = canvasOver();
    await drawToCanvas(gpuTensor('float32', [1, 2, 3], buffer, { device, offset: 300 }), canvas);
    expect(Array.from(await pixels()).filter((_, i) => i % 4 === 1)).toEqual([0, 51, 102, 153, 204, 255]);
  });

  it('is refused where it is no picture', async () => {
    const { canvas } = canvasOver();
    expect(await codeOf(() => drawToCanvas(tensor('float32', [2, 4, 4], noise(32)), canvas))).toBe('input_shape');
    expect(await codeOf(() => drawToCanvas(tensor('int32', [1, 4, 4], new Int32Array(16)), canvas))).toBe(
      'input_dtype',
    );
    expect(
      await codeOf(() => drawToCanvas(tensor('float32', [3, 4, 4], noise(48)), canvas, { channels: 'gray' })),
    ).toBe('option_invalid');
    // a canvas for the GPU
    expect(await codeOf(() => drawToCanvas(tensor('float32', [3, 4, 4], noise(48)), canvas))).toBe('option_invalid');
  });
});

it('a device is shared with a renderer', async () => {
  const { device: own } = await requestGpuDevice({ allowSoftware: true, own: true });
  const failed: string[] = [];
  own.onuncapturederror = (e) => failed.push(e.error.message);
  const model = encode({
    input: [port('x', ['n'])],
    output: [port('y', ['n'])],
    node: [node('Sigmoid', ['x'], ['y'])],
  });
  await using session = await Session.load(model, { device: own });
  const module = own.createShaderModule({
    code: `
    @group(0) @binding(0) var<storage, read> y: array<f32>;
    @vertex fn corner(@builtin(vertex_index) i: u32) -> @builtin(position) vec4f { return vec4f(f32(i & 1u) * 4.0 - 1.0, f32(i >> 1u) * 4.0 - 1.0, 0.0, 1.0); }
    @fragment fn shade(@builtin(position) p: vec4f) -> @location(0) vec4f { return vec4f(y[u32(p.x)], 0.0, 0.0, 1.0); }`,
  });
  const pipeline = own.createRenderPipeline({
    layout: 'auto',
    vertex: { module },
    fragment: { module, targets: [{ format: 'rgba8unorm' }] },
  });
  const texture = own.createTexture({
    size: [64, 1],
    format: 'rgba8unorm',
    usage: GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_SRC,
  });
  const shown = own.createBuffer({ size: 256, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const xs = noise(64).map((v) => 4 * v);
  const { y } = await session.run({ x: tensor('float32', [64], xs) }, { outputs: 'gpu' });
  const encoder = own.createCommandEncoder();
  const pass = encoder.beginRenderPass({
    colorAttachments: [{ view: texture.createView(), loadOp: 'clear', storeOp: 'store' }],
  });
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    own.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: y!.buffer } }],
    }),
  );
  pass.draw(3);
  pass.end();
  encoder.copyTextureToBuffer({ texture }, { buffer: shown, bytesPerRow: 256 }, [64, 1]);
  own.queue.submit([encoder.finish()]);
  y!.dispose();
  const again = session.run({
    x: tensor(
      'float32',
      [64],
      xs.map((v) => -v),
    ),
  }); // behind what draws
  await shown.mapAsync(GPUMapMode.READ);
  const red = Array.from(new Uint8Array(shown.getMappedRange())).filter((_, i) => i % 4 === 0);
  xs.forEach((x, i) => expect(Math.abs(red[i]! - 255 / (1 + Math.exp(-x)))).toBeLessThan(1));
  values((await again).y as Tensor).forEach((v, i) => expect(v).toBeCloseTo(1 / (1 + Math.exp(xs[i]!)), 5));
  expect(failed).toEqual([]);
  await session.release();
  own.destroy();
});
