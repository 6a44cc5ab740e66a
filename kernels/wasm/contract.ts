/**
 * Sums of products over named dims, logarithms of sums of doubles, and convolutions and products of bytes whose types
 * no fast kernel takes.
 */
import type { DType } from '../../src/core/dtype.ts';
import { isInt64 } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, Ref, WasmKernel } from '../define.ts';
import type { Contraction } from '../einsum-contraction.ts';
import { RANGE } from '../quantize-round.ts';
import { broadcastStrides } from '../shapes.ts';
import { f32, type F64, f64, i32, type I32, type Local } from './asm.ts';
import { loadScalar } from './elem.ts';
import { at, expOf, logOf, loopEmitter, type Loops, nest } from './loops.ts';
import { elementAt, isStored } from './number.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

// ── Einsum ──────────────────────────────────────────────────────────────────────────────────────────────────────────
interface EinsumSpec {
  readonly dtype: DType;
  readonly inputs: number;
  readonly outer: number;
  readonly inner: number;
}
/** run(y, inputs…, then for each dim of the output, and each that is summed: size, a stride per input). */
const einsumEmitter = loopEmitter(
  'einsum',
  (s: EinsumSpec): string[] => [
    'y',
    ...range(s.inputs).map((i) => `x${i}`),
    ...range(s.outer + s.inner).flatMap((d) => [`n${d}`, ...range(s.inputs).map((i) => `s${d}_${i}`)]),
  ],
  (k: Loops<string>, s: EinsumSpec) => {
    const { f, p } = k;
    const total = f.local('f64');
    const e = k.int(0);
    const dims = range(s.outer + s.inner).map((d) => p[`n${d}`]!);
    const strides = range(s.inputs).map((i) => dims.map((_, d) => p[`s${d}_${i}`]!));
    nest(
      k,
      dims.slice(0, s.outer),
      strides.map((l) => l.slice(0, s.outer)),
      strides.map(() => i32.const(0)),
      (outer) => {
        f.set(total, f64.const(0));
        nest(
          k,
          dims.slice(s.outer),
          strides.map((l) => l.slice(s.outer)),
          outer,
          (inner) => {
            f.set(
              total,
              f64.add(
                total,
                inner.map((o, i) => k.get(s.dtype, p[`x${i}`]!, o)).reduce((a, b) => f64.mul(a, b)),
              ),
            );
          },
        );
        k.put(s.dtype, p.y!, e, total);
        f.inc(e, 1);
      },
    );
  },
);
/** Terms that one loop over all dims may have where there are more than two operands. */
const MOST_TERMS = 2 ** 24;
export const einsumWasm = (contractionOf: (call: Call) => Contraction): WasmKernel => ({
  name: 'einsum.nest',
  accepts: (call) =>
    isStored(call.outputs[0]!.dtype) &&
    !isInt64(call.outputs[0]!.dtype) &&
    (call.inputs.length <= 2 || sizeOf(Object.values(contractionOf(call).dims)) <= MOST_TERMS),
  launch: (call) => {
    const c = contractionOf(call);
    const { dtype, shape } = call.outputs[0]!;
    if (sizeOf(shape) === 0) return [];
    const summed = Object.keys(c.dims).filter((l) => !c.output.includes(l));
    const strideOf = (i: number, label: string): number => {
      const own = call.inputs[i]!.shape;
      const steps = stridesOf(own);
      return c.operands[i]!.reduce((n, l, d) => n + (l === label && own[d] !== 1 ? steps[d]! : 0), 0);
    };
    return {
      emit: einsumEmitter,
      spec: { dtype, inputs: call.inputs.length, outer: c.output.length, inner: summed.length },
      args: [
        { output: 0 },
        ...call.inputs.map((_, i): Ref => ({ input: i })),
        ...[...c.output, ...summed].flatMap((l) => [c.dims[l]!, ...call.inputs.map((_, i) => strideOf(i, l))]),
      ],
    };
  },
});

