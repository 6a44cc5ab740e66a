/**
 * Depthwise convolution: every channel with a small kernel of its own. One padded plane is worked on at a time, so it
 * stays in the first cache.
 */
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { convShape } from '../conv-shape.ts';
import { ofLast } from '../remembered.ts';
import { type Fn, i32, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import { finisher, type StoreSpec, storeSpec } from './conv-finish.ts';
import { type Geometry, geometryOf, padArgCount, padArgs, padCopy, paddedBytes, strideFits } from './conv-geometry.ts';
import { finishes, finishLaunch, finishOf } from './epilogue.ts';
import { context } from './float.ts';
import { i32s, locals, mac, storeLanes } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import type { Split, WasmCaps } from '../../src/core/plan.ts';

/** All of the window is code: rows and columns of the kernel, strides, dilations, and how a padded row lies (bytes). */
export interface DepthwiseSpec {
  readonly kernel: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly dilations: readonly [number, number];
  readonly row: number;
  readonly phase: number;
  readonly width: number;
  readonly height: number;
  readonly bias: boolean;
  readonly store: StoreSpec | null;
}

const tapsOf = (s: DepthwiseSpec): number => s.kernel[0] * s.kernel[1];
/** Byte offset of a tap from the first input of an output. */
const tapOffset = (s: DepthwiseSpec, ky: number, kx: number): number => {
  const dx = kx * s.dilations[1];
  const sx = s.strides[1];
  return ky * s.dilations[0] * s.row + (dx % sx) * s.phase + 4 * Math.floor(dx / sx);
};
/**
 * Small kernels are unrolled, two rows sharing their loads; larger ones loop over taps with as many outputs in
 * registers as there are.
 */
export const isSmall = (s: DepthwiseSpec): boolean => tapsOf(s) <= 9;
const shapeOf = (s: DepthwiseSpec): { R: number; V: number } => {
  if (isSmall(s)) return { R: 2, V: 1 };
  const V = Math.min(8, Math.ceil(s.width / 4));
  return { R: Math.min(s.height, Math.floor(8 / V)), V };
};

/** (x, w, bias, out, table, …operands): `R` rows of outputs from padded rows at x. */
export function outputRows(m: Mod, caps: WasmCaps, s: DepthwiseSpec, R: number): Fn {
  const ops = s.store?.operands.length ?? 0;
  const { V } = shapeOf(s);
  const taps = tapsOf(s);
  const sy = s.strides[0];
  return m.fn(`rows_${R}`, i32s(5 + ops), [], false, (f) => {
    const [x, w, bias, out, table] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const finish = finisher(
      context(f, m, caps.fma),
      s.store,
      Array.from({ length: ops }, (_, i) => f.arg('i32', 5 + i)),
    );
    const weights = isSmall(s) ? Array.from({ length: taps }, (_, t) => f.let(v128.load32splat(w, 4 * t))) : [];
    const first = s.bias ? f.let(v128.load32splat(bias)) : null;
    const acc = locals(f, 'v128', R * V);
    const xv = f.local('v128');
    const at = f.local('i32');
    const t = f.local('i32');
    const add = (r: number, j: number, weight: V): void =>
      f.set(acc[r * V + j]!, mac(caps.fma, xv, weight, acc[r * V + j]!));
    const unrolled = (): void => {
      const [KH, KW] = s.kernel;
      const dy = s.dilations[0];
      for (let y = 0; y <= (R - 1) * sy + (KH - 1) * dy; y++) {
        const uses = Array.from({ length: R }, (_, r) => ({ r, ky: (y - r * sy) / dy })).filter(
          ({ ky }) => Number.isInteger(ky) && ky >= 0 && ky < KH,
        );
        if (uses.length)
          for (let kx = 0; kx < KW; kx++) {
            f.set(xv, v128.load(x, y * s.row + tapOffset(s, 0, kx)));
            for (const { r, ky } of uses) add(r, 0, weights[ky * KW + kx]!);
          }
      }
    };
    const looped = (nv: number): void =>
      f.forN(t, 0, 4 * taps, 4, () => {
        f.set(at, i32.add(x, i32.load(i32.add(table, t))));
        const weight = f.let(v128.load32splat(i32.add(w, t)));
        for (let r = 0; r < R; r++)
          for (let j = 0; j < nv; j++) {
            f.set(xv, v128.load(at, r * sy * s.row + 16 * j));
            add(r, j, weight);
          }
      });
    const body = (cols: number): void => {
      const nv = Math.ceil(cols / 4);
      for (let i = 0; i < R; i++) for (let j = 0; j < nv; j++) f.set(acc[i * V + j]!, first ?? v128.zero());
      if (isSmall(s)) unrolled();
      else looped(nv);
      for (let r = 0; r < R; r++)
        for (let j = 0; j < nv; j++) {
          const lanes = Math.min(4, cols - 4 * j);
          const off = 4 * r * s.width + 16 * j;
          const v = acc[r * V + j]!;
          f.set(v, finish(v, 0, out, off, lanes));
          storeLanes(f, out, v, lanes, off);
        }
      f.inc(x, 4 * cols);
      f.inc(out, 4 * cols);
    };
    if (s.width >= 4 * V) f.times(Math.floor(s.width / (4 * V)), () => body(4 * V));
    if (s.width % (4 * V)) body(s.width % (4 * V));
  });
}

/** Rows that `outputRows` does best at once. */
export const rowsTogether = (s: DepthwiseSpec): number => shapeOf(s).R;
/** Offsets of the taps of a kernel that is not small, for `table`. */
export const tapTable = (s: DepthwiseSpec): Uint8Array =>
  new Uint8Array(
    Int32Array.from({ length: tapsOf(s) }, (_, t) => tapOffset(s, Math.floor(t / s.kernel[1]), t % s.kernel[1])).buffer,
  );

/** run(x, w, bias, out, padded, table, N, C, xPlane, outPlane, padBytes, …padArgs, …operands) */
export const depthwiseModule: WasmEmitter<DepthwiseSpec> = {
  name: 'depthwise',
  build: (s, caps) => {
    const pads = padArgCount(s.strides[1]);
    const ops = s.store?.operands ?? [];
    return kernelModule('depthwise', i32s(11 + pads + ops.length), caps, (f, m) => {
      const [x, w, bias, out, padded, table, N, C, xPlane, outPlane, padBytes] = Array.from({ length: 11 }, (_, i) =>
        f.arg('i32', i),
      ) as Local<'i32'>[];
      const pad = Array.from({ length: pads }, (_, i) => f.arg('i32', 11 + i));
      const given = ops.map((_, i) => f.arg('i32', 11 + pads + i));
      const at = locals(f, 'i32', ops.length);
      const copy = padCopy(m, s.strides[1], 'float32');
      const { R } = shapeOf(s);
      const left = s.height % R;
      const many = s.height >= R ? outputRows(m, caps, s, R) : null;
      const rest = left ? outputRows(m, caps, s, left) : null;
      if (!isSmall(s)) f.emit(memory.init(m.data(tapTable(s)), table!, 0, 4 * tapsOf(s)));
      const [p, o, wc, bc] = locals(f, 'i32', 4) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
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
          const rows = (fn: Fn, n: number): void => {
            f.call(fn, p, wc, bc, o, table!, ...at);
            f.inc(p, n * s.strides[0] * s.row);
            f.inc(o, 4 * n * s.width);
          };
          if (many) f.times(Math.floor(s.height / R), () => rows(many, R));
          if (rest) rows(rest, left);
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
    const spec: DepthwiseSpec = {
      kernel: [g.kernel[1], g.kernel[2]],
      strides: [g.strides[1], g.strides[2]],
      dilations: [g.dilations[1], g.dilations[2]],
      row: g.row,
      phase: g.phase,
      width: g.output[2],
      height: g.output[1],
      bias: !!call.inputs[2],
      store: store?.spec ?? null,
    };
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
          ...padArgs(g),
          ...(store?.args ?? []),
        ],
        split: splitOf(g, store?.spec ?? null, !!call.inputs[2], 11 + padArgCount(g.strides[2])),
      },
      ...(store ? [] : finishLaunch(finish, out)),
    ];
  },
};
