/**
 * Products of rows with the weights of the experts that were chosen for them. An expert that is none ends the run with
 * status 1.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel } from '../define.ts';
import { type ExpertShape, expertShape } from '../experts.ts';
import { f32, f32x4, i32, type Local, v128 } from './asm.ts';
import { index } from './gather.ts';
import { i32s, mac } from './gemm-core.ts';
import { kernelModule } from './module.ts';
import { COLS, fewRows, panelsOf } from './quant-nbits.ts';

interface Spec {
  readonly bits: 0 | 4 | 8;
  readonly block: number;
  readonly K: number;
  readonly N: number;
  readonly zeros: boolean;
  readonly bias: boolean;
}
type Expert = Call<{ readonly bits: number; readonly block_size: number }>;
const shapeOf = ({ inputs, attrs }: Expert): ExpertShape =>
  expertShape(inputs[2]!, inputs[3] ?? null, inputs[4] ?? null, inputs[5] ?? null, attrs.bits, attrs.block_size);

/**
 * run(x, experts, weights, scales, zeros, bias, y, pairs, slots, count of experts): `slots` neighbouring pairs share a
 * row of x.
 */
const expertsModule: WasmEmitter<Spec> = {
  name: 'experts',
  build: (s, caps) =>
    kernelModule(
      'experts',
      i32s(10),
      caps,
      (f, m) => {
        const [x, chosen, weights, scales, zeros, bias, y, pairs, slots, experts] = Array.from({ length: 10 }, (_, i) =>
          f.arg('i32', i),
        ) as Local<'i32'>[] as [
          Local<'i32'>,
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
        const blocks = s.bits ? Math.ceil(s.K / s.block) : 0;
        const left = f.local('i32');
        const at = f.local('i32');
        const [w, scale, zero] = [f.local('i32'), f.local('i32'), f.local('i32')];
        const few = s.bits
          ? fewRows(
              m,
              caps,
              { bits: s.bits, block: s.block, K: s.K, zeros: s.zeros, one: true, nTail: 0, widen: false },
              1,
              COLS,
            )
          : null;
        // (x, w, y): N dot products of K floats.
        const rows = s.bits
          ? null
          : m.fn('rows', i32s(3), [], false, (g) => {
              const [from, row, to] = [0, 1, 2].map((i) => g.arg('i32', i)) as [
                Local<'i32'>,
                Local<'i32'>,
                Local<'i32'>,
              ];
              const k = g.local('i32');
              const sum = g.local('v128');
              g.times(i32.const(s.N), () => {
                g.set(sum, v128.zero());
                g.set(k, from);
                g.times(i32.const(s.K / 4), () => {
                  g.set(sum, mac(caps.fma, v128.load(k), v128.load(row), sum));
                  g.inc(k, 16);
                  g.inc(row, 16);
                });
                g.emit(
                  f32.store(
                    to,
                    f32.add(
                      f32.add(f32x4.lane(sum, 0), f32x4.lane(sum, 1)),
                      f32.add(f32x4.lane(sum, 2), f32x4.lane(sum, 3)),
                    ),
                  ),
                );
                g.inc(to, 4);
              });
            });
        f.set(left, slots);
        f.times(pairs, () => {
          const e = index(f, true, chosen, experts);
          f.set(at, y);
          if (few) {
            f.set(w, i32.add(weights, i32.mul(e, (s.N / COLS) * s.K * s.bits)));
            f.set(scale, i32.add(scales, i32.mul(e, 4 * s.N * blocks)));
            f.set(zero, i32.add(zeros, i32.mul(e, s.N * blocks)));
            f.times(i32.const(s.N / COLS), () => {
              f.call(few, x, w, scale, zero, at, i32.const(0));
              f.inc(w, s.K * s.bits);
              f.inc(scale, 4 * COLS * blocks);
              f.inc(zero, COLS * blocks);
              f.inc(at, 4 * COLS);
            });
          } else f.call(rows!, x, i32.add(weights, i32.mul(e, 4 * s.N * s.K)), y);
          if (s.bias) {
            f.set(at, y);
            f.set(w, i32.add(bias, i32.mul(e, 4 * s.N)));
            f.times(i32.const(s.N), () => {
              f.emit(f32.store(at, f32.add(f32.load(at), f32.load(w))));
              f.inc(at, 4);
              f.inc(w, 4);
            });
          }
          f.inc(y, 4 * s.N);
          f.inc(chosen, 8);
          f.set(left, i32.sub(left, 1));
          f.iff(i32.eqz(left), () => {
            f.inc(x, 4 * s.K);
            f.set(left, slots);
          });
        });
        f.ret(i32.const(0));
      },
      true,
    ),
};

export const expertKernel: WasmKernel<Expert['attrs']> = {
  name: 'experts.rows',
  accepts: (call) => {
    const s = shapeOf(call);
    const [x, , w, scales, zeros, bias] = call.inputs;
    if (x!.dtype !== 'float32' || (bias && bias.dtype !== 'float32')) return false;
    return s.bits
      ? s.out % COLS === 0 &&
          s.in % (16 / s.bits) === 0 &&
          s.block % (16 / s.bits) === 0 &&
          scales!.dtype === 'float32' &&
          [w, scales, zeros].every((f) => !f || f.constant !== undefined)
      : s.in % 4 === 0 && w!.dtype === 'float32';
  },
  launch: (call) => {
    const s = shapeOf(call);
    const pairs = sizeOf(call.inputs[1]!.shape);
    const N = s.experts * s.out;
    const panels = s.bits
      ? panelsOf({ bits: s.bits as 4 | 8, block: s.block, K: s.in, N }, 2, 3, call.inputs[4] ? 4 : null)
      : null;
    if (pairs === 0) return [];
    const bias: Ref | 0 = call.inputs[5] ? { input: 5 } : 0;
    return {
      emit: expertsModule,
      spec: {
        bits: s.bits as Spec['bits'],
        block: s.block,
        K: s.in,
        N: s.out,
        zeros: call.inputs[4] != null && s.bits !== 0,
        bias: bias !== 0,
      },
      args: [
        { input: 0 },
        { input: 1 },
        ...(panels ?? ([{ input: 2 }, 0, 0] as const)),
        bias,
        { output: 0 },
        pairs,
        call.inputs[0]!.shape[1] === 1 ? call.inputs[1]!.shape[1]! : 1,
        s.experts,
      ],
    };
  },
};
