/**
 * Kernels that only move elements, whatever they mean: strided copies, concatenation, padding. Elements are whole
 * bytes.
 */
import { fromNumbers } from '../../src/core/numbers.ts';
import { bytesOfTensor, sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Split } from '../../src/core/plan.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { type Given, givenCall } from '../given.ts';
import { padTable } from '../pad-table.ts';
import type { PadGeometry, StridedView } from '../webgpu/move.ts';
import { type Fn, i32, type I32, i64, i64x2, type Local, memory, type Mod, type Stmt, type V, v128 } from './asm.ts';
import { widthOf } from './elem.ts';
import { mergeLoops } from '../merge.ts';
import { kernelModule } from './module.ts';

const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');
export const isWhole = (width: number): boolean => Number.isInteger(width) && width > 0;
/** Are these inputs left out or known? */
export const knows = (call: Call, needs: readonly number[]): boolean =>
  needs.every((i) => !call.inputs[i] || call.inputs[i].constant?.peek() != null);

/** Copies one element of 1, 2, 4 or 8 bytes. */
export const copyOne = (width: number, dst: I32, src: I32): Stmt =>
  width === 1
    ? i32.store8(dst, i32.load8u(src))
    : width === 2
      ? i32.store16(dst, i32.load16u(src))
      : width === 4
        ? i32.store(dst, i32.load(src))
        : i64.store(dst, i64.load(src));

