/** Triangles of matrices, diagonals and one-hot vectors. */
import { BITS, type DType } from '../../src/core/dtype.ts';
import { fromNumbers } from '../../src/core/numbers.ts';
import { bytesOfTensor, sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { f64, i32, type I32, i64, memory } from './asm.ts';
import { widthOf } from './elem.ts';
import { at, loopEmitter, type Loops } from './loops.ts';
import { copyOne, isWhole } from './move.ts';
import { isStored } from './number.ts';

const movable = (d: DType): boolean => isWhole(widthOf(d)) && widthOf(d) <= 8;

// ── Trilu ───────────────────────────────────────────────────────────────────────────────────────────────────────────
interface TriluSpec {
  readonly upper: boolean;
  readonly k: DType | null;
}
const TRILU = ['src', 'dst', 'k', 'matrices', 'rows', 'bytes', 'width'] as const;
/** run(…TRILU): `bytes` of a row of elements of `width` bytes. */
const triluEmitter = loopEmitter(
  'trilu',
  () => TRILU,
  (l: Loops<(typeof TRILU)[number]>, s: TriluSpec) => {
    const { f, p } = l;
    const FAR = 1n << 32n;
    const k = f.let(s.k === null ? i64.const(0) : i64.load(p.k));
    f.set(k, i64.select(i64.gts(k, FAR), FAR, i64.select(i64.lts(k, -FAR), -FAR, k)));
    l.each(p.matrices, () =>
      l.each(p.rows, (r) => {
        const e = f.let(i64.mul(i64.add(i64.add(i64.extendU(r), k), s.upper ? 0 : 1), i64.extendU(p.width)));
        const edge = f.let(
          i32.wrap(i64.select(i64.lts(e, 0), 0, i64.select(i64.gts(e, i64.extendU(p.bytes)), i64.extendU(p.bytes), e))),
        );
        const rest = f.let(i32.sub(p.bytes, edge));
        const behind = (b: I32): I32 => i32.add(b, edge);
        if (s.upper) f.emit(memory.fill(p.dst, 0, edge), memory.copy(behind(p.dst), behind(p.src), rest));
        else f.emit(memory.copy(p.dst, p.src, edge), memory.fill(behind(p.dst), 0, rest));
        f.inc(p.src, p.bytes);
        f.inc(p.dst, p.bytes);
      }),
    );
  },
);
export const triluWasm: WasmKernel<{ readonly upper: number }> = {
  name: 'trilu.rows',
  accepts: (call) => isWhole(widthOf(call.inputs[0]!.dtype)) && (!call.inputs[1] || call.inputs[1].dtype === 'int64'),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const [rows, columns] = shape.slice(-2) as [number, number];
    const width = widthOf(dtype);
    if (sizeOf(shape) === 0) return [];
    return {
      emit: triluEmitter,
      spec: { upper: call.attrs.upper !== 0, k: call.inputs[1] ? 'int64' : null },
      args: [
        { input: 0 },
        { output: 0 },
        call.inputs[1] ? { input: 1 } : 0,
        sizeOf(shape.slice(0, -2)),
        rows,
        columns * width,
        width,
      ],
    };
  },
};

// ── EyeLike ─────────────────────────────────────────────────────────────────────────────────────────────────────────
const EYE = ['dst', 'bytes', 'first', 'count', 'step', 'low', 'high'] as const;
/** run(…EYE): zeros, then `count` ones from byte `first` on, `step` bytes apart. */
const eyeEmitter = loopEmitter(
  'eye',
  () => EYE,
  ({ f, p }: Loops<(typeof EYE)[number]>, { width }: { readonly width: number }) => {
    f.emit(memory.fill(p.dst, 0, p.bytes));
    const q = f.let(i32.add(p.dst, p.first));
    f.times(p.count, () => {
      f.emit(width === 1 ? i32.store8(q, p.low) : width === 2 ? i32.store16(q, p.low) : i32.store(q, p.low));
      if (width === 8) f.emit(i32.store(q, p.high, 4));
      f.inc(q, p.step);
    });
  },
);
export const eyeWasm: WasmKernel<{ readonly k: number }> = {
  name: 'eye.diagonal',
  accepts: (call) => movable(call.outputs[0]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const [rows, columns] = shape as [number, number];
    const { k } = call.attrs;
    const width = widthOf(dtype);
    const first = Math.max(0, -k);
    const count = Math.max(0, Math.min(rows, columns - k) - first);
    const one = new Uint8Array(8);
    one.set(bytesOfTensor(fromNumbers(dtype, [1], [1])));
    const [low, high] = new Int32Array(one.buffer);
    return {
      emit: eyeEmitter,
      spec: { width },
      args: [
        { output: 0 },
        rows * columns * width,
        count ? (first * columns + first + k) * width : 0,
        count,
        (columns + 1) * width,
        low!,
        high!,
      ],
    };
  },
};

// ── OneHot ──────────────────────────────────────────────────────────────────────────────────────────────────────────
interface OneHotSpec {
  readonly width: number;
  readonly indices: DType;
}
const ONE_HOT = ['indices', 'values', 'dst', 'outer', 'depth', 'inner'] as const;
/** run(…ONE_HOT) */
const oneHotEmitter = loopEmitter(
  'one hot',
  () => ONE_HOT,
  (l: Loops<(typeof ONE_HOT)[number]>, s: OneHotSpec) => {
    const { f, p } = l;
    const q = f.let(p.dst);
    const to = (dst: I32, which: number): void => f.emit(copyOne(s.width, dst, i32.add(p.values, which * s.width)));
    f.times(i32.mul(i32.mul(p.outer, p.depth), p.inner), () => {
      to(q, 0);
      f.inc(q, s.width);
    });
    const e = l.int(0);
    const depth = l.real(f64.convU(p.depth));
    l.each(p.outer, (o) =>
      l.each(p.inner, (i) => {
        const v = l.real(f64.trunc(l.get(s.indices, p.indices, e)));
        f.iff(i32.and(f64.ge(v, f64.neg(depth)), f64.lt(v, depth)), () => {
          const k = l.int(i32.truncSatS64(f64.select(f64.lt(v, 0), f64.add(v, depth), v)));
          to(i32.add(p.dst, i32.mul(at(at(o, p.depth, k), p.inner, i), s.width)), 1);
        });
        f.inc(e, 1);
      }),
    );
  },
);
export const oneHotWasm = (axisOf: (call: Call) => number): WasmKernel => ({
  name: 'one_hot.rows',
  accepts: (call) =>
    movable(call.outputs[0]!.dtype) && BITS[call.outputs[0]!.dtype] > 0 && isStored(call.inputs[0]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const axis = axisOf(call);
    if (sizeOf(shape) === 0) return [];
    return {
      emit: oneHotEmitter,
      spec: { width: widthOf(dtype), indices: call.inputs[0]!.dtype },
      args: [
        { input: 0 },
        { input: 2 },
        { output: 0 },
        sizeOf(shape.slice(0, axis)),
        shape[axis]!,
        sizeOf(shape.slice(axis + 1)),
      ],
    };
  },
});
