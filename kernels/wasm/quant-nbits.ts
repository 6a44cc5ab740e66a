/**
 * Products with weights of 2, 4 or 8 bits in blocks (com.microsoft.MatMulNBits). Weights are packed in panels of 8
 * columns, so that one vector load gives 16 bytes of neighbouring columns. Few rows: widened in registers as they are
 * used. Many rows: a panel at a time is widened to float32, then multiplied like any other.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { input as ex, x as op } from '../expr.ts';
import { f32x4, type Fn, i16x8, i32, i32x4, i8x16, type Local, type Mod, type V, v128 } from './asm.ts';
import { finishLaunch } from './epilogue.ts';
import { i32s, locals, mac, microKernel, storeLanes } from './gemm-core.ts';
import { MACS } from './gemm.ts';
import { kernelModule } from './module.ts';
import type { WasmCaps } from '../../src/core/plan.ts';

interface Spec {
  readonly bits: 2 | 4 | 8;
  readonly block: number;
  readonly K: number;
  readonly zeros: boolean;
  /** M is 1. */
  readonly one: boolean;
  readonly nTail: number;
  readonly widen: boolean;
}
export const COLS = 8;
const FEW = 8;

/**
 * Widens the 16 bytes at `pb`: calls `use` with the weights less their zero point, as floats of 8 columns, for each of
 * the k's they hold, ascending.
 */
function widened(
  f: Fn,
  s: Spec,
  pb: Local<'i32'>,
  zero: V,
  L: { q: Local<'v128'>; part: Local<'v128'>; half: Local<'v128'>; b: readonly Local<'v128'>[] },
  use: (k: number) => void,
): void {
  f.set(L.q, v128.load(pb));
  const per = 8 / s.bits;
  for (let i = 0; i < per; i++) {
    const shifted = i === 0 ? L.q : i8x16.shru(L.q, i * s.bits);
    const bytes =
      s.bits === 8 || i === per - 1 ? shifted : v128.and(shifted, v128.const32((2 ** s.bits - 1) * 0x01010101));
    f.set(L.part, s.bits === 8 ? bytes : i8x16.sub(bytes, zero));
    for (let r = 0; r < 2; r++) {
      const wide =
        s.bits === 8
          ? i16x8.sub(r ? i16x8.extHighU(L.part) : i16x8.extLowU(L.part), zero)
          : r
            ? i16x8.extHighS(L.part)
            : i16x8.extLowS(L.part);
      f.set(L.half, wide);
      f.set(L.b[0]!, f32x4.convS(i32x4.extLowS(L.half)));
      f.set(L.b[1]!, f32x4.convS(i32x4.extHighS(L.half)));
      use(2 * i + r);
    }
  }
}
/** The zero points of a block's 8 columns, arranged like its weights. */
const zeroOf = (s: Spec, at: Local<'i32'>): V =>
  s.zeros
    ? s.bits === 8
      ? v128.load8x8u(at)
      : v128.load64splat(at)
    : s.bits === 8
      ? v128.const32(0x00800080)
      : v128.const32((1 << (s.bits - 1)) * 0x01010101);

/** Calls `body` for each block of one panel, the last one perhaps shorter, with the number of 16-byte groups in it. */
function eachBlock(f: Fn, s: Spec, body: (groups: number) => void): void {
  const perGroup = 16 / s.bits;
  const full = Math.floor(s.K / s.block);
  const rest = s.K % s.block; // k's in 16 bytes of 8 columns
  f.times(full, () => body(s.block / perGroup));
  if (rest) body(rest / perGroup);
}

