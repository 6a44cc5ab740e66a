/** com.microsoft.GatherBlockQuantized of a matrix: rows of a quantised table, widened as they are gathered. */
import { sizeOf } from '../../src/core/tensor.ts';
import { gatherBlocks } from '../../wgsl/index.gen.ts';
import type { GpuKernel } from '../define.ts';
import { axisOf } from '../shapes.ts';
import { takenText } from './cast.ts';
import { elemOf, isReal } from './elem.ts';
import { extraOf } from './element.ts';
import { finishFits, finishOf, putOf } from './finish.ts';
import { indicesElem } from './gather.ts';
import { grid } from './grid.ts';

const WG = 64;
interface Attrs {
  readonly bits: number;
  readonly block_size: number;
  readonly gather_axis: number;
  readonly quantize_axis: number;
}

export const gatherBlocksKernel: GpuKernel<Attrs> = {
  name: 'gather.blocks',
  accepts: (call, caps) => {
    const [data, , scales] = call.inputs;
    const rank = data!.shape.length;
    return (
      rank === 2 &&
      axisOf(call.attrs.gather_axis, rank) === 0 &&
      axisOf(call.attrs.quantize_axis, rank) === 1 &&
      isReal(scales) &&
      scales!.shape[0] === data!.shape[0] &&
      finishFits(call, caps, 5)
    );
  },
  launch: (call, caps) => {
    const [data, , scales, zeros = null] = call.inputs;
    const { dtype } = data!;
    const [rows, held] = data!.shape as [number, number];
    // Rows of bytes that hold several numbers begin at a byte; those of types below one do not.
    const bits = dtype === 'uint8' ? call.attrs.bits : 8;
    const per = 8 / bits;
    const mask = 2 ** bits - 1;
    const columns = held * per;
    const blocks = scales!.shape[1]!;
    const block = call.attrs.block_size || columns;
    const at = (name: string, row: string, of: string): string =>
      per === 1
        ? `taken_${name}(${row} + ${of})`
        : `((taken_${name}(${row} + ${of} / ${per}u) >> ((${of} % ${per}u) * ${bits}u)) & ${mask}u)`;
    const [from, less] = [takenText(dtype, 'x', 'taken_x'), zeros && takenText(zeros.dtype, 'zeros', 'taken_zeros')];
    const type = dtype.startsWith('f') ? 'f32' : 'i32';
    const zero = zeros
      ? ` - ${type}(${at('zeros', `row * ${zeros.shape[1]!}u`, `(column / ${block}u)`)})`
      : dtype === 'uint8'
        ? ` - ${2 ** (bits - 1)}`
        : '';
    const put = putOf(call, caps, true, finishOf(call));
    const { types, extra } = extraOf(['indices', indicesElem(call), { input: 1 }]);
    const count = sizeOf(call.outputs[0]!.shape);
    return {
      module: gatherBlocks,
      params: { WG },
      workgroups: grid(Math.ceil(count / 4), WG),
      uniforms: { count, rows, columns, block, blocks },
      types: { ...from.types, scale: elemOf(scales!.dtype)!, ...types, ...less?.types, ...put.types },
      bind: [{ input: 0 }, { input: 2 }, { output: 0 }],
      extra: [...put.extra, ...extra, ...(less ? [{ name: 'zeros', bind: { input: 3 } }] : [])],
      extraUniforms: put.extraUniforms,
      slots: {
        put: put.text,
        row_of: `fn row_of(k: u32) -> i32 { return ${indicesElem(call) === 'i64' ? 'saturated_i32(load_indices(k))' : 'load_indices(k)'}; }`,
        beyond_zero: `${from.text}\n${less ? `${less.text}\n` : ''}fn beyond_zero(row: u32, column: u32) -> f32 { return f32(${type}(${at('x', `row * ${held}u`, 'column')})${zero}); }`,
      },
    };
  },
};
