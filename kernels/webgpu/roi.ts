/** RoiAlign: regions of images that indices name, which only the device sees. */
import { sizeOf } from '../../src/core/tensor.ts';
import { roiAlign } from '../../wgsl/index.gen.ts';
import type { GpuKernel } from '../define.ts';
import { isPacked, isReal, realElem } from './elem.ts';
import { grid } from './grid.ts';
import { writeSlot } from './unit.ts';

const WG = 64;
interface AlignAttrs {
  readonly mode: string;
  readonly coordinate_transformation_mode: string;
  readonly output_height: number;
  readonly output_width: number;
  readonly sampling_ratio: number;
  readonly spatial_scale: number;
}
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
      module: roiAlign,
      types: { x: realElem(call.inputs[0]!), rois: realElem(call.inputs[1]!), images: 'i64', y: elem },
      params: {
        WG,
        PER,
        MAX: attrs.mode === 'max' ? 1 : 0,
        HALF: attrs.coordinate_transformation_mode === 'half_pixel' ? 1 : 0,
      },
      slots: {
        write: writeSlot({ types: {}, text: '', PER }),
        image_of: 'fn image_of(r: u32) -> i32 { return saturated_i32(load_images(r)); }',
      },
      uniforms: {
        count,
        batch,
        channels,
        height,
        width,
        rows: attrs.output_height,
        columns: attrs.output_width,
        ratio: attrs.sampling_ratio,
        scale: attrs.spatial_scale,
      },
      workgroups: grid(Math.ceil(count / PER), WG),
      bind: [{ input: 0 }, { input: 1 }, { input: 2 }, { output: 0 }, { fault: true }],
    };
  },
};
