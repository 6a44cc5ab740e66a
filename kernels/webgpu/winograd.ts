/**
 * Convolutions with 3 x 3 filters as 16 products of transformed tiles: 2.25 times fewer multiplications (Lavin and
 * Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). Results differ from those of direct sums by some
 * units of the last place more: transformed values are up to 4 times as large.
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import { winogradIn, winogradOut } from '../../wgsl/index.gen.ts';
import { convShape } from '../conv-shape.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { biasOf, type ConvOf } from './conv.ts';
import { elemOf, isReal } from './elem.ts';
import { countedLaunch } from './element.ts';
import { finishFits, finishOf, storesOne } from './finish.ts';
import type { Product } from './product.ts';
import { productKernels } from './product-kernels.ts';

const up = (n: number): number => Math.ceil(n / 4) * 4;
interface Tiles {
  readonly images: number;
  readonly channels: number;
  readonly filters: number;
  readonly across: number;
  readonly down: number;
  readonly count: number;
  readonly wide: number;
}
function tilesOf(call: Call): Tiles {
  const [images, filters, h, w] = call.outputs[0]!.shape as [number, number, number, number];
  const across = Math.ceil(w / 2);
  const down = Math.ceil(h / 2);
  const count = images * across * down;
  return { images, channels: call.inputs[0]!.shape[1]!, filters, across, down, count, wide: up(count) };
}
const bytesOf = (rows: number, t: Tiles): number => 16 * rows * t.wide * 4;

/** Filters times patches, for each of the 16 places of a tile. */
function productOf(call: Call): Product {
  const t = tilesOf(call);
  const deep = up(t.channels);
  return {
    call: { inputs: call.inputs, outputs: [{ dtype: 'float32', shape: [16, t.filters, t.wide] }], attrs: call.attrs },
    batch: [16],
    m: t.filters,
    n: t.wide,
    k: t.channels,
    fixedDepth: true,
    kind: 'f32',
    alpha: 1,
    addends: [],
    a: {
      ref: {
        input: 1,
        pack: { name: 'winograd.filters', args: [t.filters, t.channels], bytes: 64 * t.filters * deep },
      },
      elem: 'f32',
      row: deep,
      col: 1,
      batch: [t.filters * deep],
    },
    b: { ref: { scratch: 0 }, elem: 'f32', row: t.wide, col: 1, batch: [t.channels * t.wide] },
  };
}
const products = productKernels('conv.winograd', productOf).filter((k) => k.scratch === undefined);
const productFor = (call: Call, caps: GpuCaps): GpuKernel | undefined => products.find((k) => k.accepts!(call, caps));

const winogradKernel = (of: ConvOf): GpuKernel => ({
  name: 'conv.winograd',
  accepts: (call, caps) => {
    const { window: w, transposed } = of(call);
    const t = tilesOf(call);
    const one = (list: readonly number[]): boolean => list.every((v) => v === 1);
    return (
      !transposed &&
      w.group === 1 &&
      String(w.kernel) === '3,3' &&
      one(w.strides) &&
      one(w.dilations) &&
      w.pads.every((p) => p >= 0) &&
      call.inputs[1]!.constant !== undefined &&
      call.inputs.every(isReal) &&
      t.count > 0 &&
      t.channels > 0 &&
      storesOne(call, caps) &&
      finishFits(call, caps, 2, biasOf(call)) &&
      bytesOf(Math.max(t.channels, t.filters), t) <= caps.limits.maxStorageBufferBindingSize &&
      productFor(call, caps) !== undefined
    );
  },
  tunables: { WG: [64, 128] },
  scratch: (call) => {
    const t = tilesOf(call);
    return [bytesOf(t.channels, t), bytesOf(t.filters, t)];
  },
  launch: (call, caps, tuned) => {
    const t = tilesOf(call);
    const { window } = of(call);
    const [h, w] = call.inputs[0]!.shape.slice(2) as [number, number];
    const [oh, ow] = call.outputs[0]!.shape.slice(2) as [number, number];
    const put = finishOf(call, biasOf(call));
    const WG = tuned.WG ?? 64;
    const grid = { wide: t.wide, across: t.across, down: t.down };
    const multiplied = productFor(call, caps)!.launch(call, caps, {}) as Launch;
    return [
      countedLaunch(
        {
          module: winogradIn,
          types: { x: elemOf(call.inputs[0]!.dtype)! },
          params: { WG },
          uniforms: {
            ...grid,
            patches: t.count,
            channels: t.channels,
            h,
            w,
            top: window.pads[0]!,
            left: window.pads[1]!,
          },
          bind: [{ input: 0 }, { scratch: 0 }],
        },
        t.channels * t.count,
      ),
      { ...multiplied, bind: multiplied.bind.map((ref) => ('output' in ref ? { scratch: 1 } : ref)) },
      countedLaunch(
        {
          module: winogradOut,
          types: { y: elemOf(call.outputs[0]!.dtype)!, ...put.types },
          params: { WG },
          uniforms: { ...grid, tiles: t.count, filters: t.filters, h: oh, w: ow },
          slots: { epilogue: put.text },
          bind: [{ scratch: 1 }, { output: 0 }],
          extra: put.extra,
          extraUniforms: put.extraUniforms,
        },
        t.filters * t.count,
      ),
    ];
  },
});

/** Of Conv. */
export const convWinograd = winogradKernel((call) => ({
  window: convShape(call.inputs[0]!.shape, call.inputs[1]!.shape, null, call.attrs).window,
  transposed: false,
}));
