/**
 * Kernels that move elements to or from places that indices name. An index outside its axis ends the run with status 1,
 * before memory is touched.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { input, kindOf, x } from '../expr.ts';
import { mergeLoops } from '../merge.ts';
import { axisOf } from '../shapes.ts';
import { type Expr, i32, type I32, type Local, memory } from './asm.ts';
import { loadScalar, storeScalar, widthOf } from './elem.ts';
import { kept } from './expr-kept.ts';
import { scalarCode } from './expr-scalar.ts';
import { type Ctx, context } from './float.ts';
import { empty, i32s, index, isWide, movable, mover, unitOf } from './gather.ts';
import { kernelModule } from './module.ts';
import { copyOne } from './move.ts';

// ── …Elements ───────────────────────────────────────────────────────────────────────────────────────────────────────
/** How an update meets what it falls on. */
interface Combine {
  readonly reduction: string;
  readonly dtype: DType;
}
const combinable = (call: Call<{ readonly reduction: string }>): boolean =>
  movable(call) && (call.attrs.reduction === 'none' || kindOf(call.inputs[0]!.dtype) !== undefined);
/** Stores at `dst` what the element there and the one at `src` give. */
function combine(c: Ctx, { reduction, dtype }: Combine, dst: I32, src: I32): void {
  const k = kindOf(dtype)!;
  const [a, b] = [input(0, k), input(1, k)];
  const e =
    k === 'bool'
      ? reduction === 'add' || reduction === 'max'
        ? x.or(a, b)
        : x.and(a, b)
      : reduction === 'add'
        ? x.add(a, b)
        : reduction === 'mul'
          ? x.mul(a, b)
          : reduction === 'max'
            ? x.max(a, b)
            : x.min(a, b);
  c.f.emit(
    storeScalar(
      c,
      dtype,
      dst,
      scalarCode(c, e, (i): Expr => loadScalar(c, dtype, i === 0 ? dst : src), kept()),
    ),
  );
}

interface ElementsSpec {
  readonly width: number;
  readonly wide: boolean;
  readonly outer: number;
  readonly scatter: Combine | null;
}
/**
 * Gather: `run(dst, src, indices, dim, along, …)`; scatter: `run(dst, updates, indices, dim, along, …, data, bytes)`,
 * first copying data to dst. `along`: bytes between neighbours on the axis, in the tensor that is indexed; `…`: from
 * the outermost loop over the indices the count and that tensor's stride.
 */
const elementsEmitter: WasmEmitter<ElementsSpec> = {
  name: 'elements',
  build: ({ width, wide, outer, scatter }, caps) =>
    kernelModule(
      scatter ? 'scatter elements' : 'gather elements',
      i32s(5 + 2 * (outer + 1) + (scatter ? 2 : 0)),
      caps,
      (f, m) => {
        const line = m.fn('line', i32s(7), ['i32'], false, (g) => {
          const [dst, src, at, dim, along, count, step] = [0, 1, 2, 3, 4, 5, 6].map((i) =>
            g.arg('i32', i),
          ) as Local<'i32'>[];
          const [named, plain] = scatter ? [dst!, src!] : [src!, dst!];
          g.times(count!, () => {
            const there = g.let(i32.add(named, i32.mul(index(g, wide, at!, dim!), along!)));
            if (!scatter) g.emit(copyOne(width, plain, there));
            else if (scatter.reduction === 'none') g.emit(copyOne(width, there, plain));
            else combine(context(g, m, caps.fma), scatter, there, plain);
            g.inc(named, step!);
            g.inc(plain, width);
            g.inc(at!, wide ? 8 : 4);
          });
          g.ret(i32.const(0));
        });
        const [dst, src, at, dim, along] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        if (scatter) {
          const data = f.arg('i32', 5 + 2 * (outer + 1));
          f.iff(i32.ne(data, dst), () => f.emit(memory.copy(dst, data, f.arg('i32', 6 + 2 * (outer + 1)))));
        }
        const [named, plain] = scatter ? [dst, src] : [src, dst];
        const level = (d: number): void => {
          const [count, step] = [f.arg('i32', 5 + 2 * d), f.arg('i32', 6 + 2 * d)];
          if (d === outer) {
            f.iff(f.value('i32', line, dst, src, at, dim, along, count, step), () => f.returnNow(i32.const(1)));
            f.inc(plain, i32.mul(count, width));
            f.inc(at, i32.mul(count, wide ? 8 : 4));
            return;
          }
          const p = f.let(named);
          f.times(count, () => {
            f.set(named, p);
            level(d + 1);
            f.inc(p, step);
          });
        };
        level(0);
        f.ret(i32.const(0));
      },
      true,
    ),
};
function elementsLaunch(
  call: Call<{ readonly axis: number; readonly reduction?: string }>,
  scatter: Combine | null,
): WasmLaunch | readonly WasmLaunch[] {
  const { dtype, shape } = call.inputs[0]!;
  const width = widthOf(dtype);
  const axis = axisOf(call.attrs.axis, shape.length);
  const at = call.inputs[1]!.shape;
  if (empty(call)) return [];
  const strides = stridesOf(shape).map((s) => s * width);
  const none = at.includes(0);
  const {
    dims,
    strides: [step],
  } = mergeLoops(none ? [0] : at, [none ? [0] : strides.map((s, i) => (i === axis ? 0 : s))]) as {
    dims: number[];
    strides: [number[]];
  };
  return {
    emit: elementsEmitter,
    spec: { width, wide: isWide(call), outer: dims.length - 1, scatter },
    args: [
      { output: 0 },
      { input: scatter ? 2 : 0 },
      { input: 1 },
      shape[axis] ?? 1,
      strides[axis] ?? width,
      ...dims.flatMap((n, d) => [n, step[d]!]),
      ...(scatter ? [{ input: 0 }, sizeOf(shape) * width] : []),
    ],
  };
}
const elementsFit = (call: Call): boolean =>
  movable(call) && widthOf(call.inputs[0]!.dtype) <= 8 && call.inputs[0]!.shape.length > 0;
