/** Depthwise convolution: every channel with a small kernel of its own. One padded plane is worked on at a time, so it stays in the first cache. */
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { convShape } from '../conv-shape.ts';
import { type Fn, i32, type Local, memory, type Mod, v128 } from './asm.ts';
import { finisher, type StoreSpec, storeSpec } from './conv-finish.ts';
import { type Geometry, geometryOf, padArgCount, padArgs, padCopy, paddedBytes } from './conv-core.ts';
import { finishes, finishLaunch, finishOf } from './epilogue.ts';
import { context } from './float.ts';
import { i32s, locals, mac, storeLanes } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import type { WasmCaps } from '../../src/core/plan.ts';

/** All of the window is code: rows and columns of the kernel, strides, dilations, and how a padded row lies (bytes). */
interface Spec {
  readonly kernel: readonly [number, number]; readonly strides: readonly [number, number]; readonly dilations: readonly [number, number];
  readonly row: number; readonly phase: number; readonly width: number; readonly height: number;
  readonly bias: boolean; readonly store: StoreSpec | null;
}

/** (x, w, bias, out, …operands): `R` rows of outputs from padded rows at x. */
function outputRows(m: Mod, caps: WasmCaps, s: Spec, R: number): Fn {
  const [KH, KW] = s.kernel, [sy, sx] = s.strides, [dy, dx] = s.dilations;
  const ops = s.store?.operands.length ?? 0, taps = KH * KW, V = taps > 9 ? 2 : 1;
  return m.fn(`rows_${R}`, i32s(4 + ops), [], false, (f) => {
    const [x, w, bias, out] = [0, 1, 2, 3].map((i) => f.arg('i32', i)) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    const finish = finisher(context(f, m, caps.fma), s.store, Array.from({ length: ops }, (_, i) => f.arg('i32', 4 + i)));
    const weights = taps <= 9 ? Array.from({ length: taps }, (_, t) => f.let(v128.load32splat(w, 4 * t))) : [];
    const first = s.bias ? f.let(v128.load32splat(bias)) : null;
    const acc = locals(f, 'v128', R * V), xs = locals(f, 'v128', V), wv = f.local('v128');
    const body = (cols: number): void => {
      const nv = Math.ceil(cols / 4);
      for (let i = 0; i < R; i++) for (let j = 0; j < nv; j++) f.set(acc[i * V + j]!, first ?? v128.zero());
      for (let y = 0; y <= (R - 1) * sy + (KH - 1) * dy; y++) {
        const uses = Array.from({ length: R }, (_, r) => ({ r, ky: (y - r * sy) / dy })).filter(({ ky }) => Number.isInteger(ky) && ky >= 0 && ky < KH);
        if (uses.length) for (let kx = 0; kx < KW; kx++) {
          const off = y * s.row + ((kx * dx) % sx) * s.phase + 4 * Math.floor((kx * dx) / sx);
          for (let j = 0; j < nv; j++) f.set(xs[j]!, v128.load(x, off + 16 * j));
          for (const { r, ky } of uses) {
            const t = ky * KW + kx;
            if (!weights.length) f.set(wv, v128.load32splat(w, 4 * t));
            for (let j = 0; j < nv; j++) f.set(acc[r * V + j]!, mac(caps.fma, xs[j]!, weights[t] ?? wv, acc[r * V + j]!));
          }
        }
      }
      for (let r = 0; r < R; r++) for (let j = 0; j < nv; j++) {
        const lanes = Math.min(4, cols - 4 * j), off = 4 * r * s.width + 16 * j;
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

/** run(x, w, bias, out, padded, N, C, xPlane, outPlane, padBytes, …padArgs, …operands) */
export const depthwiseModule: WasmEmitter<Spec> = {
  name: 'depthwise',
  build: (s, caps) => {
    const pads = padArgCount(s.strides[1]), ops = s.store?.operands ?? [];
    return kernelModule('depthwise', i32s(10 + pads + ops.length), caps, (f, m) => {
      const [x, w, bias, out, padded, N, C, xPlane, outPlane, padBytes] = Array.from({ length: 10 }, (_, i) => f.arg('i32', i)) as Local<'i32'>[] & { length: 10 };
      const pad = Array.from({ length: pads }, (_, i) => f.arg('i32', 10 + i));
      const given = ops.map((_, i) => f.arg('i32', 10 + pads + i)), at = locals(f, 'i32', ops.length);
      const copy = padCopy(m, s.strides[1], 'float32');
      const two = s.height > 1 ? outputRows(m, caps, s, 2) : null, one = s.height % 2 ? outputRows(m, caps, s, 1) : null;
      const [p, o, wc, bc] = locals(f, 'i32', 4) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
      f.emit(memory.fill(padded!, 0, padBytes!));
      ops.forEach((follows, i) => f.set(at[i]!, follows === 'element' ? i32.sub(given[i]!, out!) : given[i]!));
      f.times(N!, () => {
        f.set(wc, w!);
        f.set(bc, bias!);
        ops.forEach((follows, i) => { if (follows === 'channel') f.set(at[i]!, given[i]!); });
        f.times(C!, () => {
          f.call(copy, x!, padded!, i32.const(1), i32.const(0), ...pad);
          f.set(p, padded!);
          f.set(o, out!);
          const rows = (fn: Fn, n: number): void => { f.call(fn, p, wc, bc, o, ...at); f.inc(p, n * s.strides[0] * s.row); f.inc(o, 4 * n * s.width); };
          if (two) f.times(Math.floor(s.height / 2), () => rows(two, 2));
          if (one) rows(one, 1);
          f.inc(x!, xPlane!);
          f.inc(out!, outPlane!);
          f.inc(wc, 4 * s.kernel[0] * s.kernel[1]);
          if (s.bias) f.inc(bc, 4);
          ops.forEach((follows, i) => { if (follows === 'channel' || follows === 'plane') f.inc(at[i]!, 4); });
        });
      });
    });
  },
};

const geometry = (call: Call): Geometry => {
  const [x, w, b] = call.inputs;
  return geometryOf(x!.shape, w!.shape[0]!, convShape(x!.shape, w!.shape, b?.shape ?? null, call.attrs).window);
};
/** One input channel and one filter a group, in up to two dims, with kernels small enough to be unrolled. */
export const convDepthwise: WasmKernel = {
  name: 'conv.depthwise',
  accepts: (call) => {
    if (call.inputs[0]!.dtype !== 'float32' || call.inputs[0]!.shape.length > 4 || call.attrs.activation) return false;
    const g = geometry(call);
    return g.groups > 1 && g.channels === 1 && g.filters === 1 && g.kernel[1] * g.kernel[2] <= 49 && finishes(finishOf(call), call.outputs[0]!);
  },
  scratch: (call) => [paddedBytes(geometry(call), 1)],
  launch: (call) => {
    const g = geometry(call), out = call.outputs[0]!, finish = finishOf(call), store = storeSpec(finish, out);
    const size = (t: readonly number[]): number => 4 * t[0]! * t[1]! * t[2]!;
    const spec: Spec = {
      kernel: [g.kernel[1], g.kernel[2]], strides: [g.strides[1], g.strides[2]], dilations: [g.dilations[1], g.dilations[2]],
      row: g.row, phase: g.phase, width: g.output[2], height: g.output[1], bias: !!call.inputs[2], store: store?.spec ?? null,
    };
    return [
      { emit: depthwiseModule, spec, args: [{ input: 0 }, { input: 1 }, call.inputs[2] ? { input: 2 } : 0, { output: 0 }, { scratch: 0 }, g.batch, g.groups, size(g.input), size(g.output), paddedBytes(g, 1), ...padArgs(g), ...(store?.args ?? [])] },
      ...(store ? [] : finishLaunch(finish, out)),
    ];
  },
};
