/**
 * Pooling on the CPU: a window's vectors are folded tap by tap over planes copied into padding, so that no bound is
 * tested while pooling.
 */
import type { WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { type Window, type WindowAttrs, windowOf } from '../conv-window.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { type Fn, f32x4, i32, i32x4, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import {
  type Geometry,
  geometryOf,
  padArgCount,
  padArgs,
  padCopy,
  paddedBytes,
  strideFits,
  tapsOf,
} from './conv-geometry.ts';
import { type Ctx, context, pow } from './float.ts';
import { i32s, locals, loop, storeLanes } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';
import { poolIndexed } from './pool-indexed.ts';

type Three = readonly [number, number, number];
/** How taps are folded: largest, mean (`counts`: by how many taps a window along each dim divides), or the p-norm. */
type Fold =
  | { readonly by: 'max' }
  | { readonly by: 'mean'; readonly counts: readonly (readonly number[])[] }
  | { readonly by: 'norm'; readonly p: number };
interface Spec {
  readonly fold: Fold;
  readonly kernel: Three;
  readonly strides: Three;
  readonly dilations: Three;
  readonly output: Three;
  readonly phase: number;
  readonly row: number;
  readonly slice: number;
}
const offsets = (s: Spec): Int32Array => {
  const [KD, KH, KW] = s.kernel;
  const sx = s.strides[2];
  return Int32Array.from({ length: KD * KH * KW }, (_, t) => {
    const dx = (t % KW) * s.dilations[2];
    const y = Math.floor(t / KW) % KH;
    const z = Math.floor(t / (KW * KH));
    return z * s.dilations[0] * s.slice + y * s.dilations[1] * s.row + (dx % sx) * s.phase + 4 * Math.floor(dx / sx);
  });
};
const folded = (c: Ctx, fold: Fold, acc: V, x: V): V => {
  if (fold.by === 'max') return f32x4.max(acc, x);
  if (fold.by === 'mean' || fold.p === 1) return f32x4.add(acc, fold.by === 'mean' ? x : f32x4.abs(x));
  const v = c.f.let(fold.p === 2 ? x : f32x4.abs(x));
  return f32x4.add(acc, fold.p === 2 ? f32x4.mul(v, v) : pow(c, v, f32x4.const(fold.p)));
};
const rooted = (c: Ctx, fold: Fold, v: V): V =>
  fold.by !== 'norm' || fold.p === 1 ? v : fold.p === 2 ? f32x4.sqrt(v) : pow(c, v, f32x4.const(1 / fold.p));

/** Outputs in registers: rows × vectors. */
const blockOf = (s: Spec): { R: number; V: number } => {
  const V = Math.min(8, Math.ceil(s.output[2] / 4));
  return { R: Math.min(s.output[1], Math.floor(8 / V)), V };
};

/**
 * (x, out, table, countsX, countsY, countZ): `R` rows of outputs. The last three: addresses of the counts along each
 * dim.
 */
function outputRows(m: Mod, caps: WasmCaps, s: Spec, R: number): Fn {
  const { V } = blockOf(s);
  const width = s.output[2];
  return m.fn(`rows_${R}`, i32s(6), [], false, (f) => {
    const c = context(f, m, caps.fma);
    const [x, out, table, countsX, countsY, countZ] = [0, 1, 2, 3, 4, 5].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const acc = locals(f, 'v128', R * V);
    const t = f.local('i32');
    const at = f.local('i32');
    const body = (cols: number): void => {
      const nv = Math.ceil(cols / 4);
      for (let i = 0; i < R * V; i++) f.set(acc[i]!, s.fold.by === 'max' ? f32x4.const(-Infinity) : v128.zero());
      loop(f, t, 0, 4 * s.kernel[0] * s.kernel[1] * s.kernel[2], 4, () => {
        f.set(at, i32.add(x, i32.load(i32.add(table, t))));
        for (let r = 0; r < R; r++)
          for (let j = 0; j < nv; j++)
            f.set(
              acc[r * V + j]!,
              folded(c, s.fold, acc[r * V + j]!, v128.load(at, r * s.strides[1] * s.row + 16 * j)),
            );
      });
      for (let r = 0; r < R; r++)
        for (let j = 0; j < nv; j++) {
          const v = acc[r * V + j]!;
          const count = (): V =>
            f32x4.mul(
              v128.load(countsX, 16 * j),
              f32x4.mul(v128.load32splat(countsY, 4 * r), v128.load32splat(countZ)),
            );
          f.set(v, s.fold.by === 'mean' ? f32x4.div(v, count()) : rooted(c, s.fold, v));
          storeLanes(f, out, v, Math.min(4, cols - 4 * j), 4 * r * width + 16 * j);
        }
      f.inc(x, 4 * cols);
      f.inc(out, 4 * cols);
      f.inc(countsX, 4 * cols);
    };
    if (width >= 4 * V) f.times(Math.floor(width / (4 * V)), () => body(4 * V));
    if (width % (4 * V)) body(width % (4 * V));
  });
}

