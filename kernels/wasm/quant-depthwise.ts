/**
 * Depthwise convolution of bytes: a plane at a time is widened to float32, in which sums of a few products of bytes are
 * exact, goes through the kernel of floats, and is scaled, rounded to even and saturated; all of it in the first
 * caches.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, Ref, WasmEmitter, WasmKernel } from '../define.ts';
import { type Fn, f32, f32x4, i32, i32x4, type Local, memory, type Mod, v128 } from './asm.ts';
import type { Roles } from './contract.ts';
import { geometryOf, paddedBytes, phasesOf, strideFits, tapsOf } from './conv-geometry.ts';
import { type DepthwiseSpec, depthwiseSpec, planeRows, SIZES, sizesOf } from './conv-depthwise.ts';
import { i32s, locals, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { byteAt, type Byte, isByte, requantized, zeroPoints } from './quant-conv-parts.ts';

interface Spec {
  readonly rows: DepthwiseSpec;
  readonly x: Byte;
  readonly y: Byte;
  readonly xZero: boolean;
  readonly bias: boolean;
}
type L = Local<'i32'>;

/**
 * (src, dst, H, W, row, zero, then per phase of the stride: first, offset, count): rows of bytes to padded rows of
 * floats less `zero`.
 */
function widenPlane(m: Mod, x: Byte, stride: number): Fn {
  return m.fn('widen', i32s(6 + 3 * stride), [], false, (f) => {
    const { src, dst, H, W, row, zero } = params(f, 'src', 'dst', 'H', 'W', 'row', 'zero');
    const [at, to, end] = locals(f, 'i32', 3) as [L, L, L];
    const z = f.let(f32x4.convS(i32x4.splat(zero)));
    const lanes = [0, 1, 2, 3].flatMap((i) => [16, 16, 16, i * stride]);
    f.times(H, () => {
      for (let p = 0; p < stride; p++) {
        const [first, offset, count] = [0, 1, 2].map((i) => f.arg('i32', 6 + 3 * p + i)) as [L, L, L];
        f.set(at, i32.add(src, first));
        f.set(to, i32.add(dst, offset));
        f.set(end, i32.add(to, i32.shl(count, 2)));
        if (stride <= 2)
          f.whileLoop(
            () => i32.leu(i32.add(to, stride === 1 ? 16 : 20), end),
            () => {
              const high = v128.shuffle(stride === 1 ? v128.load32zero(at) : v128.load64zero(at), v128.zero(), lanes);
              f.emit(
                v128.store(to, f32x4.sub(f32x4.convS(x === 'int8' ? i32x4.shrs(high, 24) : i32x4.shru(high, 24)), z)),
              );
              f.inc(at, 4 * stride);
              f.inc(to, 16);
            },
          );
        f.whileLoop(
          () => i32.ltu(to, end),
          () => {
            f.emit(f32.store(to, f32.convS(i32.sub(byteAt(x, at), zero))));
            f.inc(at, stride);
            f.inc(to, 4);
          },
        );
      }
      f.inc(src, W);
      f.inc(dst, row);
    });
  });
}

const NAMES = [
  'from',
  'planes',
  'x',
  'xZero',
  'w',
  'bias',
  'xScale',
  'wScale',
  'wStep',
  'yScale',
  'yZero',
  'y',
  'padded',
  'sums',
  'table',
  'channels',
  'padBytes',
  'H',
  'W',
  'top',
  'size',
] as const;
/** run(…NAMES, …sizes, …phases): `size` elements a plane of results has; `planes` planes from number `from` on. `sums`: 16 bytes, then a plane of results. */
const depthwiseBytes: WasmEmitter<Spec> = {
  name: 'depthwise_bytes',
  build: (s, caps) => {
    const stride = s.rows.strides[1];
    return kernelModule('depthwise_bytes', i32s(NAMES.length + SIZES + 3 * stride), caps, (f, m) => {
      const p = params(f, ...NAMES);
      const sizes = Array.from({ length: SIZES }, (_, i) => f.arg('i32', NAMES.length + i));
      const phases = Array.from({ length: 3 * stride }, (_, i) => f.arg('i32', NAMES.length + SIZES + i));
      const { rows } = s;
      const widen = widenPlane(m, s.x, stride);
      const results = planeRows(m, caps, rows);
      const finish = m.fn('finish', [...i32s(4), 'f32'], [], false, (g) => {
        const [from, to, size, zero, scale] = [
          g.arg('i32', 0),
          g.arg('i32', 1),
          g.arg('i32', 2),
          g.arg('i32', 3),
          g.let(f32x4.splat(g.arg('f32', 4))),
        ];
        const byte = requantized(g, s.y, zero);
        g.times(i32.shru(size, 3), () => {
          g.emit(v128.store64lane(to, byte(v128.load(from), v128.load(from, 16), scale), 0));
          g.inc(from, 32);
          g.inc(to, 8);
        });
        g.times(i32.and(size, 7), () => {
          const v = g.let(v128.load32splat(from));
          g.emit(v128.store8lane(to, byte(v, v, scale), 0));
          g.inc(from, 4);
          g.inc(to, 1);
        });
      });
      results.prepare(f, p.table, sizes);
      const zero = f.let(s.xZero ? byteAt(s.x, p.xZero) : i32.const(0));
      const yZero = f.let(byteAt(s.y, p.yZero));
      const plane = f.let(p.from);
      const [channel, weights, at, out] = locals(f, 'i32', 4) as [L, L, L, L];
      f.emit(memory.fill(p.padded, 0, p.padBytes));
      f.times(p.planes, () => {
        f.set(channel, i32.remu(plane, p.channels));
        f.set(weights, i32.add(p.w, i32.mul(channel, 4 * rows.kernel[0] * rows.kernel[1])));
        if (s.bias) f.emit(f32.store(p.sums, f32.convS(i32.load(i32.add(p.bias, i32.shl(channel, 2))))));
        f.call(
          widen,
          i32.add(p.x, i32.mul(plane, i32.mul(p.H, p.W))),
          i32.add(p.padded, p.top),
          p.H,
          p.W,
          sizes[0]!,
          zero,
          ...phases,
        );
        f.set(at, p.padded);
        f.set(out, i32.add(p.sums, 16));
        results.run(f, at, weights, p.sums, out, p.table, sizes, []);
        f.call(
          finish,
          i32.add(p.sums, 16),
          i32.add(p.y, i32.mul(plane, p.size)),
          p.size,
          yZero,
          f32.div(
            f32.mul(f32.load(p.xScale), f32.load(i32.add(p.wScale, i32.mul(channel, p.wStep)))),
            f32.load(p.yScale),
          ),
        );
        f.inc(plane, 1);
      });
    });
  },
};