/** The function (dst, src, bytes) that copies a run. */
export const copyBytes = (m: Mod): Fn =>
  m.fn('copy bytes', i32s(3), [], false, (f) => {
    const [dst, src, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
    f.iff(i32.geu(n, 256), () => {
      f.emit(memory.copy(dst, src, n));
      f.returnNow();
    });
    const step = (k: number): void => {
      f.inc(dst, k);
      f.inc(src, k);
    };
    f.whileLoop(
      () => i32.geu(n, 16),
      () => {
        f.emit(v128.store(dst, v128.load(src)));
        step(16);
        f.inc(n, -16);
      },
    );
    for (const k of [8, 4, 2])
      f.iff(i32.and(n, k), () => {
        f.emit(copyOne(k, dst, src));
        step(k);
      });
    f.iff(i32.and(n, 1), () => f.emit(copyOne(1, dst, src)));
  });

// ── strided copies ──────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * What the innermost loops do. `run`: copy neighbours; `step`: move by strides on either side; `swap`: transpose a
 * matrix of words whose columns are neighbours in the source.
 */
interface CopySpec {
  readonly width: number;
  readonly inner: 'run' | 'step' | 'swap';
  readonly outer: number;
}

/**
 * `run(dst, src, dst offset, src offset, n…, from the outermost loop: count, dst stride, src stride, …, then those of
 * the inner ones)`, all in bytes but the counts.
 */
const copyEmitter: WasmEmitter<CopySpec> = {
  name: 'copy',
  build: ({ width, inner, outer }, caps) => {
    const innerDims = inner === 'swap' ? 2 : 1;
    return kernelModule('copy', i32s(4 + 3 * (outer + innerDims)), caps, (f, m) => {
      const body = inner === 'run' ? copyBytes(m) : inner === 'step' ? stepCopy(m, width) : swapCopy(m);
      const [dst, src] = [f.arg('i32', 0), f.arg('i32', 1)];
      f.inc(dst, f.arg('i32', 2));
      f.inc(src, f.arg('i32', 3));
      const at = (d: number, k: number): Local<'i32'> => f.arg('i32', 4 + 3 * d + k);
      const level = (d: number): void => {
        if (d === outer) {
          if (inner === 'run') f.call(body, dst, src, at(d, 0));
          else if (inner === 'step') f.call(body, dst, src, at(d, 0), at(d, 1), at(d, 2));
          else f.call(body, dst, src, at(d, 0), at(d, 1), at(d + 1, 0), at(d + 1, 2));
          return;
        }
        const [p, q] = [f.let(dst), f.let(src)];
        f.times(at(d, 0), () => {
          f.set(dst, p);
          f.set(src, q);
          level(d + 1);
          f.inc(p, at(d, 1));
          f.inc(q, at(d, 2));
        });
      };
      level(0);
    });
  },
};
/** (dst, src, count, dst stride, src stride) */
const stepCopy = (m: Mod, width: number): Fn =>
  m.fn('copy steps', i32s(5), [], false, (f) => {
    const [dst, src] = [f.arg('i32', 0), f.arg('i32', 1)];
    f.times(f.arg('i32', 2), () => {
      f.emit(copyOne(width, dst, src));
      f.inc(dst, f.arg('i32', 3));
      f.inc(src, f.arg('i32', 4));
    });
  });
/**
 * (dst, src, rows, row stride of dst, columns, column stride of src): words; rows of dst are neighbours in src, columns
 * of dst neighbours in dst.
 */
const swapCopy = (m: Mod): Fn =>
  m.fn('copy transposed', i32s(6), [], false, (f) => {
    const [dst, src, rows, rowStride, columns, columnStride] = [0, 1, 2, 3, 4, 5].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const p = f.local('i32');
    const q = f.local('i32');
    const left = f.local('i32');
    const strip = (four: boolean): void => {
      f.set(p, dst);
      f.set(q, src);
      f.set(left, columns);
      if (four)
        f.whileLoop(
          () => i32.geu(left, 4),
          () => {
            const r: Local<'v128'>[] = [];
            for (let k = 0; k < 4; k++) {
              r.push(f.let(v128.load(q)));
              f.inc(q, columnStride);
            }
            const half = (a: V, b: V, high: boolean): Local<'v128'> =>
              f.let(v128.shuf32(a, b, high ? [2, 6, 3, 7] : [0, 4, 1, 5]));
            const [a, b, c, d] = [
              half(r[0]!, r[1]!, false),
              half(r[2]!, r[3]!, false),
              half(r[0]!, r[1]!, true),
              half(r[2]!, r[3]!, true),
            ];
            const pairs = (x: V, y: V, high: boolean): V => v128.shuf32(x, y, high ? [2, 3, 6, 7] : [0, 1, 4, 5]);
            const o = f.let(p);
            for (const v of [pairs(a, b, false), pairs(a, b, true), pairs(c, d, false), pairs(c, d, true)]) {
              f.emit(v128.store(o, v));
              f.inc(o, rowStride);
            }
            f.inc(p, 16);
            f.inc(left, -4);
          },
        );
      f.whileLoop(
        () => left,
        () => {
          const o = f.let(p);
          for (let k = 0; k < (four ? 4 : 1); k++) {
            f.emit(i32.store(o, i32.load(q, 4 * k)));
            f.inc(o, rowStride);
          }
          f.inc(p, 4);
          f.inc(q, columnStride);
          f.inc(left, -1);
        },
      );
    };
    f.whileLoop(
      () => i32.geu(rows, 4),
      () => {
        strip(true);
        f.inc(src, 16);
        f.inc(dst, i32.shl(rowStride, 2));
        f.inc(rows, -4);
      },
    );
    f.whileLoop(
      () => rows,
      () => {
        strip(false);
        f.inc(src, 4);
        f.inc(dst, rowStride);
        f.inc(rows, -1);
      },
    );
  });

/** A copy of a block of elements: strides and starts of both sides in elements. */
export interface Block {
  readonly dims: readonly number[];
  readonly from: readonly number[];
  readonly to: readonly number[];
  readonly fromStart?: number;
  readonly toStart?: number;
}

/** One strided copy of elements of `width` bytes; none if the block is empty. */
export function copyLaunch(block: Block, width: number, from: Ref, to: Ref): WasmLaunch[] {
  if (block.dims.includes(0)) return [];
  const unit = Math.min(width, 8);
  const parts = width / unit;
  const inUnits = (s: readonly number[]): number[] => [...s.map((v) => v * parts), 1];
  const {
    dims,
    strides: [src, dst],
  } = mergeLoops([...block.dims, parts], [inUnits(block.from), inUnits(block.to)]) as {
    dims: number[];
    strides: [number[], number[]];
  };
  let loops = dims.map((n, d) => ({ n, to: dst[d]! * unit, from: src[d]! * unit }));
  let inner: CopySpec['inner'] = 'step';
  const last = loops.at(-1)!;
  if (last.to === unit && last.from === unit) inner = 'run';
  else {
    const near = loops.findIndex((l) => l.from === unit && l.to !== unit);
    if (near >= 0 && near < loops.length - 1) {
      loops = [...loops.filter((_, d) => d !== near && d !== loops.length - 1), loops[near]!, last];
      if (unit === 4 && last.to === unit) inner = 'swap';
    }
  }
  const rest = loops.length - (inner === 'swap' ? 2 : 1);
  const args = loops.flatMap((l, d) => [inner === 'run' && d === rest ? l.n * unit : l.n, l.to, l.from]);
  const around = loops[0]!;
  const run = rest === 0 && inner === 'run';
  const bytes = run ? 1 : loops.slice(1).reduce((n, l) => n * l.n, unit);
  const split: Split = {
    items: 4,
    grain: run ? 64 : inner === 'swap' && rest === 0 ? 4 : 1,
    moves: run
      ? [
          [0, 1],
          [1, 1],
        ]
      : [
          [0, around.to],
          [1, around.from],
        ],
    cost: bytes * (inner === 'run' ? 0.1 : 0.4),
  };
  return [
    {
      emit: copyEmitter,
      spec: { width: unit, inner, outer: rest },
      args: [to, from, (block.toStart ?? 0) * width, (block.fromStart ?? 0) * width, ...args],
      split,
    },
  ];
}

/**
 * An operator whose outputs are strided views of input 0, an output each; `needs` lists inputs whose values it asks
 * for.
 */
export const stridedKernels = (
  name: string,
  views: (given: Given) => readonly StridedView[],
  needs: readonly number[] = [],
): readonly WasmKernel[] => [
  {
    name: `${name}.strided`,
    accepts: (call) => isWhole(widthOf(call.inputs[0]!.dtype)) && knows(call, needs),
    launch: (call) =>
      views(givenCall(call)).flatMap(({ shape, strides, start }, output) => {
        if ((call.outputs[output] ?? null) === null) return [];
        return copyLaunch(
          { dims: shape, from: strides, to: stridesOf(shape), fromStart: start ?? 0 },
          widthOf(call.inputs[0]!.dtype),
          { input: 0 },
          { output },
        );
      }),
  },
];

/** Concat along `axisOf(call)`. */
export const concatKernel = (axisOf: (call: Call) => number): WasmKernel => ({
  name: 'concat.rows',
  accepts: (call) => call.inputs.every((f) => f !== null) && isWhole(widthOf(call.outputs[0]!.dtype)),
  launch: (call) => {
    const { dtype, shape } = call.outputs[0]!;
    const axis = axisOf(call);
    const [outer, row] = [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))];
    let at = 0;
    return call.inputs.flatMap((f, input) => {
      const run = sizeOf(f!.shape.slice(axis));
      at += run;
      return copyLaunch(
        { dims: [outer, run], from: [run, 1], to: [row, 1], toStart: at - run },
        widthOf(dtype),
        { input },
        { output: 0 },
      );
    });
  },
});

