/** Places of extremes, and running sums, along an axis. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { scanLane } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import { WGSL_TYPE } from '../expr-to-wgsl.ts';
import { constant, input, x } from '../expr.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';
import {
  body,
  divide,
  launchOf,
  type Number,
  reducible,
  type Space,
  spaceOf,
  type Steps,
  stepsOf,
  storage,
  WG,
  WIDE,
  WIDE_DTYPE,
  WIDTHS,
} from './reduce.ts';

/** ArgMax and ArgMin: the place of the extreme as int64. Of equals the first, or the last if asked. */
export const positionKernel = (
  greatest: boolean,
  axisOf: (call: Call) => number,
): GpuKernel<{ readonly select_last_index: number }> => ({
  name: greatest ? 'reduce.argmax' : 'reduce.argmin',
  accepts: (call) => reducible(call) !== null && spaceOf(call.inputs[0]!.shape, [axisOf(call)]).shape.length <= 8,
  tunables: WIDTHS,
  launch: (call, caps, tuned) => {
    const kind = reducible(call)!;
    const s = spaceOf(call.inputs[0]!.shape, [axisOf(call)]);
    const T = WGSL_TYPE[kind];
    const [a, b] = [input(0, kind), input(1, kind)];
    const none = '0xffffffffu';
    const steps: Steps = {
      A: 'Place',
      Y: 'vec2u',
      first: `struct Place { v: ${T}, k: u32 }\nfn first() -> Place { return Place(${T}(), ${none}); }`,
      pre: `fn pre(v: ${T}, k: u32) -> Place { return Place(v, k); }`,
      merge:
        `${body(`better(a: ${T}, b: ${T}) -> bool`, greatest ? x.lt(b, a) : x.lt(a, b), ['a', 'b'])}\n${body(`same(a: ${T}, b: ${T}) -> bool`, x.eq(a, b), ['a', 'b'])}\n` +
        `fn merge(a: Place, b: Place) -> Place {\n  if (a.k == ${none}) { return b; }\n  if (b.k == ${none}) { return a; }\n  if (better(b.v, a.v)) { return b; }\n  if (same(a.v, b.v) && ${call.attrs.select_last_index ? 'b.k > a.k' : 'b.k < a.k'}) { return b; }\n  return a;\n}`,
      post: 'fn post(a: Place) -> vec2u { return vec2u(a.k, 0u); }',
    };
    return launchOf(
      s,
      { ...divide(s, caps, tuned), parts: 1 },
      steps,
      { x: storage(call.inputs[0]!), y: 'i64' },
      false,
      { input: 0 },
      { output: 0 },
      caps,
    );
  },
});

interface ScanAttrs {
  readonly exclusive: number;
  readonly reverse: number;
}
/** CumSum and CumProd; `axisOf` is null while the axis is not known. */
export const scanKernel = (product: boolean, axisOf: (call: Call) => number | null): GpuKernel<ScanAttrs> => {
  const of = (
    call: Call,
    caps: GpuCaps,
  ): { rows: number; n: number; inner: number; parts: number; chunk: number; kind: Number; packed: boolean } => {
    const { shape, dtype } = call.inputs[0]!;
    const axis = axisOf(call)!;
    const [n, inner] = [shape[axis]!, sizeOf(shape.slice(axis + 1))];
    const rows = sizeOf(shape.slice(0, axis)) * inner;
    const most =
      caps.software || rows >= 4096 || n < 256 ? 1 : Math.min(256, Math.ceil(n / 64), Math.ceil(16384 / rows));
    let parts = most;
    if (call.attrs.reverse) while (n % parts !== 0) parts--; // chunks from either end must be the same
    return {
      rows,
      n,
      inner,
      parts,
      chunk: Math.max(1, Math.ceil(n / parts)),
      kind: reducible(call)!,
      packed: isPacked(elemOf(dtype)!, caps),
    };
  };
  return {
    name: product ? 'scan.product' : 'scan.sum',
    accepts: (call) => axisOf(call) !== null && reducible(call) !== null,
    scratch: (call, caps) => {
      const { rows, parts, kind, packed } = of(call, caps);
      const width = kind === 'i64' || kind === 'u64' ? 8 : 4;
      return [...(packed ? [sizeOf(call.inputs[0]!.shape) * 4] : []), ...(parts > 1 ? [rows * parts * width] : [])];
    },
    launch: (call, caps) => {
      const { rows, n, inner, parts, chunk, kind, packed } = of(call, caps);
      const { shape, dtype } = call.inputs[0]!;
      const { exclusive, reverse } = call.attrs;
      const { first, merge, pre, A, Y } = stepsOf(
        product ? 'Prod' : 'Sum',
        kind,
        n,
        constant(0, kind),
        constant(0, kind),
      );
      const elem = elemOf(dtype)!;
      const sums: Ref = { scratch: packed ? 1 : 0 };
      const launches: Launch[] = [];
      if (parts > 1) {
        const s: Space = {
          shape: inner > 1 ? [rows / inner, inner] : [rows],
          strides: inner > 1 ? [n * inner, 1] : [n],
          depths: [n],
          steps: [inner],
          n,
          count: rows,
        };
        launches.push(
          launchOf(
            s,
            { group: false, parts },
            { A, Y, first, merge, pre, post: `fn post(a: ${A}) -> ${A} { return a; }` },
            { x: elem, y: WIDE[kind] },
            false,
            { input: 0 },
            sums,
            caps,
          ),
        );
      }
      const carried =
        parts === 1
          ? 'fn carried(row: u32, part: u32) -> A { return first(); }'
          : `fn carried(row: u32, part: u32) -> A { var a = first(); for (var p = 0u; p < part; p++) { a = merge(a, load_sums(row * u.parts + ${reverse ? 'u.parts - 1u - p' : 'p'})); } return a; }`;
      launches.push({
        module: scanLane,
        types: { x: elem, y: packed ? WIDE[kind] : elem, ...(parts > 1 ? { sums: WIDE[kind] } : {}) },
        params: { WG, EXCLUSIVE: exclusive ? 1 : 0, REVERSE: reverse ? 1 : 0 },
        uniforms: { count: rows * parts, n, inner, parts, chunk },
        slots: { carried, first: `alias A = ${A};\n${first}`, merge },
        workgroups: grid(rows * parts, WG),
        bind: [{ input: 0 }, packed ? { scratch: 0 } : { output: 0 }],
        ...(parts > 1 ? { extra: [{ name: 'sums', bind: sums }] } : {}),
      });
      if (packed)
        launches.push(
          mapLaunch(input(0, kind), call.outputs[0]!, { output: 0 }, [
            { fact: { dtype: WIDE_DTYPE[kind], shape }, bind: { scratch: 0 } },
          ]),
        );
      return launches;
    },
  };
};
