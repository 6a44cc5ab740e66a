import { fail } from '../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../src/core/numbers.ts';
import { sizeOf } from '../src/core/tensor.ts';
import { defineOp, ints, NUMERIC } from './define.ts';
import { fold } from './conv-direct.ts';
import { tapTable, type Window, type WindowAttrs, windowOf } from './conv-window.ts';
import { col2ImWasm } from './wasm/windows.ts';

function shapesOf(data: readonly number[], image: readonly number[], block: readonly number[], attrs: WindowAttrs): { window: Window; channels: number; shape: readonly number[] } {
  if (data.length !== 3) fail('shape_mismatch', `the input has shape [${data}]; it must be [N, C * block, L]`);
  if (image.length !== block.length || [...image, ...block].some((d) => d < 1)) fail('shape_mismatch', `image_shape [${image}] and block_shape [${block}] must be positive and of one length`);
  const window = windowOf(attrs, [1, 1, ...image], block);
  const channels = data[1]! / sizeOf(block);
  if (!Number.isInteger(channels) || data[2] !== sizeOf(window.output)) {
    fail('shape_mismatch', `an input of shape [${data}] does not hold ${sizeOf(window.output)} blocks of [${block}] over an image of [${image}]`);
  }
  return { window, channels, shape: [data[0]!, channels, ...image] };
}

/** https://onnx.ai/onnx/operators/onnx__Col2Im.html */
export const col2Im = defineOp({
  op: 'Col2Im', since: [18], inputs: ['input: T', 'image_shape: int64', 'block_shape: int64'], outputs: ['output: T'], types: { T: NUMERIC }, attrs: { dilations: ints(), pads: ints(), strides: ints() },
  wasm: [col2ImWasm((call) => { const [image, block] = [1, 2].map((i) => integers(call.inputs[i]!.constant!.peek()!)) as [number[], number[]]; return shapesOf(call.inputs[0]!.shape, image, block, call.attrs).window; })],
  infer: (call) => [{ dtype: call.fact(0).dtype, shape: shapesOf(call.fact(0).shape, integers(call.value(1)), integers(call.value(2)), call.attrs).shape }],
  reference: (call) => {
    const t = call.tensor(0), image = integers(call.tensor(1));
    const { window, channels, shape } = shapesOf(t.shape, image, integers(call.tensor(2)), call.attrs);
    const table = tapTable(window, image, window.output);
    const from = numbers(t), size = sizeOf(image);
    const y = new Float64Array(sizeOf(shape));
    for (let i = 0; i < t.shape[0]! * channels; i++) fold(from, i * table.length, table, y, i * size);
    return [fromNumbers(t.dtype, shape, y)];
  },
});