// ── padding ─────────────────────────────────────────────────────────────────────────────────────────────────────────
interface FillSpec {
  readonly width: number;
  readonly given: boolean;
}
/** `run(dst, count, value's address | low word, high word)` */
const fillEmitter: WasmEmitter<FillSpec> = {
  name: 'fill',
  build: ({ width, given }, caps) =>
    kernelModule('fill', i32s(4), caps, (f) => {
      const [dst, n, low, high] = [0, 1, 2, 3].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const v = f.let(
        width === 8
          ? given
            ? v128.load64splat(low)
            : i64x2.splat(i64.or(i64.extendU(low), i64.shl(i64.extendU(high), 32)))
          : given
            ? splatOf(width, low)
            : wordSplat(width, low),
      );
      const per = 16 / width;
      f.whileLoop(
        () => i32.geu(n, per),
        () => {
          f.emit(v128.store(dst, v));
          f.inc(dst, 16);
          f.inc(n, -per);
        },
      );
      const one =
        width === 1
          ? v128.store8lane
          : width === 2
            ? v128.store16lane
            : width === 4
              ? v128.store32lane
              : v128.store64lane;
      f.whileLoop(
        () => n,
        () => {
          f.emit(one(dst, v, 0));
          f.inc(dst, width);
          f.inc(n, -1);
        },
      );
    }),
};
const splatOf = (width: number, at: I32): V =>
  (width === 1 ? v128.load8splat : width === 2 ? v128.load16splat : v128.load32splat)(at);