/** Tap offsets, then the counts along x (with room for a whole vector), y and z. */
function tablesOf(s: Spec): Uint8Array<ArrayBuffer> {
  const taps = offsets(s);
  const [OD, OH, OW] = s.output;
  const counts =
    s.fold.by === 'mean'
      ? [...s.fold.counts[2]!, 1, 1, 1, 1, ...s.fold.counts[1]!, ...s.fold.counts[0]!]
      : new Array<number>(OW + 4 + OH + OD).fill(1);
  const bytes = new Uint8Array(4 * (taps.length + counts.length));
  bytes.set(new Uint8Array(taps.buffer));
  bytes.set(new Uint8Array(Float32Array.from(counts).buffer), 4 * taps.length);
  return bytes;
}
const tableBytes = (kernel: Three, output: Three): number =>
  4 * (sizeOf(kernel) + sizeOf([output[2] + 4]) + output[1] + output[0]);

/** run(x, out, padded, tables, planes, xPlane, padVectors, …padArgs) */
export const poolModule: WasmEmitter<Spec> = {
  name: 'pool',
  build: (s, caps) =>
    kernelModule('pool', i32s(7 + padArgCount(s.strides[2])), caps, (f, m) => {
      const [x, out, padded, tables, planes, xPlane, padVectors] = Array.from({ length: 7 }, (_, i) =>
        f.arg('i32', i),
      ) as Local<'i32'>[];
      const pad = Array.from({ length: padArgCount(s.strides[2]) }, (_, i) => f.arg('i32', 7 + i));
      const copy = padCopy(m, s.strides[2], 'float32');
      const { R } = blockOf(s);
      const [OD, OH, OW] = s.output;
      const left = OH % R;
      const many = outputRows(m, caps, s, R);
      const rest = left ? outputRows(m, caps, s, left) : null;
      const [z, y, o, countsY, at] = locals(f, 'i32', 5) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const taps = 4 * sizeOf(s.kernel);
      const countsX = i32.add(tables!, taps);
      const firstY = i32.add(tables!, taps + 4 * (OW + 4));
      f.emit(memory.init(m.data(tablesOf(s)), tables!, 0, tableBytes(s.kernel, s.output)));
      f.set(at, padded!);
      f.times(padVectors!, () => {
        f.emit(v128.store(at, f32x4.const(s.fold.by === 'max' ? -Infinity : 0)));
        f.inc(at, 16);
      });
      f.times(planes!, () => {
        f.call(copy, x!, padded!, i32.const(1), i32.const(0), ...pad);
        f.inc(x!, xPlane!);
        const countZ = f.let(i32.add(tables!, taps + 4 * (OW + 4 + OH)));
        f.set(z, padded!);
        f.set(o, out!);
        f.times(OD, () => {
          f.set(y, z);
          f.set(countsY, firstY);
          const rows = (fn: Fn, n: number): void => {
            f.call(fn, y, o, tables!, countsX, countsY, countZ);
            f.inc(y, n * s.strides[1] * s.row);
            f.inc(o, 4 * n * OW);
            f.inc(countsY, 4 * n);
          };
          f.times(Math.floor(OH / R), () => rows(many, R));
          if (rest) rows(rest, left);
          f.inc(z, s.strides[0] * s.slice);
          f.inc(countZ, 4);
        });
        f.set(out!, o);
      });
    }),
};

