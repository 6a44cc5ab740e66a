/**
 * LSTM, GRU and RNN: the inputs of all steps are multiplied at once; each step then multiplies the state and runs the
 * gates, four hidden units at a time.
 */
import type { Call, Ref, WasmEmitter, WasmKernel } from '../define.ts';
import { type RnnShape, rnnShape } from '../rnn-shape.ts';
import { f32x4, type Fn, i32, type I32, type Local, memory, type Mod, type V, v128 } from './asm.ts';
import { type Ctx, context, sigmoid, tanh } from './float.ts';
import { gemm2d, type GemmSpec, gemmSpec, i32s, locals, loop, panelFloats, params } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

type Op = 'LSTM' | 'GRU' | 'RNN';
const GATES: Readonly<Record<Op, number>> = { LSTM: 4, GRU: 3, RNN: 1 };
const DEFAULTS: Readonly<Record<Op, readonly string[]>> = {
  LSTM: ['Sigmoid', 'Tanh', 'Tanh'],
  GRU: ['Sigmoid', 'Tanh'],
  RNN: ['Tanh'],
};
type Curve = 'sigmoid' | 'tanh' | 'relu';
const CURVES: readonly string[] = ['sigmoid', 'tanh', 'relu'];

interface Spec {
  readonly op: Op;
  readonly hidden: number;
  readonly input: GemmSpec;
  readonly state: GemmSpec;
  readonly directions: readonly { readonly reversed: boolean; readonly curves: readonly Curve[] }[];
  readonly clip: number;
  readonly bias: boolean;
  readonly peephole: boolean;
  readonly lengths: boolean;
  readonly h0: boolean;
  readonly c0: boolean;
  readonly y: boolean;
  readonly yh: boolean;
  readonly yc: boolean;
  /** LSTM: forget gate = 1 − input gate; GRU: the reset gate multiplies after the product. */
  readonly coupled: boolean;
  readonly linear: boolean;
}
const curve = (c: Ctx, name: Curve, v: V): V =>
  name === 'sigmoid' ? sigmoid(c, v) : name === 'tanh' ? tanh(c, v) : f32x4.max(v, v128.zero());

/** A loop over hidden units: `body(o, load, store)` at byte offset `o`, for vectors and then one at a time. */
function units(
  f: Fn,
  n: number,
  body: (load: (p: I32, unit?: number) => V, store: (p: I32, v: V, unit?: number) => void) => void,
): void {
  const o = f.local('i32');
  f.set(o, i32.const(0));
  const at = (p: I32): I32 => i32.add(p, o);
  f.times(n >> 2, () => {
    body(
      (p, u = 0) => v128.load(at(p), 4 * u),
      (p, v, u = 0) => f.emit(v128.store(at(p), v, 4 * u)),
    );
    f.inc(o, 16);
  });
  f.times(n & 3, () => {
    body(
      (p, u = 0) => v128.load32splat(at(p), 4 * u),
      (p, v, u = 0) => f.emit(v128.store32lane(at(p), f.let(v), 0, 4 * u)),
    );
    f.inc(o, 4);
  });
}

/**
 * (x, s, h, c, bias, p, gated): the gates of one batch entry. `part` of a GRU without linear reset: 1 before and 2
 * after its second product.
 */
function cell(m: Mod, s: Spec, fma: boolean, d: number, part: 0 | 1 | 2): Fn {
  const n = s.hidden;
  const G = GATES[s.op];
  const curves = s.directions[d]!.curves;
  return m.fn(`cell_${d}_${part}`, i32s(7), [], false, (f) => {
    const { x, s: sums, h, c: state, bias, p, gated } = params(f, 'x', 's', 'h', 'c', 'bias', 'p', 'gated');
    const c = context(f, m, fma);
    units(f, n, (load, store) => {
      const clipped = (v: V): V => (s.clip ? f32x4.pmin(f32x4.pmax(v, -s.clip), s.clip) : v);
      const act = (i: number, v: V): V => f.let(curve(c, curves[i]!, f.let(clipped(v))));
      const fromX = (g: number): V => (s.bias ? f32x4.add(load(x, g * n), load(bias, g * n)) : load(x, g * n));
      const fromH = (g: number): V =>
        s.bias ? f32x4.add(load(sums, g * n), load(bias, (G + g) * n)) : load(sums, g * n);
      const gate = (g: number): V => f32x4.add(fromX(g), fromH(g));
      if (s.op === 'RNN') return store(h, act(0, gate(0)));
      if (s.op === 'LSTM') {
        const before = f.let(load(state));
        const peep = (g: number, v: V, by: V): V => (s.peephole ? f32x4.add(v, f32x4.mul(load(p, g * n), by)) : v);
        const i = act(0, peep(0, gate(0), before));
        const forget = s.coupled ? f.let(f32x4.sub(1, i)) : act(0, peep(2, gate(2), before));
        const now = f.let(f32x4.add(f32x4.mul(forget, before), f32x4.mul(i, act(1, gate(3)))));
        store(state, now);
        return store(h, f32x4.mul(act(0, peep(1, gate(1), now)), f.let(curve(c, curves[2]!, now))));
      }
      if (part === 1) {
        store(gated, f32x4.mul(act(0, gate(1)), load(h)));
        return store(sums, act(0, gate(0)));
      }
      const z = part === 2 ? f.let(load(sums)) : act(0, gate(0));
      const now = act(1, f32x4.add(fromX(2), part === 2 ? fromH(2) : f32x4.mul(act(0, gate(1)), fromH(2))));
      store(h, f32x4.add(f32x4.mul(f32x4.sub(1, z), now), f32x4.mul(z, load(h))));
    });
  });
}

