/** TopK: places by counting what is greater. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { topRank, topTake } from '../../wgsl/index.gen.ts';
import type { GpuKernel } from '../define.ts';
import { axisOf } from '../shapes.ts';
import { elemOf } from './elem.ts';
import { countedLaunch, elementLaunch, linesAlong } from './element.ts';

/** `fn less(a, b)`; NaN is greater than anything, and zeros are equal. */
function lessText(elem: Elem): string | null {
  const head = 'fn less(a: X, b: X) -> bool';
  if (elem === 'i64' || elem === 'u64') return `${head} { return lt_${elem}(a, b); }`;
  if (elem === 'f32' || elem === 'f16' || elem === 'bf16')
    return `${head} { return (!is_nan(a) && is_nan(b)) || (!is_nan(a) && a < b); }`;
  return elem === 'bool' || elem === 'i4' || elem === 'u4' ? null : `${head} { return a < b; }`;
}
/** Each element counts the line: more of it than this the host sorts sooner. */
const MOST = 2 ** 31;
const MOST_SOFTWARE = 2 ** 25;

export const topKernel: GpuKernel<{ readonly axis: number; readonly largest: number }> = {
  name: 'lines.top',
  accepts: (call, caps) => {
    const { dtype, shape } = call.inputs[0]!;
    const elem = elemOf(dtype);
    return (
      elem !== undefined &&
      lessText(elem) !== null &&
      sizeOf(shape) * linesAlong(call).n <= (caps.software ? MOST_SOFTWARE : MOST)
    );
  },
  scratch: (call) => (call.outputs[1] ? [] : [sizeOf(call.outputs[0]!.shape) * 8]),
  launch: (call, caps) => {
    const { n, inner } = linesAlong(call);
    const [values, indices] = call.outputs;
    const fact = (values ?? indices)!;
    const k = fact.shape[axisOf(call.attrs.axis, fact.shape.length)]!;
    const elem = elemOf(call.inputs[0]!.dtype)!;
    const places = indices ? { output: 1 } : { scratch: 0 };
    const uniforms = { n, inner, k };
    const rank = countedLaunch(
      {
        module: topRank,
        types: { x: elem },
        params: { LARGEST: call.attrs.largest ? 1 : 0 },
        slots: { less: lessText(elem)! },
        uniforms,
        bind: [{ input: 0 }, places],
      },
      sizeOf(call.inputs[0]!.shape),
    );
    return values
      ? [
          rank,
          elementLaunch(
            { module: topTake, types: { x: elem }, uniforms, reads: [{ input: 0 }, places] },
            values,
            { output: 0 },
            caps,
          ),
        ]
      : rank;
  },
};
