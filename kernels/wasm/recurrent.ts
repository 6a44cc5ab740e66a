/**
 * Operators of sequence models beside attention: linear attention, causal convolution with a state, rotary embedding,
 * writing into a cache.
 */
import { type DType, isInt64 } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { LinearShape } from '../attention-linear.ts';
import type { Call, WasmKernel } from '../define.ts';
import type { RotaryShape } from '../rotary-shape.ts';
import { axisOf } from '../shapes.ts';
import { type F64, f64, i32, type I32, i64, type Local, memory } from './asm.ts';
import { widthOf } from './elem.ts';
import { at, expOf, indexAt, loopEmitter, type Loops } from './loops.ts';
import { isWhole } from './move.ts';
import { isStored } from './number.ts';

const dtypesOf = (call: Call): (DType | null)[] => call.inputs.map((f) => f?.dtype ?? null);
const given = (call: Call, i: number) => (call.inputs[i] ? { input: i } : 0);

// ── LinearAttention ─────────────────────────────────────────────────────────────────────────────────────────────────
interface LinearSpec {
  readonly types: readonly (DType | null)[];
  readonly out: DType;
  readonly state: DType | null;
  readonly gated: boolean;
  readonly delta: boolean;
  readonly wideDecay: boolean;
  readonly wideBeta: boolean;
}
const LINEAR = [
  'q',
  'k',
  'v',
  'past',
  'decay',
  'beta',
  'y',
  'present',
  'state',
  'add',
  'low',
  'high',
  'batch',
  'steps',
  'heads',
  'kvHeads',
  'outHeads',
  'size',
  'width',
] as const;
/** run(…LINEAR): `low` and `high` are the bits of the scale; the state of one head at a time is kept in doubles. */
const linearEmitter = loopEmitter(
  'linear attention',
  () => LINEAR,
  (k: Loops<(typeof LINEAR)[number]>, s: LinearSpec) => {
    const { f, c, p } = k;
    const exp = s.gated ? expOf(c) : null;
    const [tq, tk, tv, tp, td, tb] = s.types as DType[];
    const scale = k.real(realOf(p.low, p.high));
    const cells = k.int(i32.mul(p.size, p.width));
    const D = 'float64' as const;
    k.each(p.batch, (b) =>
      k.each(p.kvHeads, (g) => {
        const head = k.int(i32.mul(at(b, p.kvHeads, g), cells));
        if (tp) k.each(cells, (e) => k.put(D, p.state, e, k.get(tp, p.past, i32.add(head, e))));
        else f.emit(memory.fill(p.state, 0, i32.shl(cells, 3)));
        k.each(p.steps, (t) => {
          const row = k.int(at(b, p.steps, t));
          const group = k.int(at(row, p.kvHeads, g));
          const kAt = k.int(i32.mul(group, p.size));
          const vAt = k.int(i32.mul(group, p.width));
          const state = (i: I32, j: I32): I32 => at(i, p.width, j);
          if (exp) {
            const keep = k.real(s.wideDecay ? 0 : exp(k.get(td!, p.decay, group)));
            k.each(p.size, (i) => {
              if (s.wideDecay) f.set(keep, exp(k.get(td!, p.decay, i32.add(kAt, i))));
              k.each(p.width, (j) => {
                const e = k.int(state(i, j));
                k.put(D, p.state, e, f64.mul(k.get(D, p.state, e), keep));
              });
            });
          }
          k.each(p.width, (j) => k.put(D, p.add, j, k.get(tv!, p.v, i32.add(vAt, j))));
          if (s.delta) {
            k.each(p.size, (i) => {
              const key = k.take(tk!, p.k, i32.add(kAt, i));
              k.each(p.width, (j) =>
                k.put(D, p.add, j, f64.sub(k.get(D, p.add, j), f64.mul(k.get(D, p.state, state(i, j)), key))),
              );
            });
            const rate = k.take(tb!, p.beta, s.wideBeta ? group : row);
            k.each(p.width, (j) => k.put(D, p.add, j, f64.mul(k.get(D, p.add, j), rate)));
          }
          k.each(p.size, (i) => {
            const key = k.take(tk!, p.k, i32.add(kAt, i));
            k.each(p.width, (j) => {
              const e = k.int(state(i, j));
              k.put(D, p.state, e, f64.add(k.get(D, p.state, e), f64.mul(key, k.get(D, p.add, j))));
            });
          });
          const per = k.int(i32.divu(p.outHeads, p.kvHeads));
          k.each(per, (r) => {
            const h = k.int(at(g, per, r));
            const qAt = k.int(i32.mul(at(row, p.heads, i32.divu(i32.mul(h, p.heads), p.outHeads)), p.size));
            const yAt = k.int(i32.mul(at(row, p.outHeads, h), p.width));
            k.each(p.width, (j) => k.put(D, p.add, j, f64.const(0)));
            k.each(p.size, (i) => {
              const x = k.real(f64.mul(scale, k.get(tq!, p.q, i32.add(qAt, i))));
              k.each(p.width, (j) =>
                k.put(D, p.add, j, f64.add(k.get(D, p.add, j), f64.mul(x, k.get(D, p.state, state(i, j))))),
              );
            });
            k.each(p.width, (j) => k.put(s.out, p.y, i32.add(yAt, j), k.get(D, p.add, j)));
          });
        });
        if (s.state) k.each(cells, (e) => k.put(s.state!, p.present, i32.add(head, e), k.get(D, p.state, e)));
      }),
    );
  },
);
/** The two words of a double, as arguments. */
export const doubleBits = (v: number): [number, number] =>
  [...new Int32Array(Float64Array.of(v).buffer)] as [number, number];