// ── ReduceLogSumExp of doubles ──────────────────────────────────────────────────────────────────────────────────────
interface SumSpec {
  readonly dtype: DType;
  readonly outer: number;
  readonly inner: number;
}
/** run(x, y, then for each dim that stays, and each that goes: size, stride). */
const logSumEmitter = loopEmitter(
  'log sum exp',
  (s: SumSpec): string[] => ['x', 'y', ...range(s.outer + s.inner).flatMap((d) => [`n${d}`, `s${d}`])],
  (k: Loops<string>, s: SumSpec) => {
    const { f, c, p } = k;
    const [exp, log] = [expOf(c), logOf(c)];
    const [top, total] = [f.local('f64'), f.local('f64')];
    const e = k.int(0);
    const dims = range(s.outer + s.inner).map((d) => p[`n${d}`]!);
    const strides = dims.map((_, d) => p[`s${d}`]!);
    nest(k, dims.slice(0, s.outer), [strides.slice(0, s.outer)], [i32.const(0)], ([start]) => {
      const all = (body: (v: F64) => void): void =>
        nest(k, dims.slice(s.outer), [strides.slice(s.outer)], [start!], ([i]) => body(k.get(s.dtype, p.x!, i!)));
      f.set(top, f64.const(-Infinity));
      all((v) => f.set(top, f64.max(top, v)));
      f.set(total, f64.const(0));
      all((v) => f.set(total, f64.add(total, exp(f64.sub(v, top)))));
      k.put(s.dtype, p.y!, e, f64.select(f64.eq(f64.abs(top), Infinity), top, f64.add(top, log(total))));
      f.inc(e, 1);
    });
  },
);
/** `axesOf(call)`: null where they are not known. */
export const logSumExpWasm = (axesOf: (call: Call) => readonly number[] | null): WasmKernel => ({
  name: 'reduce.logsumexp_doubles',
  accepts: (call) => isStored(call.inputs[0]!.dtype) && !/int/.test(call.inputs[0]!.dtype) && axesOf(call) !== null,
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const axes = axesOf(call)!;
    const strides = stridesOf(shape);
    const [stays, goes] = [
      range(shape.length).filter((d) => !axes.includes(d)),
      range(shape.length).filter((d) => axes.includes(d)),
    ];
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    return {
      emit: logSumEmitter,
      spec: { dtype, outer: stays.length, inner: goes.length },
      args: [{ input: 0 }, { output: 0 }, ...[...stays, ...goes].flatMap((d) => [shape[d]!, strides[d]!])],
    };
  },
});

