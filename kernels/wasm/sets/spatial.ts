/** WASM kernels of the operators that `kernels/sets.ts` calls spatial. */
import { integers } from '../../../src/core/numbers.ts';
import type { Call, KernelTable, WasmKernel } from '../../define.ts';
import { unpoolShape } from '../../pool.ts';
import { changedAxes } from '../../resize.ts';
import { convTransposeWasm } from '../conv-transpose.ts';
import { convWasm } from '../conv.ts';
import { withHalf } from '../half.ts';
import { batchNormWasm } from '../norm-each.ts';
import { poolWasm } from '../pool.ts';
import { resizeKernel } from '../resize.ts';
import { maxUnpoolWasm } from '../unpool.ts';

const shapeOf = (call: Call, i: number): readonly number[] => call.inputs[i]!.shape;
const resizes = [resizeKernel(changedAxes)];

export const kernels: KernelTable<WasmKernel> = {
  Conv: convWasm,
  ConvTranspose: withHalf([convTransposeWasm]),
  ...poolWasm,
  MaxUnpool: [
    maxUnpoolWasm((call) =>
      unpoolShape(
        shapeOf(call, 0),
        shapeOf(call, 1),
        call.attrs,
        call.inputs[2] ? integers(call.inputs[2].constant!.peek()!) : null,
      ),
    ),
  ],
  Resize: resizes,
  Upsample: resizes,
  BatchNormalization: [batchNormWasm],
};