/** A double from the two words of its bits. */
export const realOf = (low: I32, high: I32): F64 =>
  f64.ofBits(i64.or(i64.extendU(low), i64.shl(i64.extendU(high), 32)));

export const linearAttentionWasm = (shapeOf: (call: Call) => LinearShape): WasmKernel<any> => ({
  name: 'linear_attention.heads',
  accepts: (call) => call.outputs[0] != null && dtypesOf(call).every((d) => d === null || isStored(d)),
  scratch: (call) => {
    const s = shapeOf(call);
    return [8 * s.size * s.valueSize + 16, 8 * s.valueSize + 16];
  },
  launch: (call) => {
    const s = shapeOf(call);
    const state = call.outputs[1] ?? null;
    const [low, high] = doubleBits(call.attrs.scale || 1 / Math.sqrt(s.size));
    return {
      emit: linearEmitter,
      spec: {
        types: dtypesOf(call),
        out: call.outputs[0]!.dtype,
        state: state?.dtype ?? null,
        gated: s.gated,
        delta: s.delta,
        wideDecay: s.wideDecay,
        wideBeta: s.wideBeta,
      },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        given(call, 3),
        given(call, 4),
        given(call, 5),
        { output: 0 },
        state ? { output: 1 } : 0,
        { scratch: 0 },
        { scratch: 1 },
        low,
        high,
        s.batch,
        s.steps,
        s.heads,
        s.kvHeads,
        s.outHeads,
        s.size,
        s.valueSize,
      ],
    };
  },
});

// ── CausalConvWithState ─────────────────────────────────────────────────────────────────────────────────────────────
interface CausalSpec {
  readonly types: readonly (DType | null)[];
  readonly out: DType;
  readonly state: boolean;
  readonly silu: boolean;
}
const CAUSAL = [
  'x',
  'w',
  'bias',
  'past',
  'y',
  'present',
  'line',
  'batch',
  'channels',
  'length',
  'taps',
  'dilation',
  'before',
] as const;
/** run(…CAUSAL): a line of the past and the present at a time, in doubles. */
const causalEmitter = loopEmitter(
  'causal conv',
  () => CAUSAL,
  (k: Loops<(typeof CAUSAL)[number]>, s: CausalSpec) => {
    const { f, c, p } = k;
    const [tx, tw, tb, tp] = s.types as DType[];
    const D = 'float64' as const;
    const exp = s.silu ? expOf(c) : null;
    const total = f.local('f64');
    k.each(p.batch, (b) =>
      k.each(p.channels, (ch) => {
        const row = k.int(at(b, p.channels, ch));
        const from = k.int(i32.mul(row, p.length));
        const held = k.int(i32.mul(row, p.before));
        const w = k.int(i32.mul(ch, p.taps));
        k.each(p.before, (i) => k.put(D, p.line, i, tp ? k.get(tp, p.past, i32.add(held, i)) : f64.const(0)));
        k.each(p.length, (i) => k.put(D, p.line, i32.add(p.before, i), k.get(tx!, p.x, i32.add(from, i))));
        const first = k.real(tb ? k.get(tb, p.bias, ch) : 0);
        k.each(p.length, (i) => {
          f.set(total, first);
          k.each(p.taps, (j) =>
            f.set(
              total,
              f64.add(total, f64.mul(k.get(tw!, p.w, i32.add(w, j)), k.get(D, p.line, at(j, p.dilation, i)))),
            ),
          );
          k.put(s.out, p.y, i32.add(from, i), exp ? f64.div(total, f64.add(1, exp(f64.neg(total)))) : total);
        });
        if (s.state)
          k.each(p.before, (i) => k.put(s.out, p.present, i32.add(held, i), k.get(D, p.line, i32.add(p.length, i))));
      }),
    );
  },
);
export const causalConvWasm: WasmKernel<{ readonly activation: string; readonly dilation: number }> = {
  name: 'causal_conv.lines',
  accepts: (call) => call.outputs[0] != null && dtypesOf(call).every((d) => d === null || isStored(d)),
  scratch: (call) => [8 * (call.inputs[0]!.shape[2]! + (call.inputs[1]!.shape[2]! - 1) * call.attrs.dilation) + 16],
  launch: (call) => {
    const [batch, channels, length] = call.inputs[0]!.shape as [number, number, number];
    const taps = call.inputs[1]!.shape[2]!;
    const { dilation } = call.attrs;
    return {
      emit: causalEmitter,
      spec: {
        types: dtypesOf(call),
        out: call.outputs[0]!.dtype,
        state: !!call.outputs[1],
        silu: call.attrs.activation !== 'none',
      },
      args: [
        { input: 0 },
        { input: 1 },
        given(call, 2),
        given(call, 3),
        { output: 0 },
        call.outputs[1] ? { output: 1 } : 0,
        { scratch: 0 },
        batch,
        channels,
        length,
        taps,
        dilation,
        (taps - 1) * dilation,
      ],
    };
  },
};