/** (a, b, scales, zeros, c, cRow): `rows` × 8 outputs, of which `cols` are stored. */
export function fewRows(m: Mod, caps: WasmCaps, s: Spec, rows: number, cols: number): Fn {
  return m.fn(`bits_${rows}x${cols}`, i32s(6), [], false, (f) => {
    const [a, b, scales, zeros, c, cRow] = [0, 1, 2, 3, 4, 5].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const out = locals(f, 'v128', 2 * rows);
    const acc = locals(f, 'v128', 2 * rows);
    const zero = f.local('v128');
    const av = f.local('v128');
    const L = { q: f.local('v128'), part: f.local('v128'), half: f.local('v128'), b: locals(f, 'v128', 2) };
    eachBlock(f, s, (groups) => {
      for (const x of acc) f.set(x, v128.zero());
      f.set(zero, zeroOf(s, zeros));
      f.times(groups, () => {
        widened(f, s, b, zero, L, (k) => {
          for (let i = 0; i < rows; i++) {
            f.set(av, v128.load32splat(a, 4 * (i * s.K + k)));
            for (let j = 0; j < 2; j++) f.set(acc[2 * i + j]!, mac(caps.fma, av, L.b[j]!, acc[2 * i + j]!));
          }
        });
        f.inc(a, 4 * (16 / s.bits));
        f.inc(b, 16);
      });
      for (let j = 0; j < 2; j++) {
        f.set(L.b[j]!, v128.load(scales, 16 * j));
        for (let i = 0; i < rows; i++) f.set(out[2 * i + j]!, mac(caps.fma, acc[2 * i + j]!, L.b[j]!, out[2 * i + j]!));
      }
      f.inc(scales, 4 * COLS);
      if (s.zeros) f.inc(zeros, COLS);
    });
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < 2 && 4 * j < cols; j++) storeLanes(f, c, out[2 * i + j]!, Math.min(4, cols - 4 * j), 16 * j);
      if (i < rows - 1) f.inc(c, cRow);
    }
  });
}
/** (b, scales, zeros, to): one panel to float32, [k][8]. */
function widenPanel(m: Mod, s: Spec): Fn {
  return m.fn('widen', i32s(4), [], false, (f) => {
    const [b, scales, zeros, to] = [0, 1, 2, 3].map((i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const zero = f.local('v128');
    const scale = locals(f, 'v128', 2);
    const L = { q: f.local('v128'), part: f.local('v128'), half: f.local('v128'), b: locals(f, 'v128', 2) };
    eachBlock(f, s, (groups) => {
      f.set(zero, zeroOf(s, zeros));
      for (let j = 0; j < 2; j++) f.set(scale[j]!, v128.load(scales, 16 * j));
      f.times(groups, () => {
        widened(f, s, b, zero, L, (k) => {
          for (let j = 0; j < 2; j++) f.emit(v128.store(to, f32x4.mul(L.b[j]!, scale[j]!), 32 * k + 16 * j));
        });
        f.inc(to, 32 * (16 / s.bits));
        f.inc(b, 16);
      });
      f.inc(scales, 4 * COLS);
      if (s.zeros) f.inc(zeros, COLS);
    });
  });
}

/** run(a, b, scales, zeros, c, scratch, M, N, cRow) */
export const nbitsModule: WasmEmitter<Spec> = {
  name: 'nbits',
  build: (s, caps) =>
    kernelModule('nbits', i32s(9), caps, (f, m) => {
      const [a, b, scales, zeros, c, scratch, M, N, cRow] = Array.from({ length: 9 }, (_, i) => f.arg('i32', i)) as [
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
        Local<'i32'>,
      ];
      const blocks = Math.ceil(s.K / s.block);
      const [at, to] = locals(f, 'i32', 2) as [Local<'i32'>, Local<'i32'>];
      const step = s.widen ? (caps.fma ? 6 : 4) : s.one ? 1 : 4;
      const widen = s.widen ? widenPanel(m, s) : null;
      const panel = (cols: number): void => {
        const of = (rows: number): Fn =>
          widen ? microKernel(m, caps.fma, rows, cols, false, false) : fewRows(m, caps, s, rows, cols);
        const each = Array.from({ length: step }, (_, i) => of(i + 1));
        const run = (fn: Fn): void =>
          widen
            ? f.call(
                fn,
                at,
                i32.const(4 * s.K),
                i32.const(4),
                scratch,
                i32.const(32),
                i32.const(s.K),
                to,
                cRow,
                i32.const(1),
              )
            : f.call(fn, at, b, scales, zeros, to, cRow);
        f.set(at, a);
        f.set(to, c);
        if (widen) f.call(widen, b, scales, zeros, scratch);
        f.times(i32.divu(M, step), () => {
          run(each[step - 1]!);
          f.inc(at, 4 * step * s.K);
          f.inc(to, i32.mul(cRow, step));
        });
        for (let r = 1; r < step; r++) f.iff(i32.eq(i32.remu(M, step), r), () => run(each[r - 1]!));
        f.inc(b, s.K * s.bits);
        f.inc(scales, 4 * COLS * blocks);
        f.inc(zeros, COLS * blocks);
        f.inc(c, 4 * COLS);
      };
      f.times(i32.divu(N, COLS), () => panel(COLS));
      if (s.nTail) f.iff(i32.remu(N, COLS), () => panel(s.nTail));
    }),
};

/** Weights, scales and zero points (0: none) of N rows as panels; their numbers are those of the inputs. */
export function panelsOf(
  { bits, block, K, N }: { readonly bits: 2 | 4 | 8; readonly block: number; readonly K: number; readonly N: number },
  weights: number,
  scales: number,
  zeros: number | null,
): [Ref, Ref, Ref | 0] {
  const blocks = Math.ceil(K / block);
  const panels = Math.ceil(N / COLS);
  return [
    { input: weights, pack: { name: 'nbits.panels', args: [bits, block, K, N], bytes: panels * K * bits } },
    { input: scales, pack: { name: 'nbits.scales', args: [blocks, N], bytes: 4 * panels * blocks * COLS } },
    zeros === null
      ? 0
      : { input: zeros, pack: { name: 'nbits.zeros', args: [bits, blocks, N], bytes: panels * blocks * COLS } },
  ];
}

interface Attrs {
  readonly K: number;
  readonly N: number;
  readonly bits: 2 | 4 | 8;
  readonly block_size: number;
}
export const matMulNBits: WasmKernel<Attrs> = {
  name: 'nbits.panel',
  accepts: (call) => {
    const [a, b, scales, zeros, groups] = call.inputs;
    const { K, bits } = call.attrs;
    return (
      a!.dtype === 'float32' &&
      b!.constant !== undefined &&
      scales!.constant !== undefined &&
      !groups &&
      (!zeros || (zeros.dtype === 'uint8' && zeros.constant !== undefined)) &&
      K % (16 / bits) === 0
    );
  },
  scratch: (call, { threads }) => (rowsOf(call) > FEW ? [threads * 32 * call.attrs.K] : []),
  launch: (call) => {
    const { K, N, bits, block_size: block } = call.attrs;
    const M = rowsOf(call);
    const blocks = Math.ceil(K / block);
    const widen = M > FEW;
    const packed = panelsOf({ bits, block, K, N }, 1, 2, call.inputs[3] ? 3 : null);
    const zeros = packed[2];
    const launch: WasmLaunch<Spec> = {
      emit: nbitsModule,
      spec: { bits, block, K, zeros: zeros !== 0, one: M === 1, nTail: N % COLS, widen },
      args: [{ input: 0 }, ...packed, { output: 0 }, widen ? { scratch: 0 } : 0, M, N, 4 * N],
      split: {
        items: 7,
        grain: COLS,
        moves: [[1, (K * bits) / 8], [2, 4 * blocks], ...(zeros ? [[3, blocks] as const] : []), [4, 4]],
        ...(widen ? { own: [[5, 32 * K]] } : {}),
        cost: (M * K) / MACS + K / 8,
      },
    };
    const bias = call.inputs[5];
    return [
      launch,
      ...(bias
        ? finishLaunch(
            { expr: op.add(ex(0, 'f32'), ex(1, 'f32')), operands: [{ fact: bias, ref: { input: 5 } }] },
            call.outputs[0]!,
          )
        : []),
    ];
  },
};
const rowsOf = (call: Call<Attrs>): number => sizeOf(call.inputs[0]!.shape.slice(0, -1));