// ── convolution of bytes ────────────────────────────────────────────────────────────────────────────────────────────
/** Inputs by role; null: not there. */
export interface Roles {
  readonly x: number;
  readonly w: number;
  readonly xZero: number | null;
  readonly wZero: number | null;
  readonly bias: number | null;
  readonly scales: readonly [x: number, w: number, y: number] | null;
  readonly yZero: number | null;
}
interface ByteConvSpec {
  readonly x: DType;
  readonly w: DType;
  readonly y: DType;
  readonly rank: number;
  readonly xZero: boolean;
  readonly wZero: boolean;
  readonly bias: boolean;
  readonly scaled: boolean;
}
const BYTES = [
  'x',
  'w',
  'xZero',
  'wZero',
  'bias',
  'xScale',
  'wScale',
  'yScale',
  'yZero',
  'y',
  'batch',
  'groups',
  'perGroup',
  'filters',
  'xBatch',
  'xChannel',
  'yBatch',
  'yChannel',
  'taps',
  'wZeroStep',
  'wScaleStep',
] as const;
/** run(…BYTES, then for each dim: image, stride of x, kernel, stride, dilation, pad, positions, stride of y). */
const byteConvEmitter = loopEmitter(
  'byte conv',
  (s: ByteConvSpec): string[] => [
    ...BYTES,
    ...range(s.rank).flatMap((d) => [
      `n${d}`,
      `xs${d}`,
      `k${d}`,
      `stride${d}`,
      `dilation${d}`,
      `pad${d}`,
      `out${d}`,
      `ys${d}`,
    ]),
  ],
  (k: Loops<string>, s: ByteConvSpec) => {
    const { f, c, p } = k;
    const total = f.local('i32');
    const weight = f.local('i32');
    const byte = (d: DType, base: I32, i: I32): I32 => loadScalar(c, d, elementAt(d, base, i)) as I32;
    const xZero = k.int(s.xZero ? byte(s.x, p.xZero!, i32.const(0)) : 0);
    const wZero = k.int(0);
    const scale = f.local('f64');
    const yZero = k.real(s.scaled ? k.get(s.y, p.yZero!, i32.const(0)) : 0);
    const tap = (d: number, where: readonly Local<'i32'>[], offset: I32): void => {
      if (d === s.rank) {
        const from = k.int(offset);
        const w = k.int(weight);
        k.each(p.perGroup!, () => {
          f.set(
            total,
            i32.add(total, i32.mul(i32.sub(byte(s.x, p.x!, from), xZero), i32.sub(byte(s.w, p.w!, w), wZero))),
          );
          f.inc(from, p.xChannel!);
          f.inc(w, p.taps!);
        });
        f.inc(weight, 1);
        return;
      }
      k.each(p[`k${d}`]!, (j) => {
        const i = k.int(i32.add(where[d]!, i32.mul(j, p[`dilation${d}`]!)));
        f.iff(
          i32.ltu(i, p[`n${d}`]!),
          () => tap(d + 1, where, k.int(i32.add(offset, i32.mul(i, p[`xs${d}`]!)))),
          () =>
            f.inc(
              weight,
              range(s.rank)
                .slice(d + 1)
                .map((e): I32 => p[`k${e}`]!)
                .reduce((a, b) => i32.mul(a, b), i32.const(1)),
            ),
        );
      });
    };
    k.each(p.batch!, (b) =>
      k.each(p.groups!, (g) =>
        k.each(p.filters!, (m) => {
          const filter = k.int(at(g, p.filters!, m));
          const first = k.int(i32.mul(i32.mul(filter, p.perGroup!), p.taps!));
          const image = k.int(i32.add(i32.mul(b, p.xBatch!), i32.mul(i32.mul(g, p.perGroup!), p.xChannel!)));
          if (s.wZero) f.set(wZero, byte(s.w, p.wZero!, i32.mul(filter, p.wZeroStep!)));
          const bias = k.int(s.bias ? i32.load(elementAt('int32', p.bias!, filter)) : 0);
          if (s.scaled)
            f.set(
              scale,
              f64.promote(
                f32.div(
                  f32.mul(
                    f32.load(p.xScale!),
                    f32.load(elementAt('float32', p.wScale!, i32.mul(filter, p.wScaleStep!))),
                  ),
                  f32.load(p.yScale!),
                ),
              ),
            );
          const position = (d: number, where: readonly Local<'i32'>[], y: I32): void => {
            if (d < s.rank) {
              k.each(p[`out${d}`]!, (i) =>
                position(
                  d + 1,
                  [...where, k.int(i32.sub(i32.mul(i, p[`stride${d}`]!), p[`pad${d}`]!))],
                  k.int(i32.add(y, i32.mul(i, p[`ys${d}`]!))),
                ),
              );
              return;
            }
            f.set(total, bias);
            f.set(weight, first);
            tap(0, where, image);
            const [least, most] = RANGE[s.y]!;
            k.put(
              s.y,
              p.y!,
              y,
              s.scaled
                ? f64.min(f64.max(f64.add(f64.nearest(f64.mul(f64.convS(total), scale)), yZero), least), most)
                : f64.convS(total),
            );
          };
          position(0, [], k.int(i32.add(i32.mul(b, p.yBatch!), i32.mul(filter, p.yChannel!))));
        }),
      ),
    );
  },
);
/** `last`: channels lie behind the spatial dims, of x and of y. Sums must fit 31 bits where they are scaled. */
export const byteConvWasm = (
  name: string,
  roles: Roles,
  windowOf: (call: Call) => Window,
  last: (call: Call) => boolean,
): WasmKernel => ({
  name,
  accepts: (call) => {
    const w = call.inputs[roles.w]!.shape;
    return roles.scales === null || sizeOf(w.slice(1)) < 1 << 14;
  },
  launch: (call) => {
    const w = windowOf(call);
    const x = call.inputs[roles.x]!;
    const weights = call.inputs[roles.w]!;
    const y = call.outputs[0]!;
    const back = last(call);
    const rank = w.kernel.length;
    if (sizeOf(y.shape) === 0) return [];
    const order = (shape: readonly number[]): { batch: number; channel: number; dims: number[] } => {
      const s = stridesOf(shape);
      return back
        ? { batch: s[0]!, channel: 1, dims: s.slice(1, -1) }
        : { batch: s[0]!, channel: s[1]!, dims: s.slice(2) };
    };
    const [from, to] = [order(x.shape), order(y.shape)];
    const dims = back ? x.shape.slice(1, -1) : x.shape.slice(2);
    const filters = weights.shape[0]!;
    const given = (i: number | null | undefined): boolean => i != null && call.inputs[i] != null;
    const ref = (i: number | null | undefined): Ref | 0 => (given(i) ? { input: i! } : 0);
    const step = (i: number | null | undefined): number => (given(i) && sizeOf(call.inputs[i!]!.shape) > 1 ? 1 : 0);
    const [xs, ws, ys] = roles.scales ?? [null, null, null];
    return {
      emit: byteConvEmitter,
      spec: {
        x: x.dtype,
        w: weights.dtype,
        y: y.dtype,
        rank,
        xZero: given(roles.xZero),
        wZero: given(roles.wZero),
        bias: given(roles.bias),
        scaled: roles.scales !== null,
      },
      args: [
        { input: roles.x },
        { input: roles.w },
        ref(roles.xZero),
        ref(roles.wZero),
        ref(roles.bias),
        ref(xs),
        ref(ws),
        ref(ys),
        ref(roles.yZero),
        { output: 0 },
        x.shape[0]!,
        w.group,
        weights.shape[1]!,
        filters / w.group,
        from.batch,
        from.channel,
        to.batch,
        to.channel,
        sizeOf(w.kernel),
        step(roles.wZero),
        step(ws),
        ...dims.flatMap((n, d) => [
          n,
          from.dims[d]!,
          w.kernel[d]!,
          w.strides[d]!,
          w.dilations[d]!,
          w.pads[d]!,
          w.output[d]!,
          to.dims[d]!,
        ]),
      ],
    };
  },
});