// ── RotaryEmbedding ─────────────────────────────────────────────────────────────────────────────────────────────────
interface RotarySpec {
  readonly types: readonly (DType | null)[];
  readonly out: DType;
  readonly interleaved: boolean;
  readonly headsFirst: boolean;
  readonly perPosition: boolean;
}
const ROTARY = [
  'x',
  'cos',
  'sin',
  'ids',
  'y',
  'batch',
  'steps',
  'heads',
  'size',
  'half',
  'rows',
  'low',
  'high',
] as const;
/** run(…ROTARY): status 1 where a position is not in the caches; `low` and `high` are the bits of the scale. */
const rotaryEmitter = loopEmitter(
  'rotary',
  () => ROTARY,
  (k: Loops<(typeof ROTARY)[number]>, s: RotarySpec) => {
    const { f, p } = k;
    const [tx, tc, ts, ti] = s.types as DType[];
    const scale = k.real(realOf(p.low, p.high));
    k.each(p.batch, (b) =>
      k.each(p.steps, (i) => {
        const step = k.int(at(b, p.steps, i));
        const angle = k.int(step);
        if (ti) {
          f.set(angle, indexAt(f, ti, p.ids, s.perPosition ? step : i32.const(0)));
          if (!s.perPosition) {
            f.iff(i32.geu(angle, p.rows), () => f.returnNow(i32.const(1)));
            f.inc(angle, i);
          }
          f.iff(i32.geu(angle, p.rows), () => f.returnNow(i32.const(1)));
        }
        f.set(angle, i32.mul(angle, p.half));
        k.each(p.heads, (h) => {
          const from = k.int(i32.mul(s.headsFirst ? at(at(b, p.heads, h), p.steps, i) : at(step, p.heads, h), p.size));
          k.each(p.half, (e) => {
            const u = k.int(i32.add(from, s.interleaved ? i32.shl(e, 1) : e));
            const v = k.int(i32.add(u, s.interleaved ? 1 : p.half));
            const [x, y] = [k.take(tx!, p.x, u), k.take(tx!, p.x, v)];
            const [cos, sin] = [k.take(tc!, p.cos, i32.add(angle, e)), k.take(ts!, p.sin, i32.add(angle, e))];
            k.put(s.out, p.y, u, f64.mul(f64.sub(f64.mul(cos, x), f64.mul(sin, y)), scale));
            k.put(s.out, p.y, v, f64.mul(f64.add(f64.mul(sin, x), f64.mul(cos, y)), scale));
          });
          k.each(
            p.size,
            (e) => {
              const u = k.int(i32.add(from, e));
              k.put(s.out, p.y, u, f64.mul(k.get(tx!, p.x, u), scale));
            },
            i32.shl(p.half, 1),
          );
        });
      }),
    );
  },
  true,
);
export const rotaryWasm = (
  shapeOf: (call: Call) => RotaryShape,
): WasmKernel<{ readonly interleaved: number; readonly scale?: number }> => ({
  name: 'rotary.heads',
  accepts: (call) => [0, 1, 2].every((i) => isStored(call.inputs[i]!.dtype)),
  launch: (call) => {
    const s = shapeOf(call);
    const [low, high] = doubleBits(call.attrs.scale ?? 1);
    return {
      emit: rotaryEmitter,
      spec: {
        types: dtypesOf(call),
        out: call.outputs[0]!.dtype,
        interleaved: call.attrs.interleaved !== 0,
        headsFirst: s.headsFirst,
        perPosition: s.perPosition,
      },
      args: [
        { input: 0 },
        { input: 1 },
        { input: 2 },
        given(call, 3),
        { output: 0 },
        s.batch,
        s.steps,
        s.heads,
        s.size,
        s.turned / 2,
        call.inputs[1]!.shape[0]!,
        low,
        high,
      ],
    };
  },
});