/** The low bytes of a word in all lanes. */
const wordSplat = (width: number, word: I32): V => {
  const v: V = { t: 'v128', b: [word.b, 0xfd, 0x11] };
  const lanes = Array.from({ length: 16 }, (_, i) => i % width);
  return v128.shuffle(v, v128.zero(), lanes);
};

/** The source of each of an axis's output coordinates, as straight runs; coordinates that are filled are left out. */
interface Run {
  readonly to: number;
  readonly from: number;
  readonly step: number;
  n: number;
}
function runsOf(table: Int32Array): { runs: Run[]; filled: boolean } {
  const runs: Run[] = [];
  table.forEach((from, to) => {
    const last = runs.at(-1);
    if (from < 0) return;
    if (last && last.to + last.n === to && (last.n === 1 || last.from + last.n * last.step === from)) {
      if (last.n === 1) runs[runs.length - 1] = { ...last, step: from - last.from, n: 2 };
      else last.n++;
    } else runs.push({ to, from, step: 1, n: 1 });
  });
  return { runs, filled: table.includes(-1) };
}

/** Of an axis that is padded, or cut where a number is negative. */
function paddedRuns(
  dim: number,
  before: number,
  after: number,
  mode: string,
): { runs: readonly Run[]; filled: boolean } {
  if (mode !== 'constant' && (before > 0 || after > 0)) return runsOf(padTable(dim, before, after, mode));
  const from = Math.max(0, -before);
  const n = dim - from + Math.min(0, after);
  return { runs: n > 0 ? [{ to: Math.max(0, before), from, step: 1, n }] : [], filled: before > 0 || after > 0 };
}

/** Padding: the fill is input `fill` where that is given, else attribute `value`, else 0. */
export const padKernel = (
  name: string,
  geometry: (given: Given) => PadGeometry,
  needs: readonly number[],
  fill?: number,
): WasmKernel => {
  const axesOf = (call: Call) => {
    const { before, after, mode } = geometry(givenCall(call));
    return call.inputs[0]!.shape.map((d, k) => paddedRuns(d, before[k]!, after[k]!, mode));
  };
  return {
    name: `${name}.runs`,
    accepts: (call) =>
      isWhole(widthOf(call.inputs[0]!.dtype)) &&
      widthOf(call.inputs[0]!.dtype) <= 8 &&
      knows(call, needs) &&
      axesOf(call).reduce((n, a) => n * a.runs.length, 1) <= 256,
    launch: (call) => {
      const { dtype, shape: from } = call.inputs[0]!;
      const { shape } = call.outputs[0]!;
      const width = widthOf(dtype);
      const axes = axesOf(call);
      const [source, target] = [stridesOf(from), stridesOf(shape)];
      const launches: WasmLaunch[] = [];
      if (axes.some((a) => a.filled) && sizeOf(shape) > 0) {
        const given = fill !== undefined && (call.inputs[fill] ?? null) !== null;
        const value = (call.attrs as { readonly value?: number }).value ?? 0;
        const bytes = new Uint8Array(8);
        if (!given && value !== 0) bytes.set(bytesOfTensor(fromNumbers(dtype, [1], [value])));
        const [low, high] = new Int32Array(bytes.buffer);
        launches.push({
          emit: fillEmitter,
          spec: { width, given },
          args: [{ output: 0 }, sizeOf(shape), given ? { input: fill } : low!, high!],
        });
      }
      const place = (axis: number, runs: readonly Run[]): void => {
        if (axis < axes.length) {
          for (const r of axes[axis]!.runs) place(axis + 1, [...runs, r]);
          return;
        }
        launches.push(
          ...copyLaunch(
            {
              dims: runs.map((r) => r.n),
              from: runs.map((r, k) => r.step * source[k]!),
              to: target,
              fromStart: runs.reduce((n, r, k) => n + r.from * source[k]!, 0),
              toStart: runs.reduce((n, r, k) => n + r.to * target[k]!, 0),
            },
            width,
            { input: 0 },
            { output: 0 },
          ),
        );
      };
      place(0, []);
      return launches;
    },
  };
};
