/** DFT and STFT: sums over tables of roots, as the transform is defined. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { dftRoots, dftSum } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import type { Dft, Stft } from '../signal.ts';
import { countedLaunch, elementLaunch, extraOf } from './element.ts';
import type { Member } from './operands.ts';
import { knows } from './unit.ts';
import { isReal, realElem } from './elem.ts';

/** Beyond this many products the host's fast transform is sooner done. */
const MOST = 2 ** 32;
const MOST_SOFTWARE = 2 ** 26;
const fits = (call: Call, n: number, caps: GpuCaps): boolean =>
  sizeOf(call.outputs[0]!.shape) * n <= (caps.software ? MOST_SOFTWARE : MOST);
const member = (name: string, value: number): Member => ({ name, type: 'u32', value });

interface Sum {
  readonly n: number;
  readonly bins: number;
  readonly inner: number;
  readonly inverse: boolean;
  readonly real: boolean;
  readonly signal: string;
  readonly members: readonly Member[];
  readonly window: boolean;
}
const launches = (call: Call, caps: GpuCaps, s: Sum): readonly Launch[] => [
  countedLaunch(
    { module: dftRoots, params: { SIGN: s.inverse ? 1 : -1 }, uniforms: { n: s.n }, bind: [{ scratch: 0 }] },
    s.n,
  ),
  elementLaunch(
    (({ types, extra }) => ({
      module: dftSum,
      types: { x: realElem(call.inputs[0]!), ...types },
      params: { PARTS: s.real ? 1 : 2 },
      slots: { signal: `fn signal(o: u32, i: u32, j: u32) -> vec2f {\n  ${s.signal}\n}` },
      uniforms: { n: s.n, bins: s.bins, inner: s.inner, scale: s.inverse ? 1 / s.n : 1 },
      reads: [{ input: 0 }, { scratch: 0 }],
      extra,
      extraUniforms: s.members,
    }))(extraOf(s.window ? ['window', realElem(call.inputs[2]!), { input: 2 }] : null)),
    call.outputs[0]!,
    { output: 0 },
    caps,
  ),
];

export const dftKernel = (shapeOf: (call: Call) => Dft): GpuKernel => ({
  name: 'dft.sums',
  accepts: (call, caps) => isReal(call.inputs[0]) && knows(call, 1, 2) && fits(call, shapeOf(call).length, caps),
  scratch: (call) => [shapeOf(call).length * 8],
  launch: (call, caps) => {
    const d = shapeOf(call);
    const { shape } = call.inputs[0]!;
    const value = d.complex ? 'vec2f(load_x(at), load_x(at + 1u))' : 'vec2f(load_x(at), 0.0)';
    // The half of a real signal's spectrum that is not given mirrors the other.
    const signal = `${d.real ? `let mirrored = 2u * j > u.n;\n  let k = select(j, u.n - j, mirrored);` : 'let k = j;'}
  if (k >= extra.steps) { return vec2f(0.0); }
  let at = ((o * extra.steps + k) * u.inner + i) * ${d.complex ? 2 : 1}u;
  let v = ${value};
  return ${d.real ? 'select(v, vec2f(v.x, -v.y), mirrored)' : 'v'};`;
    return launches(call, caps, {
      n: d.length,
      bins: d.bins,
      inner: sizeOf(shape.slice(d.axis + 1, -1)),
      inverse: !!call.attrs.inverse,
      real: d.real,
      signal,
      members: [member('steps', shape[d.axis]!)],
      window: false,
    });
  },
});

export const stftKernel = (shapeOf: (call: Call) => Stft): GpuKernel => ({
  name: 'stft.sums',
  accepts: (call, caps) =>
    isReal(call.inputs[0]) && isReal(call.inputs[2]) && knows(call, 1, 3) && fits(call, shapeOf(call).length, caps),
  scratch: (call) => [shapeOf(call).length * 8],
  launch: (call, caps) => {
    const s = shapeOf(call);
    const window = (call.inputs[2] ?? null) !== null;
    const signal = `let b = o / extra.frames;
  let at = (b * extra.length + (o - b * extra.frames) * extra.step + j) * ${s.complex ? 2 : 1}u;
  return vec2f(load_x(at), ${s.complex ? 'load_x(at + 1u)' : '0.0'})${window ? ' * load_window(j)' : ''};`;
    return launches(call, caps, {
      n: s.length,
      bins: s.bins,
      inner: 1,
      inverse: false,
      real: false,
      signal,
      members: [member('frames', s.frames), member('length', call.inputs[0]!.shape[1]!), member('step', s.step)],
      window,
    });
  },
});