// ── TensorScatter, ReverseSequence ──────────────────────────────────────────────────────────────────────────────────
const CACHE = ['cache', 'update', 'at', 'y', 'bytes', 'rows', 'per', 'long', 'short', 'run'] as const;
/**
 * run(…CACHE): the cache with `short` entries of `run` bytes written into each row of `long`; status 1 where they do
 * not fit.
 */
const cacheEmitter = loopEmitter(
  'cache',
  () => CACHE,
  (k: Loops<(typeof CACHE)[number]>, s: { readonly at: DType | null; readonly circular: boolean }) => {
    const { f, p } = k;
    f.iff(i32.ne(p.y, p.cache), () => f.emit(memory.copy(p.y, p.cache, p.bytes)));
    k.each(p.rows, (r) => {
      const start: Local<'i32'> = s.at ? indexAt(f, s.at, p.at, i32.divu(r, p.per)) : k.int(0);
      f.iff(i32.lts(start, 0), () => f.returnNow(i32.const(1)));
      if (!s.circular) f.iff(i32.gtu(i32.add(start, p.short), p.long), () => f.returnNow(i32.const(1)));
      k.each(p.short, (e) => {
        f.emit(
          memory.copy(
            i32.add(p.y, i32.mul(at(r, p.long, i32.remu(i32.add(start, e), p.long)), p.run)),
            p.update,
            p.run,
          ),
        );
        f.inc(p.update, p.run);
      });
    });
  },
  true,
);
export const tensorScatterWasm: WasmKernel<{ readonly axis: number; readonly mode: string }> = {
  name: 'tensor_scatter.rows',
  accepts: (call) => isWhole(widthOf(call.inputs[0]!.dtype)),
  inPlace: () => [[0, 0]],
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const update = call.inputs[1]!.shape;
    const axis = axisOf(call.attrs.axis, shape.length);
    const ids = call.inputs[2] ?? null;
    const width = widthOf(dtype);
    const some = sizeOf(update) > 0;
    return {
      emit: cacheEmitter,
      spec: { at: ids?.dtype ?? null, circular: call.attrs.mode === 'circular' },
      args: [
        { input: 0 },
        { input: 1 },
        ids ? { input: 2 } : 0,
        { output: 0 },
        sizeOf(shape) * width,
        some ? sizeOf(shape.slice(0, axis)) : 0,
        Math.max(1, sizeOf(shape.slice(1, axis))),
        Math.max(1, shape[axis]!),
        update[axis]!,
        sizeOf(shape.slice(axis + 1)) * width,
      ],
    };
  },
};

const REVERSE = ['x', 'lens', 'y', 'steps', 'batch', 'run', 'stepStride', 'batchStride'] as const;
/** run(…REVERSE): strides and runs in bytes. */
const reverseEmitter = loopEmitter(
  'reverse',
  () => REVERSE,
  (k: Loops<(typeof REVERSE)[number]>, s: { readonly lens: DType }) => {
    const { f, p } = k;
    k.each(p.batch, (b) => {
      const n = indexAt(f, s.lens, p.lens, b);
      const column = k.int(i32.mul(b, p.batchStride));
      f.iff(i32.gtu(n, p.steps), () => f.returnNow(i32.const(1)));
      k.each(p.steps, (t) => {
        const from = k.int(i32.select(i32.ltu(t, n), i32.sub(i32.sub(n, 1), t), t));
        f.emit(
          memory.copy(i32.add(p.y, at(t, p.stepStride, column)), i32.add(p.x, at(from, p.stepStride, column)), p.run),
        );
      });
    });
  },
  true,
);
export const reverseSequenceWasm: WasmKernel<{ readonly batch_axis: number }> = {
  name: 'reverse_sequence.runs',
  accepts: (call) => isWhole(widthOf(call.inputs[0]!.dtype)) && isInt64(call.inputs[1]!.dtype),
  launch: (call) => {
    const { dtype, shape } = call.inputs[0]!;
    const batch = axisOf(call.attrs.batch_axis, shape.length);
    const time = 1 - batch;
    const run = sizeOf(shape.slice(2)) * widthOf(dtype);
    const strides = [shape[1]! * run, run];
    return {
      emit: reverseEmitter,
      spec: { lens: 'int64' },
      args: [
        { input: 0 },
        { input: 1 },
        { output: 0 },
        shape[time]!,
        shape[batch]!,
        run,
        strides[time]!,
        strides[batch]!,
      ],
    };
  },
};