type Attrs = WindowAttrs & {
  readonly kernel_shape: readonly number[];
  readonly count_include_pad?: number;
  readonly p?: number;
};
/** The window, its padding at the end grown to what a last window under ceil_mode reaches. */
function geometry(call: Call<Attrs>): { g: Geometry; window: Window } {
  const x = call.inputs[0]!.shape;
  const window = windowOf(call.attrs, x, call.attrs.kernel_shape);
  const rank = x.length - 2;
  const ends = window.kernel.map((k, d) =>
    Math.max(
      window.pads[d + rank]!,
      (window.output[d]! - 1) * window.strides[d]! + (k - 1) * window.dilations[d]! + 1 - x[d + 2]! - window.pads[d]!,
    ),
  );
  const g = geometryOf(x, x[1]!, { ...window, group: x[1]!, pads: [...window.pads.slice(0, rank), ...ends] });
  return { g, window };
}
/** Along each dim, how many taps of each window lie in the image or, if `padded`, in its padding as well. */
function countsOf(w: Window, spatial: readonly number[], padded: boolean): number[][] {
  const lines = spatial.map((size, d) => {
    const low = padded ? -w.pads[d]! : 0;
    const high = padded ? size + w.pads[d + spatial.length]! : size;
    return Array.from(
      { length: w.output[d]! },
      (_, o) =>
        Array.from({ length: w.kernel[d]! }, (_, k) => o * w.strides[d]! - w.pads[d]! + k * w.dilations[d]!).filter(
          (i) => i >= low && i < high,
        ).length,
    );
  });
  return [...new Array<number[]>(3 - lines.length).fill([1]), ...lines];
}

/** Bytes of a padded plane and of the tables; per thread. */
const scratchOf = (g: Geometry): number[] =>
  [paddedBytes(g, 1), tableBytes(g.kernel, g.output)].map((n) => Math.ceil(n / 16) * 16);

const poolKernel = (name: string, foldOf: (call: Call<Attrs>, window: Window) => Fold): WasmKernel => ({
  name,
  accepts: (call) =>
    call.inputs[0]!.dtype === 'float32' &&
    call.inputs[0]!.shape.length <= 5 &&
    strideFits(call.attrs) &&
    !call.outputs[1],
  scratch: (call, { threads }) => scratchOf(geometry(call).g).map((n) => threads * n),
  launch: (call) => {
    const { g, window } = geometry(call);
    // A window of one tap is flattened by geometryOf; its counts are then all 1.
    const fold =
      tapsOf(g) === 1 && g.output[2] !== window.output.at(-1)
        ? flat(foldOf(call, window), g.output)
        : foldOf(call, window);
    const spec: Spec = {
      fold,
      kernel: g.kernel,
      strides: g.strides,
      dilations: g.dilations,
      output: g.output,
      phase: g.phase,
      row: g.row,
      slice: g.slice,
    };
    return {
      emit: poolModule,
      spec,
      args: [
        { input: 0 },
        { output: 0 },
        { scratch: 0 },
        { scratch: 1 },
        sizeOf(g.output) === 0 ? 0 : g.batch * g.groups,
        4 * sizeOf(g.input),
        Math.floor(paddedBytes(g, 1) / 16),
        ...padArgs(g),
      ],
      split: {
        items: 4,
        grain: 1,
        moves: [
          [0, 4 * sizeOf(g.input)],
          [1, 4 * sizeOf(g.output)],
        ],
        own: scratchOf(g).map((n, i) => [2 + i, n] as const),
        cost: 0.5 * sizeOf(g.input) + 0.15 * tapsOf(g) * sizeOf(g.output),
      },
    };
  },
});
const flat = (fold: Fold, output: Three): Fold =>
  fold.by === 'mean' ? { by: 'mean', counts: output.map((n) => new Array<number>(n).fill(1)) } : fold;

