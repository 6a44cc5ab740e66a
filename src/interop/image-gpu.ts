/** The GPU side of `image.ts`: a dispatch that reads a texture, and one that writes a canvas. */
import { assemble, type Elem, type WgslModule } from '../../wgsl/assemble.ts';
import { imageIn, imageOut, library } from '../../wgsl/index.gen.ts';
import { packUniforms } from '../3-plan/uniforms.ts';
import { makeGpuTensor, readAlone } from '../4-run/webgpu/gpu-tensor.ts';
import { makePool, type Pool } from '../4-run/webgpu/pool.ts';
import { padded } from '../4-run/webgpu/transfer.ts';
import { fail } from '../core/errors.ts';
import { byteLength, type GpuTensor, sizeOf } from '../core/tensor.ts';
import {
  type Drawing,
  type ImageSource,
  isPixels,
  type PixelType,
  type Reading,
  shapeOf,
  sizeOfImage,
} from './pixels.ts';

const ELEM: Readonly<Record<PixelType, Elem>> = { float32: 'f32', float16: 'f16', uint8: 'u8' };
type Layouts = readonly [
  storage: GPUBufferBindingType,
  texture: Omit<GPUBindGroupLayoutEntry, 'binding' | 'visibility'>,
];
interface Kernel {
  readonly pipeline: GPUComputePipeline;
  readonly groups: readonly [GPUBindGroupLayout, GPUBindGroupLayout];
}

/** What is made once per device, and kept as long as it. */
interface Kit {
  readonly pool: Pool;
  readonly kernels: Map<string, Promise<Kernel>>;
  readonly uniforms: Map<string, GPUBuffer>;
  texture: GPUTexture | null;
}
const kits = new WeakMap<GPUDevice, Kit>();

function kitOf(device: GPUDevice): Kit {
  let kit = kits.get(device);
  if (kit === undefined) {
    const create = (size: number): GPUBuffer =>
      device.createBuffer({
        size,
        usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
        label: 'image',
      });
    kits.set(
      device,
      (kit = {
        pool: makePool(device.limits.maxStorageBufferBindingSize, create, (b) => b.destroy()),
        kernels: new Map(),
        uniforms: new Map(),
        texture: null,
      }),
    );
  }
  return kit;
}

function kernelFor(
  device: GPUDevice,
  module: WgslModule,
  types: Readonly<Record<string, Elem>>,
  slots: Readonly<Record<string, string>>,
  nearest: boolean,
  layouts: Layouts,
): Promise<Kernel> {
  const { code } = assemble(
    module,
    { types, slots, ...(nearest ? { params: { NEAREST: 1 } } : {}) },
    library,
    device.features.has('shader-f16'),
  );
  const { kernels } = kitOf(device);
  let kernel = kernels.get(code);
  if (kernel === undefined) {
    const visibility = GPUShaderStage.COMPUTE;
    const groups = [
      device.createBindGroupLayout({
        entries: [
          { binding: 0, visibility, buffer: { type: layouts[0] } },
          { binding: 1, visibility, buffer: { type: 'uniform' } },
        ],
      }),
      device.createBindGroupLayout({ entries: [{ binding: 0, visibility, ...layouts[1] }] }),
    ] as const;
    const compute = { module: device.createShaderModule({ code, label: module.name }), entryPoint: 'main' };
    kernel = device
      .createComputePipelineAsync({
        layout: device.createPipelineLayout({ bindGroupLayouts: groups }),
        compute,
        label: module.name,
      })
      .then((pipeline) => ({ pipeline, groups }));
    kernels.set(code, kernel);
    kernel.catch(() => kernels.delete(code));
  }
  return kernel;
}

/** The uniforms of a module, written behind what was submitted before. */
function uniformsOf(
  device: GPUDevice,
  module: WgslModule,
  values: Readonly<Record<string, number | readonly number[]>>,
): GPUBuffer {
  const { uniforms } = kitOf(device);
  let buffer = uniforms.get(module.name);
  if (buffer === undefined)
    uniforms.set(
      module.name,
      (buffer = device.createBuffer({
        size: module.uniformBytes,
        usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
        label: module.name,
      })),
    );
  device.queue.writeBuffer(buffer, 0, new Uint32Array(packUniforms(module, values)));
  return buffer;
}

