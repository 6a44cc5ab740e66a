/** LRN, AffineGrid, GridSample, Col2Im, DeformConv and Det: an element of the output an invocation. */
import { integers } from '../../src/core/numbers.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { affineGrid, col2im, deformConv, det, gridSample, lrn } from '../../wgsl/index.gen.ts';
import type { Window } from '../conv-window.ts';
import type { Call, GpuKernel } from '../define.ts';
import { elemOf, isReal, realElem } from './elem.ts';
import { countedLaunch, elementLaunch, extraOf, inward, narrowed } from './element.ts';
import { knows } from './unit.ts';

export const lrnKernel: GpuKernel<{
  readonly alpha: number;
  readonly beta: number;
  readonly bias: number;
  readonly size: number;
}> = {
  name: 'lrn.element',
  accepts: (call) => isReal(call.inputs[0]),
  launch: (call, caps) => {
    const { shape } = call.inputs[0]!;
    const { alpha, beta, bias, size } = call.attrs;
    return elementLaunch(
      {
        module: lrn,
        types: { x: realElem(call.inputs[0]!) },
        reads: [{ input: 0 }],
        uniforms: {
          channels: shape[1]!,
          inner: sizeOf(shape.slice(2)),
          lower: Math.floor((size - 1) / 2),
          upper: Math.ceil((size - 1) / 2),
          alpha: alpha / size,
          beta,
          bias,
        },
      },
      call.outputs[0]!,
      { output: 0 },
      caps,
    );
  },
};

export const affineKernel: GpuKernel<{ readonly align_corners: number }> = {
  name: 'affine_grid.element',
  accepts: (call) => isReal(call.inputs[0]),
  launch: (call, caps) => {
    const dims = call.outputs[0]!.shape.slice(1, -1);
    return elementLaunch(
      {
        module: affineGrid,
        types: { x: realElem(call.inputs[0]!) },
        params: { RANK: dims.length, ALIGN: call.attrs.align_corners ? 1 : 0 },
        reads: [{ input: 0 }],
        uniforms: { dims: inward(dims) },
      },
      call.outputs[0]!,
      { output: 0 },
      caps,
    );
  },
};

export const gridSampleKernel: GpuKernel<{
  readonly mode: string;
  readonly padding_mode: string;
  readonly align_corners: number;
}> = {
  name: 'grid_sample.element',
  accepts: (call) =>
    call.inputs.every(isReal) && call.inputs[0]!.shape.length <= 5 && sizeOf(call.inputs[0]!.shape) > 0,
  launch: (call, caps) => {
    const [channels, ...image] = call.inputs[0]!.shape.slice(1) as [number, ...number[]];
    const { mode, padding_mode, align_corners } = call.attrs;
    return elementLaunch(
      {
        module: gridSample,
        types: { x: realElem(call.inputs[0]!), places: realElem(call.inputs[1]!) },
        reads: [{ input: 0 }, { input: 1 }],
        uniforms: { points: sizeOf(call.outputs[0]!.shape.slice(2)), channels, image: inward(image) },
        params: {
          RANK: image.length,
          MODE: ['nearest', 'linear', 'cubic'].indexOf(mode),
          PADDING: ['zeros', 'border', 'reflection'].indexOf(padding_mode),
          ALIGN: align_corners ? 1 : 0,
        },
      },
      call.outputs[0]!,
      { output: 0 },
      caps,
    );
  },
};

export const col2ImKernel = (
  windowOf: (call: Call) => Pick<Window, 'output' | 'pads' | 'dilations' | 'strides'>,
): GpuKernel => ({
  name: 'col2im.element',
  accepts: (call) =>
    knows(call, 1, 2) &&
    /^(f32|f16|bf16|i32|u32)$/.test(elemOf(call.inputs[0]!.dtype) ?? '') &&
    call.outputs[0]!.shape.length <= 6,
  launch: (call, caps) => {
    const [image, block] = [1, 2].map((i) => integers(call.inputs[i]!.constant!.peek()!)) as [number[], number[]];
    const w = windowOf(call);
    return elementLaunch(
      {
        module: col2im,
        types: { x: elemOf(call.inputs[0]!.dtype)! },
        params: { RANK: image.length },
        reads: [{ input: 0 }],
        uniforms: {
          taps: sizeOf(block),
          blocks: sizeOf(w.output),
          image: inward(image),
          block: inward(block),
          along: inward(w.output),
          begins: inward(w.pads.slice(0, image.length), 0),
          dilations: inward(w.dilations),
          strides: inward(w.strides),
        },
      },
      call.outputs[0]!,
      { output: 0 },
      caps,
    );
  },
});

/** In two dims. */
export const deformKernel = (windowOf: (call: Call) => Window): GpuKernel => ({
  name: 'deform_conv.element',
  accepts: (call) =>
    call.inputs.every(isReal) && call.inputs[0]!.shape.length === 4 && windowOf(call).pads.every((p) => p >= 0),
  launch: (call, caps) => {
    const w = windowOf(call);
    const [x, weights, offset, bias, mask] = call.inputs;
    const { types, extra } = extraOf(
      bias ? ['bias', realElem(bias), { input: 3 }] : null,
      mask ? ['mask', realElem(mask), { input: 4 }] : null,
    );
    return elementLaunch(
      {
        module: deformConv,
        types: { x: realElem(x!), w: realElem(weights!), offset: realElem(offset!), ...types },
        reads: [{ input: 0 }, { input: 1 }, { input: 2 }],
        extra,
        slots: {
          weight_of: `fn weight_of(at: u32) -> f32 { return ${mask ? 'load_mask(at)' : '1.0'}; }`,
          shift: `fn shift(m: u32) -> f32 { return ${bias ? 'load_bias(m)' : '0.0'}; }`,
        },
        uniforms: {
          channels: x!.shape[1]!,
          filters: weights!.shape[0]!,
          offset_groups: call.attrs.offset_group,
          groups: w.group,
          kernel: w.kernel,
          image: x!.shape.slice(2),
          out: w.output,
          strides: w.strides,
          begins: w.pads.slice(0, 2),
          dilations: w.dilations,
        },
      },
      call.outputs[0]!,
      { output: 0 },
      caps,
    );
  },
});

/** Matrices so small that an invocation can take one each. */
const SIDE = 64;
export const detKernel: GpuKernel = {
  name: 'det.matrix',
  accepts: (call) => isReal(call.inputs[0]) && call.inputs[0]!.shape.at(-1)! <= SIDE,
  scratch: (call) => [sizeOf(call.inputs[0]!.shape) * 4, sizeOf(call.outputs[0]!.shape) * 4],
  launch: (call) => {
    const out = call.outputs[0]!;
    return [
      countedLaunch(
        {
          module: det,
          types: { x: realElem(call.inputs[0]!) },
          uniforms: { n: call.inputs[0]!.shape.at(-1)! },
          bind: [{ input: 0 }, { scratch: 0 }, { scratch: 1 }],
        },
        sizeOf(out.shape),
      ),
      narrowed(out, { output: 0 }, { scratch: 1 }),
    ];
  },
};