const maxPool = poolKernel('pool.max', () => ({ by: 'max' }));
const averagePool = poolKernel('pool.average', (call, window) => ({
  by: 'mean',
  counts: countsOf(window, call.inputs[0]!.shape.slice(2), !!call.attrs.count_include_pad),
}));
const lpPool = poolKernel('pool.lp', (call) => ({ by: 'norm', p: call.attrs.p ?? 2 }));

// ── global ──────────────────────────────────────────────────────────────────────────────────────────────────────────
interface RowSpec {
  readonly by: 'max' | 'mean' | 'norm';
  readonly p: number;
}
/** run(x, out, rows, n): each row of n elements to one. */
const globalModule: WasmEmitter<RowSpec> = {
  name: 'pool_global',
  build: (s, caps) =>
    kernelModule('pool_global', i32s(4), caps, (f, m) => {
      const c = context(f, m, caps.fma);
      const [x, out, rows, n] = [0, 1, 2, 3].map((i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const fold: Fold =
        s.by === 'mean' ? { by: 'mean', counts: [] } : s.by === 'max' ? { by: 'max' } : { by: 'norm', p: s.p };
      const acc = locals(f, 'v128', 4);
      const one = f.local('v128');
      const join = (a: V, b: V): V => (s.by === 'max' ? f32x4.max(a, b) : f32x4.add(a, b));
      const start = (): V => (s.by === 'max' ? f32x4.const(-Infinity) : v128.zero());
      f.times(rows, () => {
        for (const a of [...acc, one]) f.set(a, start());
        f.times(i32.shru(n, 4), () => {
          acc.forEach((a, i) => f.set(a, folded(c, fold, a, v128.load(x, 16 * i))));
          f.inc(x, 64);
        });
        f.times(i32.and(n, 15), () => {
          f.set(one, folded(c, fold, one, v128.load32splat(x)));
          f.inc(x, 4);
        });
        f.set(acc[0]!, join(join(acc[0]!, acc[1]!), join(acc[2]!, acc[3]!)));
        f.set(acc[0]!, join(acc[0]!, v128.shuf32(acc[0]!, acc[0]!, [2, 3, 0, 1])));
        f.set(acc[0]!, join(join(acc[0]!, v128.shuf32(acc[0]!, acc[0]!, [1, 0, 3, 2])), one));
        f.set(acc[0]!, s.by === 'mean' ? f32x4.div(acc[0]!, f32x4.convU(i32x4.splat(n))) : rooted(c, fold, acc[0]!));
        storeLanes(f, out, acc[0]!, 1);
        f.inc(out, 4);
      });
    }),
};
const globalPool = (by: RowSpec['by']): WasmKernel => ({
  name: `pool.global_${by}`,
  accepts: (call) => call.inputs[0]!.dtype === 'float32',
  launch: (call) => {
    const [n, c, ...spatial] = call.inputs[0]!.shape as [number, number, ...number[]];
    return {
      emit: globalModule,
      spec: { by, p: by === 'norm' ? (call.attrs.p ?? 2) : 1 },
      args: [{ input: 0 }, { output: 0 }, n * c, sizeOf(spatial)],
      split: {
        items: 2,
        grain: 1,
        moves: [
          [0, 4 * sizeOf(spatial)],
          [1, 4],
        ],
        cost: 0.15 * sizeOf(spatial),
      },
    };
  },
});

/** Kernels of each pooling operator, by its name. */
export const poolWasm: Readonly<Record<string, readonly WasmKernel[]>> = {
  MaxPool: [...withHalf([maxPool]), poolIndexed],
  AveragePool: withHalf([averagePool]),
  LpPool: withHalf([lpPool]),
  GlobalAveragePool: withHalf([globalPool('mean')]),
  GlobalMaxPool: withHalf([globalPool('max')]),
  GlobalLpPool: withHalf([globalPool('norm')]),
};