/** One input channel and one filter a group, in up to two dims; constant weights, channels first. */
export const depthwiseBytesWasm = (roles: Roles, windowOf: (call: Call) => Window): WasmKernel => {
  const laid = (call: Call) => geometryOf(call.inputs[roles.x]!.shape, call.inputs[roles.w]!.shape[0]!, windowOf(call));
  return {
    name: 'conv.quantized_depthwise',
    accepts: (call) => {
      const [x, w] = [call.inputs[roles.x]!, call.inputs[roles.w]!];
      if (
        call.attrs.channels_last ||
        !isByte(x.dtype) ||
        !isByte(w.dtype) ||
        w.constant?.peek() == null ||
        x.shape.length > 4 ||
        w.shape[1] !== 1 ||
        !strideFits(call.attrs) ||
        zeroPoints(call, roles.wZero) === null
      )
        return false;
      const g = laid(call);
      return g.groups > 1 && g.filters === 1 && tapsOf(g) <= 256; // sums below 2^24 are exact
    },
    scratch: (call, caps) => {
      const g = laid(call);
      return [caps.threads * paddedBytes(g, 1), caps.threads * sumBytes(call), 4 * tapsOf(g)];
    },
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const g = laid(call);
      const [xs, ws, ys] = roles.scales!;
      const given = (i: number | null): boolean => i != null && call.inputs[i] != null;
      const ref = (i: number | null): Ref | 0 => (given(i) ? { input: i! } : 0);
      const rows = depthwiseSpec(g, given(roles.bias), null);
      return {
        emit: depthwiseBytes,
        spec: {
          rows,
          x: call.inputs[roles.x]!.dtype as Byte,
          y: call.outputs[0]!.dtype as Byte,
          xZero: given(roles.xZero),
          bias: given(roles.bias),
        },
        args: [
          0,
          g.batch * g.groups,
          { input: roles.x },
          ref(roles.xZero),
          {
            input: roles.w,
            pack: {
              name: 'conv.floats',
              args: [g.groups, tapsOf(g), ...zeroPoints(call, roles.wZero)!],
              bytes: 4 * g.groups * tapsOf(g),
            },
          },
          ref(roles.bias),
          { input: xs },
          { input: ws },
          sizeOf(call.inputs[ws]!.shape) > 1 ? 4 : 0,
          { input: ys },
          ref(roles.yZero),
          { output: 0 },
          { scratch: 0 },
          { scratch: 1 },
          { scratch: 2 },
          g.groups,
          paddedBytes(g, 1),
          g.input[1],
          g.input[2],
          g.pads[1] * g.row,
          g.output[1] * g.output[2],
          ...sizesOf(g, rows),
          ...phasesOf(g),
        ],
        split: {
          items: 1,
          grain: 1,
          moves: [[0, 1]],
          own: [
            [12, paddedBytes(g, 1)],
            [13, sumBytes(call)],
          ],
          cost: (g.output[1] * g.output[2] * tapsOf(g)) / 8,
        },
      };
    },
  };
};
/** A bias, and a plane of sums with room for the last vector. */
const sumBytes = (call: Call): number => 32 + 4 * sizeOf(call.outputs[0]!.shape.slice(2));
