/**
 * Depthwise convolution: every channel with a small kernel of its own. One padded plane is worked on at a time, so it
 * stays in the first cache.
 */
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { convShape } from '../conv-shape.ts';
import { ofLast } from '../remembered.ts';
import { type Fn, i32, type I32, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import { finisher, type StoreSpec, storeSpec } from './conv-finish.ts';
import {
  type Geometry,
  geometryOf,
  padArgCount,
  padArgs,
  padCopy,
  paddedBytes,
  strideFits,
  tapOffsets,
} from './conv-geometry.ts';
import { finishes, finishLaunch, finishOf } from './epilogue.ts';
import { context } from './float.ts';
import { i32s, locals, mac, params, storeLanes } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import type { Split, WasmCaps } from '../../src/core/plan.ts';

/**
 * All of the window is code: rows and columns of the kernel, strides, dilations. Of the image's size only what is left
 * over is, so that others of its class share the module; `sizesOf` are arguments.
 */
export interface DepthwiseSpec {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  /** Rows and vectors of outputs that are computed at once, and the outputs and rows that remain. */
  readonly R: number;
  readonly V: number;
  readonly columnsLeft: number;
  readonly rowsLeft: number;
  readonly bias: boolean;
  readonly store: StoreSpec | null;
}

/**
 * Small kernels are unrolled, two rows sharing their loads; larger ones loop over taps with as many outputs in
 * registers as there are.
 */
const isSmall = (kernel: DepthwiseSpec['kernel']): boolean => kernel[0] * kernel[1] <= 9;
export function depthwiseSpec(g: Geometry, bias: boolean, store: StoreSpec | null): DepthwiseSpec {
  const kernel = [g.kernel[1], g.kernel[2]] as const;
  const [, height, width] = g.output;
  const V = isSmall(kernel) ? 1 : Math.min(8, Math.ceil(width / 4));
  const R = isSmall(kernel) ? 2 : Math.min(height, Math.floor(8 / V));
  return {
    kernel,
    strides: [g.strides[1], g.strides[2]],
    dilations: [g.dilations[1], g.dilations[2]],
    R,
    V,
    columnsLeft: width % (4 * V),
    rowsLeft: height % R,
    bias,
    store,
  };
}
/** Arguments of `planeRows`, in order: bytes of padded rows and phases and of rows of outputs; how often each is done. */
export const SIZES = 5;
export const sizesOf = (g: Geometry, { R, V }: DepthwiseSpec): number[] => [
  g.row,
  g.phase,
  4 * g.output[2],
  Math.floor(g.output[2] / (4 * V)),
  Math.floor(g.output[1] / R),
];

type L = Local<'i32'>;
/** (x, w, bias, out, table, row, phase, outRow, tiles, …operands): `R` rows of outputs from padded rows at x. */
function outputRows(m: Mod, caps: WasmCaps, s: DepthwiseSpec, R: number): Fn {
  const ops = s.store?.operands.length ?? 0;
  const { V } = s;
  const [KH, KW] = s.kernel;
  const [sy, sx] = s.strides;
  const [dy, dx] = s.dilations;
  return m.fn(`rows_${R}`, i32s(9 + ops), [], false, (f) => {
    const { x, w, bias, out, table, row, phase, outRow, tiles } = params(
      f,
      'x',
      'w',
      'bias',
      'out',
      'table',
      'row',
      'phase',
      'outRow',
      'tiles',
    );
    const finish = finisher(
      context(f, m, caps.fma),
      s.store,
      Array.from({ length: ops }, (_, i) => f.arg('i32', 9 + i)),
      1,
    );
    const small = isSmall(s.kernel);
    const weights = small ? Array.from({ length: KH * KW }, (_, t) => f.let(v128.load32splat(w, 4 * t))) : [];
    const first = s.bias ? f.let(v128.load32splat(bias)) : null;
    const acc = locals(f, 'v128', R * V);
    const xv = f.local('v128');
    const at = f.local('i32');
    const t = f.local('i32');
    const add = (r: number, j: number, weight: V): void =>
      f.set(acc[r * V + j]!, mac(caps.fma, xv, weight, acc[r * V + j]!));
    /** Padded rows that small kernels read, by their number, and which rows of outputs and of the kernel meet there. */
    const lines = Array.from({ length: small ? (R - 1) * sy + (KH - 1) * dy + 1 : 0 }, (_, y) => ({
      y,
      uses: Array.from({ length: R }, (_, r) => ({ r, ky: (y - r * sy) / dy })).filter(
        ({ ky }) => Number.isInteger(ky) && ky >= 0 && ky < KH,
      ),
    }))
      .filter(({ uses }) => uses.length > 0)
      .map(({ y, uses }) => ({ uses, start: f.let(i32.add(x, i32.mul(row, y))) }));
    const unrolled = (): void => {
      for (const { uses, start } of lines)
        for (let p = 0; p < sx; p++) {
          const columns = Array.from({ length: KW }, (_, kx) => kx).filter((kx) => (kx * dx) % sx === p);
          if (columns.length === 0) continue;
          if (p > 0) f.set(at, i32.add(start, i32.mul(phase, p)));
          for (const kx of columns) {
            f.set(xv, v128.load(p > 0 ? at : start, 4 * Math.floor((kx * dx) / sx)));
            for (const { r, ky } of uses) add(r, 0, weights[ky * KW + kx]!);
          }
        }
    };
    const down = f.let(i32.mul(row, sy));
    const looped = (nv: number): void =>
      f.forN(t, 0, 4 * KH * KW, 4, () => {
        f.set(at, i32.add(x, i32.load(i32.add(table, t))));
        const weight = f.let(v128.load32splat(i32.add(w, t)));
        for (let r = 0; r < R; r++) {
          if (r > 0) f.set(at, i32.add(at, down));
          for (let j = 0; j < nv; j++) {
            f.set(xv, v128.load(at, 16 * j));
            add(r, j, weight);
          }
        }
      });
    const body = (cols: number): void => {
      const nv = Math.ceil(cols / 4);
      for (let i = 0; i < R; i++) for (let j = 0; j < nv; j++) f.set(acc[i * V + j]!, first ?? v128.zero());
      if (small) unrolled();
      else looped(nv);
      for (let r = 0; r < R; r++) {
        const to = r === 0 ? out : at;
        if (r > 0) f.set(at, i32.add(r === 1 ? out : at, outRow));
        for (let j = 0; j < nv; j++) {
          const lanes = Math.min(4, cols - 4 * j);
          const v = acc[r * V + j]!;
          f.set(v, finish(v, 0, to, 16 * j, lanes));
          storeLanes(f, to, v, lanes, 16 * j);
        }
      }
      for (const { start } of lines) f.inc(start, 4 * cols);
      if (!small) f.inc(x, 4 * cols);
      f.inc(out, 4 * cols);
    };
    f.times(tiles, () => body(4 * V));
    if (s.columnsLeft) body(s.columnsLeft);
  });
}

/**
 * The code of all rows of a plane: from `x`, a padded plane, to `out`; both are moved. `sizes`: those of `sizesOf`.
 * What comes before the first plane is `prepare`.
 */
export function planeRows(m: Mod, caps: WasmCaps, s: DepthwiseSpec) {
  const many = outputRows(m, caps, s, s.R);
  const rest = s.rowsLeft ? outputRows(m, caps, s, s.rowsLeft) : null;
  const [KH, KW] = s.kernel;
  return {
    prepare(f: Fn, table: I32, [row, phase]: readonly I32[]): void {
      if (isSmall(s.kernel)) return;
      const size = [1, 1, KH, KW, 0, 0].map((n) => i32.const(n));
      f.call(
        tapOffsets(m, s.strides[1]),
        table,
        ...size,
        i32.mul(row!, s.dilations[0]),
        i32.const(s.dilations[1]),
        phase!,
      );
    },
    run(f: Fn, x: L, w: I32, bias: I32, out: L, table: I32, sizes: readonly I32[], operands: readonly I32[]): void {
      const [row, , outRow, , times] = sizes;
      const rows = (fn: Fn, n: number): void => {
        f.call(fn, x, w, bias, out, table, ...sizes.slice(0, 4), ...operands);
        f.set(x, i32.add(x, i32.mul(row!, n * s.strides[0])));
        f.set(out, i32.add(out, i32.mul(outRow!, n)));
      };
      f.times(times!, () => rows(many, s.R));
      if (rest) rows(rest, s.rowsLeft);
    },
  };
}

/** run(x, w, bias, out, padded, table, N, C, xPlane, outPlane, padBytes, …sizes, …padArgs, …operands) */
const FIXED = 11 + SIZES;
const depthwiseModule: WasmEmitter<DepthwiseSpec> = {
  name: 'depthwise',
  build: (s, caps) => {
    const pads = padArgCount(s.strides[1]);
    const ops = s.store?.operands ?? [];
    return kernelModule('depthwise', i32s(FIXED + pads + ops.length), caps, (f, m) => {
      const [x, w, bias, out, padded, table, N, C, xPlane, outPlane, padBytes] = Array.from({ length: 11 }, (_, i) =>
        f.arg('i32', i),
      ) as L[];
      const sizes = Array.from({ length: SIZES }, (_, i) => f.arg('i32', 11 + i));
      const pad = Array.from({ length: pads }, (_, i) => f.arg('i32', FIXED + i));
      const given = ops.map((_, i) => f.arg('i32', FIXED + pads + i));
      const at = locals(f, 'i32', ops.length);
      const copy = padCopy(m, s.strides[1], 'float32');
      const plane = planeRows(m, caps, s);
      plane.prepare(f, table!, sizes);
      const [p, o, wc, bc] = locals(f, 'i32', 4) as [L, L, L, L];
      f.emit(memory.fill(padded!, 0, padBytes!));
      ops.forEach((follows, i) => f.set(at[i]!, follows === 'element' ? i32.sub(given[i]!, out!) : given[i]!));
      f.times(N!, () => {
        f.set(wc, w!);
        f.set(bc, bias!);
        ops.forEach((follows, i) => {
          if (follows === 'channel') f.set(at[i]!, given[i]!);
        });
        f.times(C!, () => {
          f.call(copy, x!, padded!, i32.const(1), i32.const(0), ...pad);
          f.set(p, padded!);
          f.set(o, out!);
          plane.run(f, p, wc, bc, o, table!, sizes, at as L[]);
          f.inc(x!, xPlane!);
          f.inc(out!, outPlane!);
          f.inc(wc, 4 * s.kernel[0] * s.kernel[1]);
          if (s.bias) f.inc(bc, 4);
          ops.forEach((follows, i) => {
            if (follows === 'channel' || follows === 'plane') f.inc(at[i]!, 4);
          });
        });
      });
    });
  },
};

/** Where a Conv's parts lie: asked by all its kernels, one after another. */
export const convGeometry = (call: Call): Geometry => geometryOnce(call, null);
const geometryOnce = ofLast((call: Call, _: null): Geometry => {
  const [x, w, b] = call.inputs;
  return geometryOf(x!.shape, w!.shape[0]!, convShape(x!.shape, w!.shape, b?.shape ?? null, call.attrs).window);
});
/** Bytes of one padded plane, and of the table of taps; per thread. */
const scratchOf = (g: Geometry): [padded: number, table: number] =>
  [paddedBytes(g, 1), 4 * g.kernel[1] * g.kernel[2]].map((n) => Math.ceil(n / 16) * 16) as [number, number];
/** Images, or channels of a single one. `operands`: the first argument of the epilogue's. */
function splitOf(g: Geometry, store: StoreSpec | null, bias: boolean, operands: number): Split {
  const one = g.batch === 1;
  const n = one ? 1 : g.groups;
  const size = (t: readonly number[]): number => 4 * t[0]! * t[1]! * t[2]!;
  const out = n * size(g.output);
  const [padded, table] = scratchOf(g);
  const steps = { element: out, plane: 4 * n, channel: one ? 4 : 0, one: 0 };
  const along = (store?.operands ?? []).flatMap((o, i): [number, number][] =>
    steps[o] ? [[operands + i, steps[o]]] : [],
  );
  const taps = g.kernel[1] * g.kernel[2];
  const weights: [number, number][] = one ? [[1, 4 * taps], ...(bias ? [[2, 4] as [number, number]] : [])] : [];
  return {
    items: one ? 7 : 6,
    grain: 1,
    moves: [[0, n * size(g.input)], [3, out], ...weights, ...along],
    own: [
      [4, padded],
      [5, table],
    ],
    cost: (n * (taps + 4) * size(g.output)) / 4 / 12,
  };
}
/** One input channel and one filter a group, in up to two dims. */
export const convDepthwise: WasmKernel = {
  name: 'conv.depthwise',
  accepts: (call) => {
    if (
      call.inputs[0]!.dtype !== 'float32' ||
      call.inputs[0]!.shape.length > 4 ||
      call.attrs.activation ||
      !strideFits(call.attrs)
    )
      return false;
    const g = convGeometry(call);
    return g.groups > 1 && g.channels === 1 && g.filters === 1 && finishes(finishOf(call), call.outputs[0]!);
  },
  scratch: (call, { threads }) => scratchOf(convGeometry(call)).map((n) => threads * n),
  launch: (call) => {
    const g = convGeometry(call);
    const out = call.outputs[0]!;
    const finish = finishOf(call);
    const store = storeSpec(finish, out);
    const size = (t: readonly number[]): number => 4 * t[0]! * t[1]! * t[2]!;
    const spec = depthwiseSpec(g, !!call.inputs[2], store?.spec ?? null);
    return [
      {
        emit: depthwiseModule,
        spec,
        args: [
          { input: 0 },
          { input: 1 },
          call.inputs[2] ? { input: 2 } : 0,
          { output: 0 },
          { scratch: 0 },
          { scratch: 1 },
          g.batch,
          g.groups,
          size(g.input),
          size(g.output),
          paddedBytes(g, 1),
          ...sizesOf(g, spec),
          ...padArgs(g),
          ...(store?.args ?? []),
        ],
        split: splitOf(g, store?.spec ?? null, !!call.inputs[2], FIXED + padArgCount(g.strides[2])),
      },
      ...(store ? [] : finishLaunch(finish, out)),
    ];
  },
};
