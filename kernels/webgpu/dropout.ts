/** Dropout that drops nothing, and the mask that says so. */
import { numbers } from '../../src/core/numbers.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { constant, input, kindOf } from '../expr.ts';
import { mapLaunch } from './map.ts';

/** Is the value of input i known to be `value`? An absent one is `otherwise`. */
const is = (call: Call, i: number, value: number, otherwise: number): boolean => {
  const fact = call.inputs[i] ?? null;
  if (fact === null) return otherwise === value;
  const known = fact.constant?.peek();
  return known != null && numbers(known)[0] === value;
};

export const dropoutKernel: GpuKernel = {
  name: 'dropout.keep',
  accepts: (call) => (is(call, 2, 0, 0) || is(call, 1, 0, 0.5)) && kindOf(call.inputs[0]!.dtype) !== 'f64',
  launch: (call) => {
    const [data, mask] = call.outputs;
    const from = call.inputs[0]!;
    const out: Launch[] = data
      ? [mapLaunch(input(0, kindOf(from.dtype)!), data, { output: 0 }, [{ fact: from, bind: { input: 0 } }])]
      : [];
    return mask ? [...out, mapLaunch(constant(1, kindOf(mask.dtype)!), mask, { output: 1 }, [])] : out;
  },
};
