/** What pictures and tensors have to do with each other, as options and in numbers. */
import { fail } from '../core/errors.ts';
import { sizeOf } from '../core/tensor.ts';

/**
 * Pixels in memory, rows from the top, four bytes each: red, green, blue and alpha, not premultiplied. A page's
 * `ImageData` is one.
 */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
}
export type ImageSource =
  | Pixels
  | ImageBitmap
  | HTMLVideoElement
  | VideoFrame
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas;
export type PixelType = 'float32' | 'float16' | 'uint8';

/** How pixels and elements belong together: element = (channel * range - mean) / std, with channels in 0 … 1. */
export interface PixelOptions {
  /** 'nchw' (planes; default) or 'nhwc' (pixels). */
  readonly layout?: 'nchw' | 'nhwc';
  /** Default 'rgb'. 'gray' is luma: 0.299 red + 0.587 green + 0.114 blue. */
  readonly channels?: 'rgb' | 'bgr' | 'rgba' | 'gray';
  /** What full brightness is before mean and std: default 1; for uint8 255. */
  readonly range?: number;
  /** One for all channels, or one each. Default 0. */
  readonly mean?: number | readonly number[];
  /** Default 1. */
  readonly std?: number | readonly number[];
}
export interface ImageOptions extends PixelOptions {
  /** Width and height of the tensor; default those of the image, or of `crop`. */
  readonly size?: readonly [width: number, height: number];
  /** The part of the image that is taken, in its pixels. Default all of it. */
  readonly crop?: readonly [x: number, y: number, width: number, height: number];
  /** 'fill' (default) stretches; 'contain' keeps proportions, in the middle of black. */
  readonly fit?: 'fill' | 'contain';
  /** How pixels in between are made: 'linear' (default), from four pixels around the centre, or 'nearest'. */
  readonly filter?: 'linear' | 'nearest';
  /** Default 'float32'. */
  readonly dtype?: PixelType;
}

const LUMA = [0.299, 0.587, 0.114];
/** Of each channel, its share of red, green, blue and alpha. */
const CHANNELS: Readonly<Record<NonNullable<PixelOptions['channels']>, readonly (readonly number[])[]>> = {
  rgb: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
  ],
  bgr: [
    [0, 0, 1, 0],
    [0, 1, 0, 0],
    [1, 0, 0, 0],
  ],
  rgba: [
    [1, 0, 0, 0],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [0, 0, 0, 1],
  ],
  gray: [[...LUMA, 0]],
};

/** All that either path needs, in numbers. */
export interface Reading {
  readonly width: number;
  readonly height: number;
  readonly planar: boolean;
  readonly dtype: PixelType;
  readonly nearest: boolean;
  /** Left, top, right and bottom of what the image covers of the tensor. */
  readonly place: readonly [number, number, number, number];
  readonly origin: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly low: readonly [number, number];
  readonly high: readonly [number, number];
  readonly weights: readonly (readonly number[])[];
  readonly bias: readonly number[];
}

/** How a tensor becomes pixels: rgba = the sum of channel c * weights[c], + bias. */
export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly planar: boolean;
  readonly dtype: PixelType;
  readonly weights: readonly (readonly number[])[];
  readonly bias: readonly number[];
}

export const isPixels = (source: ImageSource): source is Pixels => 'data' in source;

export function sizeOfImage(source: ImageSource): [width: number, height: number] {
  const s = source as unknown as Record<string, number | undefined>;
  const size: [number, number] = [
    s.videoWidth ?? s.displayWidth ?? s.naturalWidth ?? s.width ?? 0,
    s.videoHeight ?? s.displayHeight ?? s.naturalHeight ?? s.height ?? 0,
  ];
  if (!size.every((n) => Number.isInteger(n) && n > 0))
    fail('option_invalid', `the image has no size yet (${size}); wait until it is loaded`);
  if (isPixels(source) && source.data.length !== 4 * size[0] * size[1])
    fail(
      'option_invalid',
      `${size[0]} x ${size[1]} pixels are ${4 * size[0] * size[1]} bytes, not ${source.data.length}`,
    );
  return size;
}

function scaleOf(
  { range, mean = 0, std = 1 }: PixelOptions,
  channels: number,
  dtype: PixelType,
): { range: number; mean: readonly number[]; std: readonly number[] } {
  const each = (name: string, v: number | readonly number[]): readonly number[] => {
    const list = typeof v === 'number' ? new Array<number>(channels).fill(v) : v;
    if (list.length !== channels || !list.every(Number.isFinite) || (name === 'std' && list.includes(0)))
      fail('option_invalid', `${name} is a number, or one for each of ${channels} channels, not ${JSON.stringify(v)}`);
    return list;
  };
  return { range: range ?? (dtype === 'uint8' ? 255 : 1), mean: each('mean', mean), std: each('std', std) };
}

