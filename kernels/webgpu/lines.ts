/** Hardmax, LpNormalization and TopK: what looks at lines of elements along an axis. */
import { sizeOf } from '../../src/core/tensor.ts';
import { lineApply, lineMeasure, topRank, topTake } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { axisOf } from '../shapes.ts';
import { elemOf, isReal, realElem } from './elem.ts';
import { countedLaunch, elementLaunch } from './element.ts';
import type { Elem } from '../../wgsl/assemble.ts';

interface Lines { readonly outer: number; readonly n: number; readonly inner: number }
const along = (shape: readonly number[], axis: number): Lines => ({ outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) });

/** What is measured of each line: the place of the first of its greatest, or a norm. */
export const lineKernel = (work: (call: Call) => 'hardmax' | 'l1' | 'l2', linesOf: (call: Call) => Lines): GpuKernel => ({
  name: 'lines.measured',
  accepts: (call) => isReal(call.inputs[0]),
  scratch: (call) => { const { outer, inner } = linesOf(call); return [outer * inner * 4]; },
  launch: (call, caps) => {
    const { outer, n, inner } = linesOf(call);
    const MODE = ['hardmax', 'l1', 'l2'].indexOf(work(call));
    const types = { x: realElem(call.inputs[0]!) };
    return [
      countedLaunch({ module: lineMeasure, types, params: { MODE }, uniforms: { n, inner }, bind: [{ input: 0 }, { scratch: 0 }] }, outer * inner),
      elementLaunch({ module: lineApply, types, params: { MODE }, uniforms: { n, inner }, reads: [{ input: 0 }, { scratch: 0 }] }, call.outputs[0]!, { output: 0 }, caps),
    ];
  },
});
export const linesAlong = (call: Call): Lines => { const { shape } = call.inputs[0]!; return along(shape, axisOf(call.attrs.axis, shape.length)); };

/** `fn less(a, b)`; NaN is greater than anything, and zeros are equal. */
function lessText(elem: Elem): string | null {
  const head = 'fn less(a: X, b: X) -> bool';
  if (elem === 'i64' || elem === 'u64') return `${head} { return lt_${elem}(a, b); }`;
  if (elem === 'f32' || elem === 'f16' || elem === 'bf16') return `${head} { return (!is_nan(a) && is_nan(b)) || (!is_nan(a) && a < b); }`;
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
    return elem !== undefined && lessText(elem) !== null && sizeOf(shape) * linesAlong(call).n <= (caps.software ? MOST_SOFTWARE : MOST);
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
    const rank = countedLaunch({ module: topRank, types: { x: elem }, params: { LARGEST: call.attrs.largest ? 1 : 0 }, slots: { less: lessText(elem)! }, uniforms, bind: [{ input: 0 }, places] }, sizeOf(call.inputs[0]!.shape));
    return values ? [rank, elementLaunch({ module: topTake, types: { x: elem }, uniforms, reads: [{ input: 0 }, places] }, values, { output: 0 }, caps)] : rank;
  },
};
