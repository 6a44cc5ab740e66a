/** Col2Im: blocks put back into an image, sums where they overlap. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, WasmKernel } from '../define.ts';
import { f64, i32, type I32 } from './asm.ts';
import { at, loopEmitter, type Loops, ofDims } from './loops.ts';
import { isStored } from './number.ts';

interface BlockSpec {
  readonly dtype: DType;
  readonly rank: number;
}
/**
 * run(x, y, planes, columns, then for each dim: image, kernel, stride, dilation, pad, positions): every pixel sums what
 * falls on it.
 */
const col2ImEmitter = loopEmitter(
  'col2im',
  (s: BlockSpec) => [
    'x',
    'y',
    'planes',
    'columns',
    ...ofDims(s.rank, (d) => [`n${d}`, `k${d}`, `stride${d}`, `dilation${d}`, `pad${d}`, `out${d}`]),
  ],
  (k: Loops<string>, s: BlockSpec) => {
    const { f, p } = k;
    const total = f.local('f64');
    const e = k.int(0);
    const from = k.int(0);
    const place = Array.from({ length: s.rank }, () => f.local('i32'));
    const tap = (d: number, t: I32, column: I32): void => {
      if (d === s.rank) {
        f.set(total, f64.add(total, k.get(s.dtype, p.x!, at(i32.add(from, t), p.columns!, column))));
        return;
      }
      k.each(p[`k${d}`]!, (j) => {
        const o = k.int(i32.sub(i32.add(place[d]!, p[`pad${d}`]!), i32.mul(j, p[`dilation${d}`]!)));
        f.iff(i32.ges(o, 0), () =>
          f.iff(i32.eqz(i32.remu(o, p[`stride${d}`]!)), () => {
            f.set(o, i32.divu(o, p[`stride${d}`]!));
            f.iff(i32.ltu(o, p[`out${d}`]!), () =>
              tap(d + 1, k.int(at(t, p[`k${d}`]!, j)), k.int(at(column, p[`out${d}`]!, o))),
            );
          }),
        );
      });
    };
    const pixel = (d: number): void => {
      if (d < s.rank) {
        k.each(p[`n${d}`]!, (i) => {
          f.set(place[d]!, i);
          pixel(d + 1);
        });
        return;
      }
      f.set(total, f64.const(0));
      tap(0, i32.const(0), i32.const(0));
      k.put(s.dtype, p.y!, e, total);
      f.inc(e, 1);
    };
    const taps = Array.from({ length: s.rank }, (_, d): I32 => p[`k${d}`]!).reduce((a, b) => i32.mul(a, b));
    k.each(p.planes!, () => {
      pixel(0);
      f.inc(from, taps);
    });
  },
);
/** `windowOf` resolves the block, which must be known. */
export const col2ImWasm = (windowOf: (call: Call) => Window): WasmKernel => ({
  name: 'col2im.pixels',
  accepts: (call) => isStored(call.inputs[0]!.dtype) && [1, 2].every((i) => call.inputs[i]!.constant?.peek() != null),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const w = windowOf(call);
    const dims = shape.slice(2);
    return {
      emit: col2ImEmitter,
      spec: { dtype, rank: dims.length },
      args: [
        { input: 0 },
        { output: 0 },
        shape[0]! * shape[1]!,
        sizeOf(w.output),
        ...dims.flatMap((n, d) => [n, w.kernel[d]!, w.strides[d]!, w.dilations[d]!, w.pads[d]!, w.output[d]!]),
      ],
    };
  },
});