const NAMES = [
  'x',
  'w',
  'r',
  'b',
  'lengths',
  'h0',
  'c0',
  'p',
  'y',
  'yh',
  'yc',
  'fromInput',
  'sums',
  'h',
  'c',
  'gated',
  'steps',
  'batch',
  'depth',
  'wGate',
  'rGate',
  'xTime',
  'xBatch',
  'yTime',
  'yBatch',
  'yDirection',
  'stateBatch',
  'stateDirection',
  'yBytes',
] as const;
/**
 * run(…NAMES): wGate, rGate: bytes of one gate's packed weights; xTime, xBatch: rows of `fromInput`; the rest of the
 * strides in bytes.
 */
export const rnnModule: WasmEmitter<Spec> = {
  name: 'rnn',
  build: (s, caps) =>
    kernelModule(
      'rnn',
      i32s(NAMES.length),
      caps,
      (f, m) => {
        const a = params(f, ...NAMES);
        const G = GATES[s.op];
        const n = s.hidden;
        const wide = 4 * G * n;
        const row = i32.const(wide);
        const ofInput = gemm2d(m, caps, s.input);
        const ofState = gemm2d(m, caps, s.state);
        const twice = s.op === 'GRU' && !s.linear;
        const [t, b, x, sums, h, c, gated, time] = locals(f, 'i32', 8) as [
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
          Local<'i32'>,
        ];
        const length = f.local('i32');
        const lengthOf = (): I32 => i32.load(i32.add(a.lengths, i32.shl(b, 2)));
        if (s.lengths)
          loop(f, b, 0, a.batch, 1, () => f.iff(i32.gtu(lengthOf(), a.steps), () => f.returnNow(i32.const(1))));
        if (s.y && s.lengths) f.emit(memory.fill(a.y, 0, a.yBytes));
        const eachEntry = (body: () => void): void => {
          f.set(h, a.h);
          f.set(c, a.c);
          f.set(sums, a.sums);
          f.set(gated, a.gated);
          loop(f, b, 0, a.batch, 1, () => {
            body();
            f.inc(h, 4 * n);
            f.inc(c, 4 * n);
            f.inc(sums, wide);
            f.inc(gated, 4 * n);
          });
        };
        s.directions.forEach(({ reversed }, d) => {
          const stateAt = (base: Local<'i32'>): I32 =>
            i32.add(base, i32.add(i32.mul(a.stateDirection, d), i32.mul(b, a.stateBatch)));
          const move = (to: I32, from: I32): void => f.emit(memory.copy(to, from, 4 * n));
          const zero = (to: I32): void => f.emit(memory.fill(to, 0, 4 * n));
          const gates = (
            fn: Fn,
            input: Local<'i32'>,
            weights: I32,
            gateBytes: Local<'i32'>,
            to: Local<'i32'>,
            rows: I32,
            depth: I32,
            from: number,
            until: number,
          ): void => {
            for (let g = from; g < until; g++)
              f.call(
                fn,
                input,
                i32.shl(depth, 2),
                i32.const(4),
                i32.add(weights, i32.mul(gateBytes, d * G + g)),
                i32.const(0),
                i32.add(to, 4 * n * g),
                row,
                rows,
                i32.const(n),
                depth,
              );
          };
          const bias = i32.add(a.b, 2 * wide * d);
          const peephole = i32.add(a.p, 12 * n * d);
          const first = cell(m, s, caps.fma, d, twice ? 1 : 0);
          const second = twice ? cell(m, s, caps.fma, d, 2) : null;
          eachEntry(() => {
            if (s.h0) move(h, stateAt(a.h0));
            else zero(h);
            if (s.c0) move(c, stateAt(a.c0));
            else zero(c);
          });
          gates(ofInput, a.x, a.w, a.wGate, a.fromInput, i32.mul(a.steps, a.batch), a.depth, 0, G);
          loop(f, t, 0, a.steps, 1, () => {
            const eachRunning = (body: () => void): void =>
              eachEntry(() => {
                f.set(length, s.lengths ? lengthOf() : a.steps);
                f.iff(i32.ltu(t, length), () => {
                  f.set(time, reversed ? i32.sub(i32.sub(length, 1), t) : t);
                  f.set(x, i32.add(a.fromInput, i32.mul(i32.add(i32.mul(time, a.xTime), i32.mul(b, a.xBatch)), wide)));
                  body();
                });
              });
            const written = (): void => {
              if (s.y)
                move(
                  i32.add(
                    i32.add(a.y, i32.mul(time, a.yTime)),
                    i32.add(i32.mul(b, a.yBatch), i32.mul(a.yDirection, d)),
                  ),
                  h,
                );
            };
            gates(ofState, a.h, a.r, a.rGate, a.sums, a.batch, i32.const(n), 0, twice ? 2 : G);
            eachRunning(() => {
              f.call(first, x, sums, h, c, bias, peephole, gated);
              if (!second) written();
            });
            if (second) {
              gates(ofState, a.gated, a.r, a.rGate, a.sums, a.batch, i32.const(n), 2, 3);
              eachRunning(() => {
                f.call(second, x, sums, h, c, bias, peephole, gated);
                written();
              });
            }
          });
          eachEntry(() => {
            if (s.yh) move(stateAt(a.yh), h);
            if (s.yc) move(stateAt(a.yc), c);
          });
        });
        if (s.lengths) f.ret(i32.const(0));
      },
      s.lengths,
    ),
};

