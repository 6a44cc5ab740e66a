/** Rows that indices name. An index outside its axis ends the run with status 1, before memory is touched. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Split } from '../../src/core/plan.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { axisOf } from '../shapes.ts';
import { type Fn, i32, type I32, i64, type Local, type Mod } from './asm.ts';
import { widthOf } from './elem.ts';
import { kernelModule } from './module.ts';
import { copyBytes, copyOne, isWhole } from './move.ts';

/** Types of `n` arguments. */
export const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');
/** Are its indices of 64 bits? */
export const isWide = (call: Call): boolean => call.inputs[1]!.dtype === 'int64';
export const movable = (call: Call): boolean => isWhole(widthOf(call.inputs[0]!.dtype));
export const empty = (call: Call, i = 0): boolean => sizeOf(call.outputs[i]!.shape) === 0;

/** The index at `at`, counted from the end if negative; leaves the function with status 1 if it is not below `dim`. */
export function index(f: Fn, wide: boolean, at: I32, dim: I32): Local<'i32'> {
  if (!wide) {
    const v = f.let(i32.load(at));
    f.set(v, i32.add(v, i32.and(i32.shrs(v, 31), dim)));
    f.iff(i32.geu(v, dim), () => f.returnNow(i32.const(1)));
    return v;
  }
  const v = f.let(i64.load(at));
  f.set(v, i64.add(v, i64.and(i64.shrs(v, 63), i64.extendU(dim))));
  f.iff(i64.geu(v, i64.extendU(dim)), () => f.returnNow(i32.const(1)));
  return f.let(i32.wrap(v));
}
/** Runs of 1, 2, 4 or 8 bytes are copied as one element. */
export const unitOf = (run: number): number => ([1, 2, 4, 8].includes(run) ? run : 0);
/** How a run is copied. */
export const mover = (m: Mod, unit: number): ((f: Fn, dst: I32, src: I32, bytes: I32) => void) => {
  if (unit) return (f, dst, src) => f.emit(copyOne(unit, dst, src));
  const copy = copyBytes(m);
  return (f, dst, src, bytes) => f.call(copy, dst, src, bytes);
};

// ── Gather ──────────────────────────────────────────────────────────────────────────────────────────────────────────
interface GatherSpec {
  readonly unit: number;
  readonly wide: boolean;
}
/** `run(dst, src, indices, outer, dim, count, bytes of a run)` */
const gatherEmitter: WasmEmitter<GatherSpec> = {
  name: 'gather',
  build: ({ unit, wide }, caps) =>
    kernelModule(
      'gather',
      i32s(7),
      caps,
      (f, m) => {
        const move = mover(m, unit);
        const rows = m.fn('gather rows', i32s(6), ['i32'], false, (g) => {
          const [dst, src, at, dim, count, run] = [0, 1, 2, 3, 4, 5].map((i) => g.arg('i32', i)) as Local<'i32'>[];
          g.times(count!, () => {
            const k = index(g, wide, at!, dim!);
            move(g, dst!, i32.add(src!, i32.mul(k, run!)), run!);
            g.inc(dst!, run!);
            g.inc(at!, wide ? 8 : 4);
          });
          g.ret(i32.const(0));
        });
        const [dst, src, at, outer, dim, count, run] = [0, 1, 2, 3, 4, 5, 6].map((i) =>
          f.arg('i32', i),
        ) as Local<'i32'>[];
        f.times(outer!, () => {
          f.iff(f.value('i32', rows, dst!, src!, at!, dim!, count!, run!), () => f.returnNow(i32.const(1)));
          f.inc(dst!, i32.mul(count!, run!));
          f.inc(src!, i32.mul(dim!, run!));
        });
        f.ret(i32.const(0));
      },
      true,
    ),
};
export const gatherKernel: WasmKernel<{ readonly axis: number }> = {
  name: 'gather.rows',
  accepts: movable,
  launch: (call) => {
    if (empty(call)) return [];
    const { dtype, shape } = call.inputs[0]!;
    const axis = axisOf(call.attrs.axis, shape.length);
    const run = sizeOf(shape.slice(axis + 1)) * widthOf(dtype);
    const outer = sizeOf(shape.slice(0, axis));
    const count = sizeOf(call.inputs[1]!.shape);
    const cost = 4 + 0.1 * run;
    const split: Split =
      outer > 1
        ? {
            items: 3,
            grain: 1,
            moves: [
              [0, count * run],
              [1, shape[axis]! * run],
            ],
            cost: count * cost,
          }
        : {
            items: 5,
            grain: 1,
            moves: [
              [0, run],
              [2, isWide(call) ? 8 : 4],
            ],
            cost,
          };
    return {
      emit: gatherEmitter,
      spec: { unit: unitOf(run), wide: isWide(call) },
      args: [{ output: 0 }, { input: 0 }, { input: 1 }, outer, shape[axis]!, count, run],
      split,
    };
  },
};
