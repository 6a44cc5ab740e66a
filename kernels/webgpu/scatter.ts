/** TensorScatter and RoiAlign: elements found through indices that only the device sees. */
import { sizeOf } from '../../src/core/tensor.ts';
import { roiAlign, tensorScatter } from '../../wgsl/index.gen.ts';
import type { GpuKernel } from '../define.ts';
import { axisOf } from '../shapes.ts';
import { isPacked, isReal, realElem, widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { unitOf, widest, writeSlot } from './unit.ts';

const WG = 64;
export const tensorScatterKernel: GpuKernel<{ readonly axis: number; readonly mode: string }> = {
  name: 'scatter.cache',
  accepts: (call) => widthOf(call.inputs[0]!.dtype) > 0 && sizeOf(call.inputs[1]!.shape) > 0,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisOf(call.attrs.axis, shape.length);
    const run = sizeOf(shape.slice(axis + 1));
    const { width, times } = widest(widthOf(dtype), [run]);
    const unit = unitOf(width, ['x', 'update']);
    const count = sizeOf(shape) / times;
    const given = (call.inputs[2] ?? null) !== null;
    return {
      module: tensorScatter, types: { ...unit.types, ...(given ? { starts: 'i64' } : {}) }, params: { WG, PER: unit.PER, CIRCULAR: call.attrs.mode === 'linear' ? 0 : 1 },
      slots: { write: writeSlot(unit), start_of: `fn start_of(b: u32) -> i32 { return ${given ? 'saturated_i32(load_starts(b))' : '0'}; }` },
      uniforms: { count, inner: run / times, long: shape[axis]!, short: call.inputs[1]!.shape[axis]!, per_batch: sizeOf(shape.slice(1, axis)) },
      workgroups: grid(Math.ceil(count / unit.PER), WG), bind: [{ input: 0 }, { input: 1 }, { output: 0 }, { fault: true }], ...(given ? { extra: [{ name: 'starts', bind: { input: 2 } }] } : {}),
    };
  },
};

interface AlignAttrs { readonly mode: string; readonly coordinate_transformation_mode: string; readonly output_height: number; readonly output_width: number; readonly sampling_ratio: number; readonly spatial_scale: number }
export const roiAlignKernel: GpuKernel<AlignAttrs> = {
  name: 'roi_align.bin',
  accepts: (call) => isReal(call.inputs[0]) && isReal(call.inputs[1]) && sizeOf(call.inputs[0]!.shape) > 0,
  launch: (call, caps) => {
    const { attrs } = call;
    const [batch, channels, height, width] = call.inputs[0]!.shape as [number, number, number, number];
    const out = call.outputs[0]!;
    const elem = realElem(out);
    const PER = isPacked(elem, caps) ? 4 : 1;
    const count = sizeOf(out.shape);
    return {
      module: roiAlign, types: { x: realElem(call.inputs[0]!), rois: realElem(call.inputs[1]!), images: 'i64', y: elem },
      params: { WG, PER, MAX: attrs.mode === 'max' ? 1 : 0, HALF: attrs.coordinate_transformation_mode === 'half_pixel' ? 1 : 0 },
      slots: { write: writeSlot({ types: {}, text: '', PER }), image_of: 'fn image_of(r: u32) -> i32 { return saturated_i32(load_images(r)); }' },
      uniforms: { count, batch, channels, height, width, rows: attrs.output_height, columns: attrs.output_width, ratio: attrs.sampling_ratio, scale: attrs.spatial_scale },
      workgroups: grid(Math.ceil(count / PER), WG), bind: [{ input: 0 }, { input: 1 }, { input: 2 }, { output: 0 }, { fault: true }],
    };
  },
};