export const gatherElementsKernel: WasmKernel<{ readonly axis: number }> = {
  name: 'gather.elements',
  accepts: elementsFit,
  launch: (call) => elementsLaunch(call, null),
};
export const scatterElementsKernel: WasmKernel<{ readonly axis: number; readonly reduction: string }> = {
  name: 'scatter.elements',
  accepts: (call) => elementsFit(call) && combinable(call),
  inPlace: () => [[0, 0]],
  launch: (call) => elementsLaunch(call, { reduction: call.attrs.reduction, dtype: call.inputs[0]!.dtype }),
};

// ── …ND ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
interface TuplesSpec {
  readonly unit: number;
  readonly wide: boolean;
  readonly depth: number;
  readonly scatter: Combine | null;
}
/**
 * `run(dst, src or updates, indices, batch, tuples, bytes of a batch, bytes of a run, data, bytes of data, then per
 * index of a tuple: dim, stride)`
 */
const tuplesEmitter: WasmEmitter<TuplesSpec> = {
  name: 'tuples',
  build: ({ unit, wide, depth, scatter }, caps) =>
    kernelModule(
      scatter ? 'scatter nd' : 'gather nd',
      i32s(9 + 2 * depth),
      caps,
      (f, m) => {
        const move = mover(m, unit);
        const rows = m.fn('tuples', i32s(5 + 2 * depth), ['i32'], false, (g) => {
          const [dst, src, at, tuples, run] = [0, 1, 2, 3, 4].map((i) => g.arg('i32', i)) as Local<'i32'>[];
          const [named, plain] = scatter ? [dst!, src!] : [src!, dst!];
          const there = g.local('i32');
          g.times(tuples!, () => {
            g.set(there, named);
            for (let k = 0; k < depth; k++) {
              const i = index(g, wide, at!, g.arg('i32', 5 + 2 * k));
              g.set(there, i32.add(there, i32.mul(i, g.arg('i32', 6 + 2 * k))));
              g.inc(at!, wide ? 8 : 4);
            }
            if (!scatter) move(g, plain, there, run!);
            else if (scatter.reduction === 'none') move(g, there, plain, run!);
            else {
              const p = g.let(plain);
              g.times(i32.divu(run!, widthOf(scatter.dtype)), () => {
                combine(context(g, m, caps.fma), scatter, there, p);
                g.inc(there, widthOf(scatter.dtype));
                g.inc(p, widthOf(scatter.dtype));
              });
            }
            g.inc(plain, run!);
          });
          g.ret(i32.const(0));
        });
        const [dst, src, at, batch, tuples, whole, run, data, size] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) =>
          f.arg('i32', i),
        ) as Local<'i32'>[];
        if (scatter) f.iff(i32.ne(data!, dst!), () => f.emit(memory.copy(dst!, data!, size!)));
        const [named, plain] = scatter ? [dst!, src!] : [src!, dst!];
        f.times(batch!, () => {
          f.iff(
            f.value(
              'i32',
              rows,
              dst!,
              src!,
              at!,
              tuples!,
              run!,
              ...Array.from({ length: 2 * depth }, (_, k) => f.arg('i32', 9 + k)),
            ),
            () => f.returnNow(i32.const(1)),
          );
          f.inc(named, whole!);
          f.inc(plain, i32.mul(tuples!, run!));
          f.inc(at!, i32.mul(tuples!, depth * (wide ? 8 : 4)));
        });
        f.ret(i32.const(0));
      },
      true,
    ),
};
function tuplesLaunch(call: Call, batchDims: number, scatter: Combine | null): WasmLaunch | readonly WasmLaunch[] {
  const { dtype, shape } = call.inputs[0]!;
  const at = call.inputs[1]!.shape;
  if (empty(call)) return [];
  const width = widthOf(dtype);
  const depth = at.at(-1)!;
  const strides = stridesOf(shape).map((s) => s * width);
  const run = sizeOf(shape.slice(batchDims + depth)) * width;
  const [batch, tuples] = [sizeOf(at.slice(0, batchDims)), sizeOf(at.slice(batchDims, -1))];
  return {
    emit: tuplesEmitter,
    spec: { unit: unitOf(run), wide: isWide(call), depth, scatter },
    args: [
      { output: 0 },
      { input: scatter ? 2 : 0 },
      { input: 1 },
      batch,
      tuples,
      sizeOf(shape.slice(batchDims)) * width,
      run,
      { input: 0 },
      sizeOf(shape) * width,
      ...Array.from({ length: depth }, (_, k) => [shape[batchDims + k]!, strides[batchDims + k]!]).flat(),
    ],
  };
}
export const gatherNDKernel: WasmKernel<{ readonly batch_dims: number }> = {
  name: 'gather.nd',
  accepts: movable,
  launch: (call) => tuplesLaunch(call, call.attrs.batch_dims, null),
};
export const scatterNDKernel: WasmKernel<{ readonly reduction: string }> = {
  name: 'scatter.nd',
  accepts: combinable,
  inPlace: () => [[0, 0]],
  launch: (call) => tuplesLaunch(call, 0, { reduction: call.attrs.reduction, dtype: call.inputs[0]!.dtype }),
};
