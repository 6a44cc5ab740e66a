/**
 * Attention and com.microsoft.GroupQueryAttention on the CPU, and how heads are moved and extended for all forms of
 * attention.
 */
import type { Fact } from '../../src/core/graph.ts';
import type { WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { attentionShape, groupedShape, type GroupedShape } from '../attention-shape.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import { f32, f32x4, i32, type Local, memory, v128 } from './asm.ts';
import { attentionLaunch, attentionScratch, type AttentionCall, type Lies } from './attention-core.ts';
import { i32s, locals, loop, params } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

interface RowSpec {
  /** Elements of a row, and how many of them are rotated, in neighbouring pairs or half by half. */
  readonly size: number;
  readonly turned: number;
  readonly interleaved: boolean;
  /** The position of row 0: 0, or entry b's length + 1 − rows. Explicit positions for rotation. */
  readonly fromLengths: boolean;
  readonly ids: boolean;
  /** Rows go to their position, not to their number. */
  readonly toPosition: boolean;
  /** The destination is cleared first. */
  readonly clear: boolean;
  /** A bias of `size` elements per head is added; then nothing is rotated. */
  readonly shifted: boolean;
}
const ROW_NAMES = [
  'src',
  'dst',
  'lengths',
  'cos',
  'sin',
  'ids',
  'batch',
  'heads',
  'rows',
  'sBatch',
  'sHead',
  'sRow',
  'dBatch',
  'dHead',
  'dRow',
  'first',
  'from',
  'into',
  'angles',
  'limit',
  'clearBytes',
  'shift',
  'shiftFrom',
] as const;
/**
 * run(…ROW_NAMES): copies rows of heads from one arrangement to another, rotated. `first`: destination row to start at;
 * `from`, `into`: bytes into source and destination; `shift`, `shiftFrom`: a bias, and bytes into it; `limit`: rows
 * that the destination has; strides in bytes.
 */
const rowsModule: WasmEmitter<RowSpec> = {
  name: 'attention_rows',
  build: (s, caps) =>
    kernelModule('attention_rows', i32s(ROW_NAMES.length), caps, (f) => {
      const a = params(f, ...ROW_NAMES);
      const [b, h, i, past, at, to, angle, e, row] = locals(f, 'i32', 9) as [
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
      const [x, y, c, n] = locals(f, 'f32', 4) as [Local<'f32'>, Local<'f32'>, Local<'f32'>, Local<'f32'>];
      const half = s.turned / 2;
      const by = f.local('i32');
      if (s.clear) f.emit(memory.fill(a.dst, 0, a.clearBytes));
      f.iff(i32.ne(a.src, a.dst), () =>
        loop(f, b, 0, a.batch, 1, () => {
          if (s.fromLengths) f.set(past, i32.sub(i32.add(i32.load(i32.add(a.lengths, i32.shl(b, 2))), 1), a.rows));
          loop(f, h, 0, a.heads, 1, () =>
            loop(f, i, 0, a.rows, 1, () => {
              f.set(row, s.toPosition ? i32.add(past, i) : i32.add(a.first, i));
              f.iff(i32.ltu(row, a.limit), () => {
                // lengths that do not fit are not written
                f.set(
                  at,
                  i32.add(
                    i32.add(a.src, a.from),
                    i32.add(i32.add(i32.mul(b, a.sBatch), i32.mul(h, a.sHead)), i32.mul(i, a.sRow)),
                  ),
                );
                f.set(
                  to,
                  i32.add(
                    i32.add(a.dst, a.into),
                    i32.add(i32.add(i32.mul(b, a.dBatch), i32.mul(h, a.dHead)), i32.mul(row, a.dRow)),
                  ),
                );
                if (s.shifted) {
                  f.set(by, i32.add(i32.add(a.shift, a.shiftFrom), i32.mul(h, 4 * s.size)));
                  const move = (lanes: number): void => {
                    f.inc(at, 4 * lanes);
                    f.inc(by, 4 * lanes);
                    f.inc(to, 4 * lanes);
                  };
                  f.times(s.size >> 2, () => {
                    f.emit(v128.store(to, f32x4.add(v128.load(at), v128.load(by))));
                    move(4);
                  });
                  f.times(s.size & 3, () => {
                    f.emit(f32.store(to, f32.add(f32.load(at), f32.load(by))));
                    move(1);
                  });
                } else f.emit(memory.copy(to, at, 4 * s.size));
                if (!half) return;
                f.set(
                  angle,
                  s.ids ? i32.load(i32.add(a.ids, i32.shl(i32.add(i32.mul(b, a.rows), i), 3))) : i32.add(past, i),
                );
                f.iff(i32.geu(angle, a.angles), () => f.set(angle, i32.sub(a.angles, 1)));
                f.set(angle, i32.mul(angle, 4 * half));
                const [step, apart] = s.interleaved ? [8, 4] : [4, 4 * half];
                loop(f, e, 0, half, 1, () => {
                  f.set(x, f32.load(at));
                  f.set(y, f32.load(at, apart));
                  f.set(c, f32.load(i32.add(a.cos, angle)));
                  f.set(n, f32.load(i32.add(a.sin, angle)));
                  f.emit(
                    f32.store(to, f32.sub(f32.mul(c, x), f32.mul(n, y))),
                    f32.store(to, f32.add(f32.mul(n, x), f32.mul(c, y)), apart),
                  );
                  f.inc(at, step);
                  f.inc(to, step);
                  f.inc(angle, 4);
                });
              });
            }),
          );
        }),
      );
    }),
};
interface Move {
  readonly from: Lies;
  readonly to: Lies;
  readonly batch: number;
  readonly heads: number;
  readonly rows: number;
  readonly size: number;
  readonly limit: number;
  readonly first?: number;
  readonly clear?: number;
  readonly shift?: Part | null;
}
interface Turn {
  readonly lengths: Ref | null;
  readonly toPosition: boolean;
  readonly turned: number;
  readonly interleaved: boolean;
  readonly cos: Ref | 0;
  readonly sin: Ref | 0;
  readonly ids: Ref | 0;
  readonly angles: number;
}
export const moveLaunch = (m: Move, t: Turn | null = null): WasmLaunch<RowSpec> => ({
  emit: rowsModule,
  spec: {
    size: m.size,
    turned: t?.turned ?? 0,
    interleaved: t?.interleaved ?? false,
    fromLengths: !!t?.lengths,
    ids: !!t?.ids,
    toPosition: t?.toPosition ?? false,
    clear: (m.clear ?? 0) > 0,
    shifted: !!m.shift,
  },
  args: [
    m.from.ref,
    m.to.ref,
    t?.lengths ?? 0,
    t?.cos ?? 0,
    t?.sin ?? 0,
    t?.ids ?? 0,
    m.batch,
    m.heads,
    m.rows,
    4 * m.from.batch,
    4 * m.from.head,
    4 * m.from.row,
    4 * m.to.batch,
    4 * m.to.head,
    4 * m.to.row,
    m.first ?? 0,
    4 * (m.from.at ?? 0),
    4 * (m.to.at ?? 0),
    t?.angles ?? 0,
    m.limit,
    m.clear ?? 0,
    m.shift?.ref ?? 0,
    4 * (m.shift?.at ?? 0),
  ],
});
/**
 * [batch, steps, heads · size], rows of `width` elements that hold heads `head` apart from `at` on; and [batch, heads,
 * steps, size].
 */
export const side = (
  ref: Ref,
  steps: number,
  heads: number,
  size: number,
  width = heads * size,
  at = 0,
  head = size,
): Lies => ({ ref, at, batch: steps * width, head, row: width });
export const stacked = (ref: Ref, steps: number, heads: number, size: number, at = 0): Lies => ({
  ref,
  at,
  batch: heads * steps * size,
  head: steps * size,
  row: size,
});

/** A mask or bias that broadcasts to the scores; undefined where it cannot be used as it lies. */
export function maskOf(
  fact: Fact | null | undefined,
  ref: Ref,
  to: readonly number[],
): AttentionCall['mask'] | undefined {
  if (!fact) return null;
  const last = fact.shape.at(-1)!;
  if ((fact.dtype !== 'float32' && fact.dtype !== 'bool') || last < to[3]! || fact.shape.length > 4) return undefined;
  const strides = broadcastStrides(fact.shape, [...to.slice(0, 3), last]);
  return { ref, batch: strides[0]!, head: strides[1]!, row: strides[2]!, dtype: fact.dtype };
}

export interface Resolved {
  readonly call: AttentionCall;
  readonly before: readonly WasmLaunch[];
  readonly scratch: readonly number[];
}
export const attentionKernel = (
  name: string,
  resolve: (call: Call, caps: WasmCaps) => Resolved | null,
  more: Partial<WasmKernel> = {},
): WasmKernel => ({
  name,
  ...more,
  accepts: (call, caps) => call.inputs[0]!.dtype === 'float32' && resolve(call, caps) !== null,
  scratch: (call, caps) => {
    const r = resolve(call, caps)!;
    return [...r.scratch, ...attentionScratch(r.call, caps)];
  },
  launch: (call, caps) => {
    const r = resolve(call, caps)!;
    return [...r.before, attentionLaunch(r.call, caps, r.scratch.length)];
  },
});

/** A part of an input: its first element. */
export interface Part {
  readonly ref: Ref;
  readonly at: number;
}
/**
 * Keys, or values, behind those of the cache and with a bias added; where they then lie. What must run first and
 * scratch areas go to `made`. As they are where nothing is to do.
 */
export function extended(
  made: { readonly before: WasmLaunch[]; readonly scratch: number[] },
  now: Lies,
  s: { readonly batch: number; readonly kvHeads: number; readonly past: number; readonly incoming: number },
  size: number,
  old: Lies | null,
  to: Part | null,
  shift: Part | null = null,
): Lies {
  if (to === null && s.past === 0 && shift === null) return now;
  const keys = s.past + s.incoming;
  const room = to ?? { ref: { scratch: made.scratch.push(4 * s.batch * s.kvHeads * keys * size) - 1 }, at: 0 };
  const all = stacked(room.ref, keys, s.kvHeads, size, room.at);
  const shape = { to: all, batch: s.batch, heads: s.kvHeads, size, limit: keys };
  if (old !== null && s.past > 0) made.before.push(moveLaunch({ ...shape, from: old, rows: s.past }));
  made.before.push(moveLaunch({ ...shape, from: now, rows: s.incoming, first: s.past, shift }));
  return all;
}

function ofAttention(call: Call): Resolved | null {
  const a = call.attrs;
  const s = attentionShape(call.inputs, a);
  const { batch, heads, kvHeads, queries, keys, size, valueSize, incoming } = s;
  const mask = maskOf(call.inputs[3], { input: 3 }, [batch, heads, queries, keys]);
  if (mask === undefined || call.outputs[3] || [1, 2].some((i) => call.inputs[i]!.dtype !== 'float32')) return null;
  const lies = (ref: Ref, steps: number, n: number, width: number): Lies =>
    (s.packed ? side : stacked)(ref, steps, n, width);
  const made = { before: [], scratch: [] };
  const [k, v] = [
    [1, size],
    [2, valueSize],
  ].map(([i, width]) =>
    extended(
      made,
      lies({ input: i! }, incoming, kvHeads, width!),
      s,
      width!,
      stacked({ input: 3 + i! }, s.past, kvHeads, width!),
      call.outputs[i!] ? { ref: { output: i! }, at: 0 } : null,
    ),
  ) as [Lies, Lies];
  return {
    ...made,
    call: {
      batch,
      heads,
      kvHeads,
      queries,
      keys,
      size,
      valueSize,
      q: lies({ input: 0 }, queries, heads, size),
      k,
      v,
      y: lies({ output: 0 }, queries, heads, valueSize),
      mask,
      scale: a.scale ?? 1 / Math.sqrt(size),
      softcap: a.softcap,
      causal: !!a.is_causal,
      left: a.left_window_size,
      right: a.right_window_size,
      past: s.past,
      lengths: call.inputs[6] ? { ref: { input: 6 }, dtype: 'int64', plus: 0, ends: true } : null,
    },
  };
}

/**
 * The present caches tell the longest sequence unless a longer shared buffer hides it; only what the mask may read
 * depends on that.
 */
function ofGrouped(call: Call): Resolved | null {
  const a = call.attrs;
  const present = call.outputs[1];
  if (
    !present ||
    !call.outputs[2] ||
    call.outputs[3] ||
    call.inputs[11] ||
    call.inputs[14] ||
    a.smooth_softmax > 0 ||
    !call.inputs[6]!.constant?.peek()
  )
    return null;
  const total = Number((call.inputs[6]!.constant.peek()!.data as Int32Array)[0]);
  const s: GroupedShape = groupedShape(call.inputs, a, total);
  const { batch, heads, kvHeads, queries, keys, size, cache } = s;
  const prompt = queries === total;
  const mask = maskOf(call.inputs[10], { input: 10 }, [batch, heads, queries, total]);
  if (mask === undefined || (mask && keys !== total)) return null;
  const width = call.inputs[0]!.shape[2]!;
  const lengths: Ref = { input: 5 };
  const source = (i: number, ref: Ref): Lies =>
    s.packed
      ? side({ input: 0 }, queries, heads, size, width, (i === 0 ? 0 : heads + (i - 1) * kvHeads) * size)
      : side(ref, queries, i === 0 ? heads : kvHeads, size);
  const turn = (toPosition: boolean, turned: number): Turn => ({
    lengths: prompt ? null : lengths,
    toPosition,
    turned,
    interleaved: !!a.rotary_interleaved,
    cos: turned ? { input: 7 } : 0,
    sin: turned ? { input: 8 } : 0,
    ids: turned && call.inputs[9] ? { input: 9 } : 0,
    angles: turned ? call.inputs[7]!.shape[0]! : 0,
  });
  const turned = a.do_rotary ? s.turned : 0;
  const before: WasmLaunch[] = [];
  const fill = (i: 0 | 1): Lies => {
    const to = stacked({ output: 1 + i }, keys, kvHeads, size);
    const shape = { to, batch, heads: kvHeads, size, limit: keys };
    const bytes = 4 * batch * kvHeads * keys * size;
    if (cache > 0)
      before.push(
        moveLaunch({
          ...shape,
          from: stacked({ input: 3 + i }, cache, kvHeads, size),
          rows: cache,
          clear: cache < keys ? bytes : 0,
        }),
      );
    before.push(
      moveLaunch(
        { ...shape, from: source(1 + i, { input: 1 + i }), rows: queries, clear: cache > 0 ? 0 : bytes },
        turn(true, i === 0 ? turned : 0),
      ),
    );
    return to;
  };
  const k = fill(0);
  const v = fill(1);
  const q = side({ scratch: 0 }, queries, heads, size);
  const rotated = turned > 0;
  if (rotated)
    before.push(
      moveLaunch(
        { from: source(0, { input: 0 }), to: q, batch, heads, rows: queries, size, limit: queries },
        turn(false, turned),
      ),
    );
  return {
    before,
    scratch: rotated ? [4 * batch * queries * heads * size] : [],
    call: {
      batch,
      heads,
      kvHeads,
      queries,
      keys,
      size,
      valueSize: size,
      q: rotated ? q : source(0, { input: 0 }),
      k,
      v,
      y: side({ output: 0 }, queries, heads, size),
      mask,
      scale: a.scale || 1 / Math.sqrt(size),
      softcap: a.softcap,
      causal: !!a.causal,
      left: a.local_window_size > 0 ? a.local_window_size - 1 : -1,
      right: -1,
      past: 0,
      lengths: { ref: lengths, dtype: 'int32', plus: 1, ends: !prompt },
    },
  };
}
/** Caches that are as long as the present ones may be the same memory. */
const shared = (call: Call): [number, number][] =>
  call.inputs[3] && call.outputs[1] && sizeOf(call.inputs[3].shape) === sizeOf(call.outputs[1].shape)
    ? [
        [1, 3],
        [2, 4],
      ]
    : [];

export const attentionWasm: readonly WasmKernel[] = withHalf([attentionKernel('attention.blocks', ofAttention)]);
export const groupedWasm: readonly WasmKernel[] = withHalf([
  attentionKernel('attention.grouped', ofGrouped, { inPlace: shared }),
]);
