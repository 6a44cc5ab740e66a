/** Hardmax and LpNormalization: what looks at lines of elements along an axis. */
import { lineApply, lineMeasure } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { isReal, realElem } from './elem.ts';
import { countedLaunch, elementLaunch, type Lines } from './element.ts';

/** What is measured of each line: the place of the first of its greatest, or a norm. */
export const lineKernel = (
  work: (call: Call) => 'hardmax' | 'l1' | 'l2',
  linesOf: (call: Call) => Lines,
): GpuKernel => ({
  name: 'lines.measured',
  accepts: (call) => isReal(call.inputs[0]),
  scratch: (call) => {
    const { outer, inner } = linesOf(call);
    return [outer * inner * 4];
  },
  launch: (call, caps) => {
    const { outer, n, inner } = linesOf(call);
    const MODE = ['hardmax', 'l1', 'l2'].indexOf(work(call));
    const types = { x: realElem(call.inputs[0]!) };
    return [
      countedLaunch(
        { module: lineMeasure, types, params: { MODE }, uniforms: { n, inner }, bind: [{ input: 0 }, { scratch: 0 }] },
        outer * inner,
      ),
      elementLaunch(
        { module: lineApply, types, params: { MODE }, uniforms: { n, inner }, reads: [{ input: 0 }, { scratch: 0 }] },
        call.outputs[0]!,
        { output: 0 },
        caps,
      ),
    ];
  },
});
