/** DeformConv: each tap reads between pixels, at an offset of its own. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, WasmKernel } from '../define.ts';
import { type F64, f64, i32, type I32 } from './asm.ts';
import { at, loopEmitter, type Loops, ofDims, sum } from './loops.ts';
import { isStored } from './number.ts';

interface DeformSpec {
  readonly types: readonly (DType | null)[];
  readonly y: DType;
  readonly rank: number;
}
const DEFORM = [
  'x',
  'w',
  'offset',
  'bias',
  'mask',
  'y',
  'samples',
  'batch',
  'channels',
  'perOffset',
  'offsetGroups',
  'groups',
  'perGroup',
  'filters',
  'taps',
  'image',
  'positions',
] as const;
/**
 * run(…DEFORM, then for each dim: image, its stride, kernel, stride, dilation, pad, positions): samples of one
 * position, then all filters.
 */
const deformEmitter = loopEmitter(
  'deform',
  (s: DeformSpec): string[] => [
    ...DEFORM,
    ...ofDims(s.rank, (d) => [`n${d}`, `step${d}`, `k${d}`, `stride${d}`, `dilation${d}`, `pad${d}`, `out${d}`]),
  ],
  (k: Loops<string>, s: DeformSpec) => {
    const { f, p } = k;
    const [tx, tw, to, tb, tm] = s.types as DType[];
    const total = f.local('f64');
    const position = f.local('i32');
    const sample = f.local('i32');
    const tap = f.local('i32');
    const where = Array.from({ length: s.rank }, () => f.local('i32'));
    const low = Array.from({ length: s.rank }, () => f.local('f64'));
    const part = Array.from({ length: s.rank }, () => f.local('f64'));
    const corners = (d: number, weight: F64, offset: I32): void => {
      if (d < 0) {
        f.set(total, f64.add(total, f64.mul(weight, k.get(tx!, p.x!, offset))));
        return;
      }
      for (const high of [0, 1]) {
        const i = k.real(f64.add(low[d]!, high));
        const out = i32.or(f64.lt(i, 0), f64.ge(i, f64.convS(p[`n${d}`]!)));
        const w = k.real(f64.select(out, 0, f64.mul(weight, high ? part[d]! : f64.sub(1, part[d]!))));
        f.iff(f64.ne(w, 0), () =>
          corners(d - 1, w, k.int(i32.add(offset, i32.mul(i32.truncSatS64(i), p[`step${d}`]!)))),
        );
      }
    };
    const eachTap = (b: I32, ch: I32, d: number): void => {
      if (d < s.rank) {
        k.each(p[`k${d}`]!, (j) => {
          f.set(kernel[d]!, j);
          eachTap(b, ch, d + 1);
        });
        return;
      }
      const group = k.int(at(at(b, p.offsetGroups!, i32.divu(ch, p.perOffset!)), p.taps!, tap));
      for (let e = 0; e < s.rank; e++) {
        const fixed = sum(
          i32.mul(where[e]!, p[`stride${e}`]!),
          i32.sub(i32.mul(kernel[e]!, p[`dilation${e}`]!), p[`pad${e}`]!),
        );
        const v = k.real(
          f64.add(
            f64.convS(fixed),
            k.get(to!, p.offset!, at(i32.add(i32.mul(group, s.rank), e), p.positions!, position)),
          ),
        );
        f.set(low[e]!, f64.floor(v));
        f.set(part[e]!, f64.sub(v, low[e]!));
      }
      f.set(total, f64.const(0));
      corners(s.rank - 1, f64.const(1), k.int(i32.mul(at(b, p.channels!, ch), p.image!)));
      k.put(
        'float64',
        p.samples!,
        sample,
        tm ? f64.mul(total, k.get(tm, p.mask!, at(group, p.positions!, position))) : total,
      );
      f.inc(sample, 1);
      f.inc(tap, 1);
    };
    const kernel = Array.from({ length: s.rank }, () => f.local('i32'));
    const eachPosition = (b: I32, d: number): void => {
      if (d < s.rank) {
        k.each(p[`out${d}`]!, (i) => {
          f.set(where[d]!, i);
          eachPosition(b, d + 1);
        });
        return;
      }
      f.set(sample, i32.const(0));
      k.each(p.channels!, (ch) => {
        f.set(tap, i32.const(0));
        eachTap(b, ch, 0);
      });
      const depth = k.int(i32.mul(p.perGroup!, p.taps!));
      k.each(p.groups!, (g) =>
        k.each(p.filters!, (m) => {
          const filter = k.int(at(g, p.filters!, m));
          f.set(total, f64.const(0));
          k.each(depth, (e) =>
            f.set(
              total,
              f64.add(
                total,
                f64.mul(k.get(tw!, p.w!, at(filter, depth, e)), k.get('float64', p.samples!, at(g, depth, e))),
              ),
            ),
          );
          k.put(
            s.y,
            p.y!,
            at(at(b, i32.mul(p.groups!, p.filters!), filter), p.positions!, position),
            tb ? f64.add(total, k.get(tb, p.bias!, filter)) : total,
          );
        }),
      );
      f.inc(position, 1);
    };
    k.each(p.batch!, (b) => {
      f.set(position, i32.const(0));
      eachPosition(b, 0);
    });
  },
);
export const deformWasm = (windowOf: (call: Call) => Window): WasmKernel<{ readonly offset_group: number }> => ({
  name: 'deform_conv.positions',
  accepts: (call) => call.inputs.every((t) => t == null || isStored(t.dtype)) && call.inputs[0]!.shape.length <= 5,
  scratch: (call) => [8 * call.inputs[0]!.shape[1]! * sizeOf(windowOf(call).kernel) + 16],
  launch: (call) => {
    const w = windowOf(call);
    const [batch, channels, ...dims] = call.inputs[0]!.shape as [number, number, ...number[]];
    const strides = stridesOf(dims);
    const y = call.outputs[0]!;
    if (sizeOf(y.shape) === 0) return [];
    return {
      emit: deformEmitter,
      spec: { types: call.inputs.map((t) => t?.dtype ?? null), y: y.dtype, rank: dims.length },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        call.inputs[3] ? { input: 3 } : 0,
        call.inputs[4] ? { input: 4 } : 0,
        { output: 0 },
        { scratch: 0 },
        batch,
        channels,
        channels / call.attrs.offset_group,
        call.attrs.offset_group,
        w.group,
        channels / w.group,
        y.shape[1]! / w.group,
        sizeOf(w.kernel),
        sizeOf(dims),
        sizeOf(w.output),
        ...dims.flatMap((n, d) => [
          n,
          strides[d]!,
          w.kernel[d]!,
          w.strides[d]!,
          w.dilations[d]!,
          w.pads[d]!,
          w.output[d]!,
        ]),
      ],
    };
  },
});