function oneOf<T extends string>(name: string, value: T | undefined, choices: readonly T[]): T {
  if (value !== undefined && !choices.includes(value))
    fail('option_invalid', `${name} is ${choices.map((c) => `'${c}'`).join(' or ')}, not ${JSON.stringify(value)}`);
  return value ?? choices[0]!;
}
const isPlanar = (layout: PixelOptions['layout']): boolean => oneOf('layout', layout, ['nchw', 'nhwc']) === 'nchw';

export function readingOf([imageWidth, imageHeight]: readonly [number, number], options: ImageOptions): Reading {
  const { crop = [0, 0, imageWidth, imageHeight] } = options;
  const dtype = oneOf('dtype', options.dtype, ['float32', 'float16', 'uint8']);
  const [x, y, w, h] = crop;
  if (!(crop.length === 4 && x >= 0 && y >= 0 && w >= 1 && h >= 1 && x + w <= imageWidth && y + h <= imageHeight))
    fail('option_invalid', `crop [${crop}] does not lie in the image of ${imageWidth} x ${imageHeight}`);
  const [width, height] = options.size ?? [Math.round(w), Math.round(h)];
  if (![width, height].every((n) => Number.isInteger(n) && n > 0 && n <= 32768))
    fail('option_invalid', `size is [width, height] in pixels, not [${options.size}]`);
  const shares = CHANNELS[oneOf('channels', options.channels, ['rgb', 'bgr', 'rgba', 'gray'])];
  const { range, mean, std } = scaleOf(options, shares.length, dtype);
  const scale = oneOf('fit', options.fit, ['fill', 'contain']) === 'contain' ? Math.min(width / w, height / h) : 0;
  const [inner, outer] =
    scale > 0 ? [Math.max(1, Math.round(w * scale)), Math.max(1, Math.round(h * scale))] : [width, height];
  const [left, top] = [Math.floor((width - inner) / 2), Math.floor((height - outer) / 2)];
  return {
    width,
    height,
    planar: isPlanar(options.layout),
    dtype,
    nearest: oneOf('filter', options.filter, ['linear', 'nearest']) === 'nearest',
    place: [left, top, left + inner, top + outer],
    origin: [x, y],
    stride: [w / inner, h / outer],
    low: [Math.floor(x), Math.floor(y)],
    high: [Math.ceil(x + w) - 1, Math.ceil(y + h) - 1],
    weights: shares.map((share, c) => share.map((v) => (v * range) / std[c]!)),
    bias: shares.map((_, c) => -mean[c]! / std[c]!),
  };
}

export const shapeOf = ({ width, height, planar, weights }: Reading): number[] =>
  planar ? [1, weights.length, height, width] : [1, height, width, weights.length];

/** @throws input_shape, input_dtype, option_invalid */
export function drawingOf(
  { dtype, shape: given }: { readonly dtype: string; readonly shape: readonly number[] },
  options: PixelOptions,
): Drawing {
  if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'uint8')
    fail('input_dtype', `a picture is float32, float16 or uint8, not ${dtype}`);
  const shape = given.length === 4 && given[0] === 1 ? given.slice(1) : given;
  const planar = isPlanar(options.layout);
  const [channels, height, width] = planar ? shape : [shape[2], shape[0], shape[1]];
  if (shape.length !== 3 || !(channels === 1 || channels === 3 || channels === 4) || sizeOf(shape) === 0)
    fail(
      'input_shape',
      `a picture is [${planar ? 'channels, height, width' : 'height, width, channels'}] with 1, 3 or 4 channels, not [${given}]`,
    );
  const names = options.channels ?? (channels === 1 ? 'gray' : channels === 4 ? 'rgba' : 'rgb');
  if (CHANNELS[names]?.length !== channels) fail('option_invalid', `channels ${names} are not ${channels}`);
  const { range, mean, std } = scaleOf(options, channels, dtype);
  const shares = channels === 1 ? [[1, 1, 1, 0]] : CHANNELS[names];
  const weights = shares.map((share, c) => share.map((v) => (v * std[c]!) / range));
  const bias = [0, 1, 2, 3].map((k) =>
    shares.reduce((sum, share, c) => sum + (share[k]! * mean[c]!) / range, k === 3 && channels !== 4 ? 1 : 0),
  );
  return { width: width!, height: height!, planar, dtype, weights, bias };
}
