/**
 * com.microsoft.EmbedLayerNormalization on the CPU: rows of tables are summed, then normalised. An id outside its table
 * ends the run with status 1.
 */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmKernel, WasmLaunch } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import { f32x4, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { at, loopEmitter, type Loops } from './loops.ts';
import { normKernels } from './norm-rows.ts';
import { isF32Like, span } from './rows.ts';

interface Spec {
  readonly dtype: DType;
  readonly positions: boolean;
  readonly segments: boolean;
  readonly mask: boolean;
  readonly sum: boolean;
}
const NAMES = [
  'ids',
  'words',
  'wordCount',
  'places',
  'placeTable',
  'placeCount',
  'placeBatch',
  'placeStep',
  'segments',
  'segmentTable',
  'segmentCount',
  'mask',
  'to',
  'sum',
  'kept',
  'batch',
  'steps',
  'n',
] as const;
/**
 * run(…NAMES): sums of rows of `n` to `to` as float32, and to `sum` as they are stored; how many of each entry's mask
 * are 1 to `kept`, if it is not 0.
 */
const sumsEmitter = loopEmitter(
  'embed',
  () => NAMES,
  (k: Loops<(typeof NAMES)[number]>, s: Spec) => {
    const { f, c, p } = k;
    const width = widthOf(s.dtype);
    const e = k.int(0);
    const count = k.int(0);
    const word = (base: I32, i: I32): I32 => i32.load(i32.add(base, i32.shl(i, 2)));
    const row = (table: I32, rows: I32, id: I32): Local<'i32'> => {
      const i = k.int(id);
      f.iff(i32.geu(i, rows), () => f.returnNow(i32.const(1)));
      return k.int(i32.add(table, i32.mul(i32.mul(i, p.n), width)));
    };
    k.each(p.batch, (b) => {
      f.set(count, i32.const(0));
      k.each(p.steps, (i) => {
        const from = [
          row(p.words, p.wordCount, word(p.ids, e)),
          row(
            p.placeTable,
            p.placeCount,
            s.positions ? word(p.places, i32.add(i32.mul(b, p.placeBatch), i32.mul(i, p.placeStep))) : i,
          ),
          ...(s.segments ? [row(p.segmentTable, p.segmentCount, word(p.segments, e))] : []),
        ];
        const total = (load: typeof load4): Local<'v128'> =>
          f.let(from.map((q): V => load(c, s.dtype, q)).reduce((x, y) => f32x4.add(x, y)));
        const move = (n: number): void => {
          for (const q of from) f.inc(q, n * width);
          f.inc(p.to, 4 * n);
          if (s.sum) f.inc(p.sum, n * width);
        };
        span(
          f,
          p.n,
          () => {
            const v = total(load4);
            f.emit(v128.store(p.to, v));
            if (s.sum) f.emit(store4(c, s.dtype, p.sum, v));
            move(4);
          },
          () => {
            const v = total(loadSplat);
            f.emit(v128.store32lane(p.to, v, 0));
            if (s.sum) f.emit(store1(c, s.dtype, p.sum, v));
            move(1);
          },
        );
        if (s.mask) f.inc(count, i32.eq(word(p.mask, e), 1));
        f.inc(e, 1);
      });
      f.iff(p.kept, () => f.emit(i32.store(at(b, 4, p.kept), count)));
    });
  },
  true,
);

const [norm] = normKernels('embed', (call) => ({
  rows: sizeOf(call.inputs[0]!.shape.slice(0, -1)),
  n: call.inputs[0]!.shape.at(-1)!,
  epsilon: call.attrs.epsilon,
  centred: true,
  scale: { input: 1 },
  bias: { input: 2 },
}));
/** The normalisation behind the sums. */
const normOf = (call: Call): Call => ({
  inputs: [{ dtype: 'float32', shape: call.outputs[0]!.shape }, call.inputs[5]!, call.inputs[6]!],
  outputs: [call.outputs[0]!],
  attrs: call.attrs,
});
export const embedNormWasm: WasmKernel = {
  name: 'layernorm.embed',
  accepts: (call, caps) =>
    [2, 3, 4, 5, 6].every((i) => !call.inputs[i] || isF32Like(call.inputs[i])) && norm!.accepts!(normOf(call), caps),
  scratch: (call, caps) => [4 * sizeOf(call.outputs[0]!.shape), ...norm!.scratch!(normOf(call), caps)],
  launch: (call, caps) => {
    const [batch, steps, n] = call.outputs[0]!.shape as [number, number, number];
    const places = call.inputs[8];
    const strides = places ? broadcastStrides(places.shape, [batch, steps]) : [0, 0];
    const given = (i: number): Ref | 0 => (call.inputs[i] ? { input: i } : 0);
    const wanted = (i: number): Ref | 0 => (call.outputs[i] ? { output: i } : 0);
    const sums: WasmLaunch<Spec> = {
      emit: sumsEmitter,
      spec: {
        dtype: call.inputs[2]!.dtype,
        positions: !!places,
        segments: !!call.inputs[1],
        mask: !!call.inputs[7],
        sum: !!call.outputs[2],
      },
      args: [
        { input: 0 },
        { input: 2 },
        call.inputs[2]!.shape[0]!,
        given(8),
        { input: 3 },
        call.inputs[3]!.shape[0]!,
        ...strides,
        given(1),
        given(4),
        call.inputs[4]?.shape[0] ?? 0,
        given(7),
        { scratch: 0 },
        wanted(2),
        wanted(1),
        batch,
        steps,
        n,
      ],
    };
    const moved = (ref: Ref): Ref =>
      'input' in ref
        ? ref.input === 0
          ? { scratch: 0 }
          : { input: ref.input + 4 }
        : 'scratch' in ref
          ? { scratch: ref.scratch + 1 }
          : ref;
    const behind = ([] as WasmLaunch[]).concat(norm!.launch(normOf(call), caps) as WasmLaunch | WasmLaunch[]);
    return [
      sums,
      ...behind.map(
        (l): WasmLaunch => ({ ...l, args: l.args.map((a) => (typeof a === 'number' || 'f32' in a ? a : moved(a))) }),
      ),
    ];
  },
};