const shapeOf = (call: Call, op: Op): RnnShape => rnnShape([...call.inputs], call.attrs, GATES[op], DEFAULTS[op]);
const kernel = (op: Op): WasmKernel => ({
  name: `rnn.${op.toLowerCase()}`,
  accepts: (call) => {
    const [x, w, r] = call.inputs;
    return (
      x!.dtype === 'float32' &&
      w!.constant !== undefined &&
      r!.constant !== undefined &&
      shapeOf(call, op)
        .activations.flat()
        .every((a) => CURVES.includes(a.name.toLowerCase()))
    );
  },
  scratch: (call) => {
    const { steps, batch, hidden } = shapeOf(call, op);
    const wide = GATES[op] * hidden;
    return [steps * batch * wide, batch * wide, batch * hidden, batch * hidden, batch * hidden].map((n) => 4 * n + 16);
  },
  launch: (call, caps) => {
    const s = shapeOf(call, op);
    const { steps, batch, input, hidden: n } = s;
    const G = GATES[op];
    const D = s.reversed.length;
    const first = call.attrs.layout === 0;
    const state = gemmSpec(caps, batch, n);
    const packed = (i: number, K: number): Ref => {
      const floats = panelFloats(state.tile[1], K, n);
      return {
        input: i,
        pack: { name: 'gemm.panels', args: [state.tile[1], K, n, 1, K, D * G, n * K], bytes: 4 * D * G * floats },
      };
    };
    const given = (i: number): Ref | 0 => (call.inputs[i] ? { input: i } : 0);
    const wanted = (i: number): Ref | 0 => (call.outputs[i] ? { output: i } : 0);
    const lstm = op === 'LSTM';
    const bytes = 4 * n;
    const spec: Spec = {
      op,
      hidden: n,
      input: gemmSpec(caps, steps * batch, n),
      state,
      directions: s.reversed.map((reversed, d) => ({
        reversed,
        curves: s.activations[d]!.map((a) => a.name.toLowerCase() as Curve),
      })),
      clip: call.attrs.clip ?? 0,
      bias: !!call.inputs[3],
      lengths: !!call.inputs[4],
      h0: !!call.inputs[5],
      c0: lstm && !!call.inputs[6],
      peephole: lstm && !!call.inputs[7],
      y: !!call.outputs[0],
      yh: !!call.outputs[1],
      yc: lstm && !!call.outputs[2],
      coupled: !!call.attrs.input_forget,
      linear: !!call.attrs.linear_before_reset,
    };
    return {
      emit: rnnModule,
      spec,
      args: [
        { input: 0 },
        packed(1, input),
        packed(2, n),
        given(3),
        given(4),
        given(5),
        lstm ? given(6) : 0,
        lstm ? given(7) : 0,
        wanted(0),
        wanted(1),
        lstm ? wanted(2) : 0,
        { scratch: 0 },
        { scratch: 1 },
        { scratch: 2 },
        { scratch: 3 },
        { scratch: 4 },
        steps,
        batch,
        input,
        4 * panelFloats(state.tile[1], input, n),
        4 * panelFloats(state.tile[1], n, n),
        ...(first
          ? [batch, 1, D * batch * bytes, bytes, batch * bytes, bytes, batch * bytes]
          : [1, steps, D * bytes, steps * D * bytes, bytes, D * bytes, bytes]),
        steps * D * batch * bytes,
      ],
    };
  },
});
/** Kernels by operator. */
export const rnnWasm: Readonly<Record<Op, readonly WasmKernel[]>> = {
  LSTM: withHalf([kernel('LSTM')]),
  GRU: withHalf([kernel('GRU')]),
  RNN: withHalf([kernel('RNN')]),
};
