/**
 * Pictures as tensors and tensors as pictures: on the GPU where a device is given, else on the CPU with the same
 * arithmetic. The work loads with the first picture.
 */
import { type GpuTensor, isGpuTensor, type Tensor } from '../core/tensor.ts';
import { checkGpuTensor, holdGpuTensor } from '../4-run/webgpu/gpu-tensor.ts';
import type { ImageOptions, ImageSource, PixelOptions, PixelType } from './pixels.ts';

const onGpu = () => import('./image-gpu.ts');
const onCpu = () => import('./image-cpu.ts');

/**
 * An image as a tensor of shape [1, channels, height, width], or [1, height, width, channels]. With a device it is made
 * there, by one dispatch and without pixels on the host; dispose it when it is used. Video frames are read as external
 * textures where the device can. The image must stay as it is until the promise resolves.
 *
 * @throws option_invalid
 */
export function tensorFromImage(
  source: ImageSource,
  options: ImageOptions & { readonly device: GPUDevice },
): Promise<GpuTensor<PixelType>>;
export function tensorFromImage(source: ImageSource, options?: ImageOptions): Promise<Tensor<PixelType>>;
export async function tensorFromImage(
  source: ImageSource,
  options: ImageOptions & { readonly device?: GPUDevice } = {},
): Promise<Tensor<PixelType> | GpuTensor<PixelType>> {
  const { readingOf, sizeOfImage, tensorFromPixels } = await onCpu();
  const reading = readingOf(sizeOfImage(source), options);
  return options.device
    ? (await onGpu()).tensorOnGpu(options.device, source, reading)
    : tensorFromPixels(source, reading);
}

/**
 * Draws a tensor of shape [1, channels, height, width] (or as `layout` says; the 1 may be left out) on a canvas, which
 * takes its size. A GPU tensor is drawn by its device, without a copy to the host. Elements are read as
 * `tensorFromImage` with the same options writes them.
 *
 * @throws option_invalid, input_shape, input_dtype, value_disposed, device_lost
 */
export async function drawToCanvas(
  tensor: Tensor | GpuTensor,
  canvas: HTMLCanvasElement | OffscreenCanvas,
  options: PixelOptions = {},
): Promise<void> {
  if (!isGpuTensor(tensor)) return (await onCpu()).drawPixels(tensor, canvas, options);
  checkGpuTensor(tensor, tensor.device);
  const release = holdGpuTensor(tensor); // before anything waits: the caller may dispose it behind the call
  try {
    const drawing = (await onCpu()).drawingOf(tensor, options);
    return await (await onGpu()).drawOnGpu(tensor, canvas, drawing);
  } finally {
    release();
  }
}