// ── QLinearMatMul ───────────────────────────────────────────────────────────────────────────────────────────────────
interface ByteProductSpec {
  readonly a: DType;
  readonly b: DType;
  readonly y: DType;
  readonly scales: readonly [a: DType, b: DType, y: DType];
  readonly rank: number;
}
const PRODUCT = [
  'a',
  'aScale',
  'aZero',
  'b',
  'bScale',
  'bZero',
  'yScale',
  'yZero',
  'y',
  'depth',
  'aStep',
  'bStep',
] as const;
/** run(…PRODUCT, then for each dim of the output: size, strides of a and b). */
const byteProductEmitter = loopEmitter(
  'byte product',
  (s: ByteProductSpec): string[] => [...PRODUCT, ...range(s.rank).flatMap((d) => [`n${d}`, `a${d}`, `b${d}`])],
  (k: Loops<string>, s: ByteProductSpec) => {
    const { f, c, p } = k;
    const total = f.local('f64');
    const e = k.int(0);
    const first = i32.const(0);
    const [as, bs, ys] = [
      k.take(s.scales[0], p.aScale!, first),
      k.take(s.scales[1], p.bScale!, first),
      k.take(s.scales[2], p.yScale!, first),
    ];
    const scale = k.real(f64.div(f64.mul(as, bs), ys));
    const byte = (d: DType, base: I32, i: I32): I32 => loadScalar(c, d, i32.add(base, i)) as I32;
    const [az, bz] = [k.int(byte(s.a, p.aZero!, first)), k.int(byte(s.b, p.bZero!, first))];
    const yz = k.take(s.y, p.yZero!, first);
    const [least, most] = RANGE[s.y]!;
    nest(
      k,
      range(s.rank).map((d) => p[`n${d}`]!),
      [range(s.rank).map((d) => p[`a${d}`]!), range(s.rank).map((d) => p[`b${d}`]!)],
      [first, first],
      ([a, b]) => {
        f.set(total, f64.const(0));
        k.each(p.depth!, () => {
          f.set(
            total,
            f64.add(total, f64.convS(i32.mul(i32.sub(byte(s.a, p.a!, a!), az), i32.sub(byte(s.b, p.b!, b!), bz)))),
          );
          f.inc(a!, p.aStep!);
          f.inc(b!, p.bStep!);
        });
        k.put(s.y, p.y!, e, f64.min(f64.max(f64.add(f64.nearest(f64.mul(total, scale)), yz), least), most));
        f.inc(e, 1);
      },
    );
  },
);
const isByte = (d: DType): boolean => d === 'int8' || d === 'uint8';
/** Matrices of bytes, one scale and zero point each, of any float type. */
export const byteProductWasm: WasmKernel = {
  name: 'gemm.bytes_each',
  accepts: (call) =>
    [0, 3, 7].every((i) => isByte(call.inputs[i]!.dtype)) &&
    [1, 2, 4, 5, 6, 7].every((i) => sizeOf(call.inputs[i]!.shape) === 1) &&
    [0, 3].every((i) => call.inputs[i]!.shape.length >= 2),
  launch: (call) => {
    const [a, b, y] = [call.inputs[0]!, call.inputs[3]!, call.outputs[0]!];
    const rank = y.shape.length;
    const [depth, columns] = [a.shape.at(-1)!, b.shape.at(-1)!];
    const lead = y.shape.slice(0, -2);
    const batch = (shape: readonly number[]): number[] =>
      broadcastStrides(shape.slice(0, -2), lead).map((s) => s * shape.at(-1)! * shape.at(-2)!);
    const [sa, sb] = [
      [...batch(a.shape), depth, 0],
      [...batch(b.shape), 0, 1],
    ];
    return {
      emit: byteProductEmitter,
      spec: {
        a: a.dtype,
        b: b.dtype,
        y: y.dtype,
        scales: [call.inputs[1]!.dtype, call.inputs[4]!.dtype, call.inputs[6]!.dtype],
        rank,
      },
      args: [
        ...range(8).map((i): Ref => ({ input: i })),
        { output: 0 },
        depth,
        1,
        columns,
        ...y.shape.flatMap((n, d) => [n, sa[d]!, sb[d]!]),
      ],
    };
  },
};