function dispatch(
  device: GPUDevice,
  { pipeline, groups }: Kernel,
  entries: readonly [GPUBindGroupEntry[], GPUBindGroupEntry[]],
  x: number,
  y: number,
): void {
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  groups.forEach((layout, i) => {
    pass.setBindGroup(i, device.createBindGroup({ layout, entries: entries[i]! }));
  });
  pass.dispatchWorkgroups(x, y);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

const four = (rows: readonly (readonly number[])[]): number[] => [0, 1, 2, 3].flatMap((c) => rows[c] ?? [0, 0, 0, 0]);
const bias4 = (bias: readonly number[]): number[] => [0, 1, 2, 3].map((c) => bias[c] ?? 0);

const isFrame = (source: ImageSource): source is HTMLVideoElement | VideoFrame =>
  (typeof VideoFrame !== 'undefined' && source instanceof VideoFrame) ||
  (typeof HTMLVideoElement !== 'undefined' && source instanceof HTMLVideoElement);

export async function tensorOnGpu(device: GPUDevice, source: ImageSource, r: Reading): Promise<GpuTensor<PixelType>> {
  const shape = shapeOf(r);
  const bytes = padded(byteLength({ dtype: r.dtype, shape }));
  if (bytes > device.limits.maxStorageBufferBindingSize)
    fail(
      'device_limit',
      `${r.dtype}[${shape}] takes ${bytes} bytes; the device binds ${device.limits.maxStorageBufferBindingSize}`,
    );
  const external = isFrame(source) && typeof device.importExternalTexture === 'function';
  const slots = {
    texel: `@group(1) @binding(0) var image: ${external ? 'texture_external' : 'texture_2d<f32>'};\nfn texel(p: vec2i) -> vec4f { return textureLoad(image, p${external ? '' : ', 0'}); }`,
    result:
      r.dtype === 'uint8'
        ? 'fn result(v: f32) -> Y { return u32(clamp(floor(v + 0.5), 0.0, 255.0)); }'
        : 'fn result(v: f32) -> Y { return v; }',
  };
  const kernel = await kernelFor(device, imageIn, { y: ELEM[r.dtype] }, slots, r.nearest, [
    'storage',
    external ? { externalTexture: {} } : { texture: {} },
  ]);
  // An external texture is good only for the task that imports it: from here on nothing waits.
  const image = external ? device.importExternalTexture({ source }) : textureOf(device, source).createView();
  const { pool } = kitOf(device);
  const buffer = pool.take(bytes);
  const uniforms = uniformsOf(device, imageIn, {
    width: r.width,
    height: r.height,
    channels: r.weights.length,
    planar: Number(r.planar),
    place: r.place,
    origin: r.origin,
    stride: r.stride,
    low: r.low,
    high: r.high,
    weights: four(r.weights),
    bias: bias4(r.bias),
  });
  const groups = Math.ceil(sizeOf(shape) / 256);
  const y = Math.ceil(groups / device.limits.maxComputeWorkgroupsPerDimension);
  dispatch(
    device,
    kernel,
    [
      [
        { binding: 0, resource: { buffer, size: bytes } },
        { binding: 1, resource: { buffer: uniforms } },
      ],
      [{ binding: 0, resource: image }],
    ],
    Math.ceil(groups / y),
    y,
  );
  return makeGpuTensor(
    device,
    { dtype: r.dtype, shape, buffer, offset: 0 },
    () => pool.give(buffer),
    (t) => readAlone(device, t),
  );
}

/** The image in the kit's texture, which the next image of this size overwrites behind the dispatch that reads it. */
function textureOf(device: GPUDevice, source: ImageSource): GPUTexture {
  const kit = kitOf(device);
  const [width, height] = sizeOfImage(source);
  const most = device.limits.maxTextureDimension2D;
  if (width > most || height > most)
    fail('device_limit', `an image of ${width} x ${height} is larger than the device's textures (${most})`);
  if (kit.texture?.width !== width || kit.texture.height !== height) {
    kit.texture?.destroy();
    const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST | GPUTextureUsage.RENDER_ATTACHMENT;
    kit.texture = device.createTexture({ size: [width, height], format: 'rgba8unorm', usage, label: 'image' });
  }
  const { texture } = kit;
  if (isPixels(source))
    device.queue.writeTexture({ texture }, source.data as Uint8Array<ArrayBuffer>, { bytesPerRow: 4 * width }, [
      width,
      height,
    ]);
  else device.queue.copyExternalImageToTexture({ source }, { texture, premultipliedAlpha: false }, [width, height]);
  return texture;
}

/** Draws a tensor that the caller holds. */
export async function drawOnGpu(t: GpuTensor, canvas: HTMLCanvasElement | OffscreenCanvas, d: Drawing): Promise<void> {
  const { device } = t;
  if ((t.buffer.usage & GPUBufferUsage.STORAGE) === 0)
    fail('option_invalid', `the buffer ${t.buffer.label} needs the usage STORAGE to be drawn`);
  const layout = { storageTexture: { format: 'rgba8unorm', access: 'write-only' } } as const;
  const kernel = await kernelFor(device, imageOut, { x: ELEM[d.dtype] }, {}, false, ['read-only-storage', layout]);
  if (canvas.width !== d.width) canvas.width = d.width;
  if (canvas.height !== d.height) canvas.height = d.height;
  const context =
    (canvas as OffscreenCanvas).getContext('webgpu') ??
    fail('option_invalid', 'the canvas has a context of another kind; a GPU tensor needs one for webgpu');
  const now = context.getConfiguration?.();
  if (
    now?.device !== device ||
    now.format !== 'rgba8unorm' ||
    ((now.usage ?? 0) & GPUTextureUsage.STORAGE_BINDING) === 0
  ) {
    context.configure({
      device,
      format: 'rgba8unorm',
      usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.COPY_SRC | GPUTextureUsage.RENDER_ATTACHMENT,
      alphaMode: 'opaque',
    });
  }
  drawInto(t, context.getCurrentTexture(), kernel, d);
}

function drawInto(t: GpuTensor, texture: GPUTexture, kernel: Kernel, d: Drawing): void {
  const { device } = t;
  // A binding begins where the device can bind; what is left of the offset is in elements.
  const align = device.limits.minStorageBufferOffsetAlignment;
  const begin = Math.floor(t.offset / align) * align;
  const size = Math.min(t.buffer.size - begin, padded(t.offset - begin + byteLength(t)));
  const elements = ((t.offset - begin) * 8) / { float32: 32, float16: 16, uint8: 8 }[d.dtype];
  const uniforms = uniformsOf(device, imageOut, {
    width: d.width,
    height: d.height,
    channels: d.weights.length,
    planar: Number(d.planar),
    offset: elements,
    weights: four(d.weights),
    bias: bias4(d.bias),
  });
  dispatch(
    device,
    kernel,
    [
      [
        { binding: 0, resource: { buffer: t.buffer, offset: begin, size } },
        { binding: 1, resource: { buffer: uniforms } },
      ],
      [{ binding: 0, resource: texture.createView() }],
    ],
    Math.ceil(d.width / 8),
    Math.ceil(d.height / 8),
  );
}
