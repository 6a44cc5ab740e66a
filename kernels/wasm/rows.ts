/** Kernels of rows: softmax and the normalisations. Rows of float16 and bfloat16 are computed in float32. */
import type { DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import type { NormForm } from '../webgpu/rows.ts';
import { type F32, f32, f32x4, type Fn, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { type Ctx, context, expNegative, log, madd } from './float.ts';
import { mergeLoops } from '../merge.ts';
import { kernelModule } from './module.ts';

const FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
export const isF32Like = (f: Fact | null | undefined): boolean => !!f && FLOATS.includes(f.dtype);
const i32s = (n: number): 'i32'[] => new Array<'i32'>(n).fill('i32');

/** `four` for each four of `n` elements, then `one` for each of the rest. */
export function span(f: Fn, n: I32, four: () => void, one: () => void): void {
  const left = f.let(n);
  f.whileLoop(() => i32.geu(left, 4), () => { four(); f.inc(left, -4); });
  f.whileLoop(() => left, () => { one(); f.inc(left, -1); });
}
/** `four(part)` for each four of `n` elements, parts taking turns so that each can have a sum of its own; then `one` for each of the rest. */
function parted(f: Fn, n: I32, four: (part: number) => void, one: () => void): void {
  const left = f.let(n);
  f.whileLoop(() => i32.geu(left, 4 * PARTS), () => { for (let u = 0; u < PARTS; u++) four(u); f.inc(left, -4 * PARTS); });
  span(f, left, () => four(0), one);
}
const PARTS = 4;
const partsOf = (f: Fn, v: V): Local<'v128'>[] => Array.from({ length: PARTS }, () => f.let(v));
const merged = (f: Fn, parts: readonly Local<'v128'>[], merge: (a: V, b: V) => V): V => parts.slice(1).reduce<V>((a, b) => f.let(merge(a, b)), parts[0]!);

/** Sum of the four lanes, in all lanes. */
export function sumLanes(f: Fn, v: V): V {
  const a = f.let(v);
  const b = f.let(f32x4.add(a, v128.shuf32(a, a, [2, 3, 0, 1])));
  return f32x4.add(b, v128.shuf32(b, b, [1, 0, 3, 2]));
}
const maxLanes = (f: Fn, v: V): V => {
  const a = f.let(v);
  const b = f.let(f32x4.pmax(a, v128.shuf32(a, a, [2, 3, 0, 1])));
  return f32x4.pmax(b, v128.shuf32(b, b, [1, 0, 3, 2]));
};
/** Lane 0 alone, the others 0. */
const first = (v: V): V => v128.and(v, v128.const32(-1, 0, 0, 0));

// ── softmax ─────────────────────────────────────────────────────────────────────────────────────────────────────────
interface SoftmaxSpec { readonly log: boolean; readonly from: DType; readonly to: DType; readonly columns: boolean }

/** `run(x, y, outer, n, inner)`; `columns`: inner is not 1, and lanes are neighbouring columns. */
const softmaxEmitter: WasmEmitter<SoftmaxSpec> = {
  name: 'softmax',
  build: (spec, caps) => kernelModule('softmax', i32s(5), caps, (f, m) => {
    const [x, y, outer, n, inner] = [0, 1, 2, 3, 4].map((i) => f.arg('i32', i)) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    const [from, to] = [widthOf(spec.from), widthOf(spec.to)];
    const advance = (by: I32): void => { f.inc(x, i32.mul(by, from)); f.inc(y, i32.mul(by, to)); };
    if (!spec.columns) {
      const row = m.fn('softmax row', i32s(3), [], false, (g) => softmaxRow(context(g, m, caps.fma), spec));
      f.times(outer, () => { f.call(row, x, y, n); advance(n); });
      return;
    }
    const column = (lanes: 4 | 1) => m.fn(`softmax columns ${lanes}`, i32s(4), [], false, (g) => softmaxColumns(context(g, m, caps.fma), spec, lanes));
    const [four, one] = [column(4), column(1)];
    f.times(outer, () => {
      span(f, inner,
        () => { f.call(four, x, y, n, inner); f.inc(x, 4 * from); f.inc(y, 4 * to); },
        () => { f.call(one, x, y, n, inner); f.inc(x, from); f.inc(y, to); });
      advance(i32.mul(i32.sub(n, 1), inner));
    });
  }),
};
/** (x, y, n): one row of neighbours. */
function softmaxRow(c: Ctx, { from, to, log: isLog }: SoftmaxSpec): void {
  const { f } = c;
  const [x, y, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
  const p = f.local('i32');
  const q = f.local('i32');
  const step = (k: number): void => { f.inc(p, k * widthOf(from)); f.inc(q, k * widthOf(to)); };
  const over = (four: () => void, one: () => void): void => { f.set(p, x); f.set(q, y); span(f, n, () => { four(); step(4); }, () => { one(); step(1); }); };
  const tops = partsOf(f, f32x4.const(-Infinity));
  const higher = (part: number, v: V): void => f.set(tops[part]!, f32x4.pmax(v, tops[part]!));
  f.set(p, x);
  parted(f, n, (part) => { higher(part, load4(c, from, p)); f.inc(p, 4 * widthOf(from)); }, () => { higher(0, loadSplat(c, from, p)); f.inc(p, widthOf(from)); });
  const top = f.let(maxLanes(f, merged(f, tops, f32x4.pmax)));
  const power = (v: V): V => f.let(expNegative(c, f32x4.sub(v, top)));
  const sum = f.let(v128.zero());
  const keep = !isLog && to === 'float32';
  over(
    () => { const e = power(load4(c, from, p)); f.set(sum, f32x4.add(sum, e)); if (keep) f.emit(store4(c, to, q, e)); },
    () => { const e = power(loadSplat(c, from, p)); f.set(sum, f32x4.add(sum, first(e))); if (keep) f.emit(store1(c, to, q, e)); },
  );
  f.set(sum, sumLanes(f, sum));
  f.set(sum, isLog ? log(c, sum) : f32x4.div(1, sum));
  const result = (v: V): V => (isLog ? f32x4.sub(f32x4.sub(v, top), sum) : keep ? f32x4.mul(v, sum) : f32x4.mul(power(v), sum));
  over(
    () => f.emit(store4(c, to, q, result(keep ? load4(c, to, q) : load4(c, from, p)))),
    () => f.emit(store1(c, to, q, result(keep ? loadSplat(c, to, q) : loadSplat(c, from, p)))),
  );
}
/** (x, y, n, inner): a group of neighbouring columns, each a row of its own. */
function softmaxColumns(c: Ctx, { from, to, log: isLog }: SoftmaxSpec, lanes: 4 | 1): void {
  const { f } = c;
  const [x, y, n, inner] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2), f.arg('i32', 3)];
  const [stepX, stepY] = [f.let(i32.mul(inner, widthOf(from))), f.let(i32.mul(inner, widthOf(to)))];
  const p = f.local('i32');
  const q = f.local('i32');
  const over = (body: () => void): void => { f.set(p, x); f.set(q, y); f.times(n, () => { body(); f.inc(p, stepX); f.inc(q, stepY); }); };
  const load = (d: DType, at: I32): V => (lanes === 4 ? load4 : loadSplat)(c, d, at);
  const store = (v: V): void => f.emit((lanes === 4 ? store4 : store1)(c, to, q, v));
  const top = f.let(f32x4.const(-Infinity));
  over(() => f.set(top, f32x4.pmax(load(from, p), top)));
  const power = (v: V): V => f.let(expNegative(c, f32x4.sub(v, top)));
  const sum = f.let(v128.zero());
  const keep = !isLog && to === 'float32';
  over(() => { const e = power(load(from, p)); f.set(sum, f32x4.add(sum, e)); if (keep) store(e); });
  f.set(sum, isLog ? log(c, sum) : f32x4.div(1, sum));
  over(() => store(isLog ? f32x4.sub(f32x4.sub(load(from, p), top), sum) : keep ? f32x4.mul(load(to, q), sum) : f32x4.mul(power(load(from, p)), sum)));
}

/** Softmax, or its logarithm, of `n` elements that lie `inner` apart. */
export const softmaxKernels = (isLog: boolean, rowsOf: (call: Call) => { readonly outer: number; readonly n: number; readonly inner: number }): readonly WasmKernel[] => [{
  name: 'softmax',
  accepts: (call) => isF32Like(call.inputs[0]) && isF32Like(call.outputs[0]),
  inPlace: (call) => (widthOf(call.inputs[0]!.dtype) === widthOf(call.outputs[0]!.dtype) ? [[0, 0]] : []),
  launch: (call) => {
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    const { outer, n, inner } = rowsOf(call);
    return { emit: softmaxEmitter, spec: { log: isLog, from: call.inputs[0]!.dtype, to: call.outputs[0]!.dtype, columns: inner !== 1 }, args: [{ input: 0 }, { output: 0 }, outer, n, inner], split: { items: 2, grain: 1, moves: call.inputs.slice(0, 1).concat(call.outputs[0]!).map((t, i) => [i, n * inner * widthOf(t!.dtype)] as const), cost: n * inner } };
  },
}];

// ── normalisations ──────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * How an operand follows rows of n elements: `each`: an element for each of a row; else one for each of the row's `segments` equal parts.
 * Row or segment g reads piece (g / every) % count.
 */
interface Follow { readonly each: boolean; readonly segments: number; readonly every: number; readonly count: number }
/** null where it does so in another way. */
function followOf(own: readonly number[], shape: readonly number[], n: number): Follow | null {
  const { dims, strides: [s] } = mergeLoops(shape, [broadcastStrides(own, shape)]);
  const strides = s!;
  const last = dims.at(-1)!;
  if (sizeOf(own) === 1) return { each: false, segments: 1, every: 1, count: 1 };
  if (strides.at(-1) !== 0) {
    if (last % n !== 0) return null;
    const within = last / n; // rows of one period
    if (dims.length === 1 || (dims.length === 2 && strides[0] === 0)) return { each: true, segments: 1, every: 1, count: within };
    return within === 1 && dims.length === 3 && strides[1] === 0 ? { each: true, segments: 1, every: dims[1]!, count: dims[0]! } : null;
  }
  if (dims.length > 3 || (dims.length === 3 && strides[0] !== 0)) return null;
  const count = dims.at(-2)!;
  if (n % last === 0) return { each: false, segments: n / last, every: 1, count };
  return last % n === 0 ? { each: false, segments: 1, every: last / n, count } : null;
}

interface NormOperand { readonly dtype: DType; readonly each: boolean }
interface NormSpec {
  readonly from: DType; readonly to: DType; readonly centred: boolean;
  readonly added: readonly NormOperand[]; readonly scale: NormOperand | null; readonly bias: NormOperand | null;
  /** The row is first brought together in scratch memory, as float32. */
  readonly staged: boolean;
  readonly mean: boolean; readonly inverse: boolean; readonly sum: boolean;
}
interface NormLayout { readonly spec: NormSpec; readonly follows: readonly Follow[]; readonly segments: number; readonly refs: readonly Ref[] }

function layoutOf(call: Call, form: NormForm): NormLayout | null {
  const shape = form.shape ?? call.inputs[0]!.shape;
  const wanted = (i: number | undefined): boolean => i !== undefined && (call.outputs[i] ?? null) !== null;
  const given = (form.added ?? []).filter((i) => call.inputs[i] != null);
  const follows: Follow[] = [];
  const refs: Ref[] = [];
  const operand = (o: { readonly input: number; readonly shape?: readonly number[] } | undefined): NormOperand | null | undefined => {
    const fact = o && call.inputs[o.input];
    if (!fact) return null;
    const follow = followOf(o.shape ?? fact.shape, shape, form.n);
    if (!follow) return undefined;
    follows.push(follow);
    refs.push({ input: o.input });
    return { dtype: fact.dtype, each: follow.each };
  };
  const added = given.map((input) => operand({ input }));
  const [scale, bias] = [operand(form.scale), operand(form.bias)];
  if (scale === undefined || bias === undefined || added.some((a, i) => !a || follows[i]!.segments !== 1)) return null;
  const spread = follows.slice(added.length).filter((s) => s.segments !== 1);
  const segments = spread[0]?.segments ?? 1;
  if (follows.slice(added.length).some((s) => s.segments !== segments)) return null;
  const from = call.inputs[0]!.dtype;
  return {
    follows, refs, segments,
    spec: {
      from, to: call.outputs[0]!.dtype, centred: form.centred, added: added as NormOperand[], scale, bias, staged: added.length > 0 || from !== 'float32',
      mean: wanted(form.mean), inverse: wanted(form.inverse), sum: wanted(form.sum),
    },
  };
}

/** `run(x, y, scratch, mean, inverse, sum, rows, n, segments, epsilon, then per operand: address, every, count; then the number of the first row)` */
const normEmitter: WasmEmitter<NormSpec> = {
  name: 'norm',
  build: (spec, caps) => {
    const operands = [...spec.added, spec.scale, spec.bias].filter((o): o is NormOperand => o !== null);
    return kernelModule('norm', [...i32s(9), 'f32', ...i32s(3 * operands.length + 1)], caps, (f, m) => {
      const [x, y, scratch, mean, inverse, sum, rows, n, segments] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => f.arg('i32', i)) as Local<'i32'>[];
      const epsilon = f.arg('f32', 9);
      const row = m.fn('norm row', [...i32s(7), 'f32', ...i32s(spec.added.length)], [], false, (g) => normRow(context(g, m, caps.fma), spec));
      const apply = m.fn('norm apply', [...i32s(3), 'v128', 'v128', ...i32s(2)], [], false, (g) => normApply(context(g, m, caps.fma), spec));
      const statistics = f.let(scratch!); // two numbers, then the row
      f.inc(scratch!, 16);
      const len = f.let(i32.divu(n!, segments!));
      const r = f.arg('i32', 10 + 3 * operands.length);
      const own = (k: number, g: I32): I32 => {
        const arg = (j: number): Local<'i32'> => f.arg('i32', 10 + 3 * k + j);
        const piece = i32.remu(i32.divu(g, arg(1)), arg(2));
        return i32.add(arg(0), i32.mul(piece, operands[k]!.each ? i32.mul(n!, widthOf(operands[k]!.dtype)) : i32.const(widthOf(operands[k]!.dtype))));
      };
      const meanV = f.local('v128');
      const inverseV = f.local('v128');
      f.times(rows!, () => {
        const values = spec.staged ? scratch! : x!;
        f.call(row, x!, scratch!, sum!, n!, statistics, mean!, inverse!, epsilon, ...spec.added.map((_, k) => own(k, r)));
        f.set(meanV, v128.load32splat(statistics, 0));
        f.set(inverseV, v128.load32splat(statistics, 4));
        const p = f.let(values);
        const q = f.let(y!);
        const g = f.let(i32.mul(r, segments!));
        f.times(segments!, () => {
          let k = spec.added.length;
          const scaleAt = spec.scale ? own(k++, g) : i32.const(0);
          const biasAt = spec.bias ? own(k++, g) : i32.const(0);
          f.call(apply, p, q, len, meanV, inverseV, scaleAt, biasAt);
          f.inc(p, i32.mul(len, spec.staged ? 4 : widthOf(spec.from)));
          f.inc(q, i32.mul(len, widthOf(spec.to)));
          f.inc(g, 1);
        });
        f.inc(x!, i32.mul(n!, widthOf(spec.from)));
        f.inc(y!, i32.mul(n!, widthOf(spec.to)));
        if (spec.sum) f.inc(sum!, i32.mul(n!, widthOf(spec.from)));
        if (spec.mean) f.inc(mean!, 4);
        if (spec.inverse) f.inc(inverse!, 4);
        f.inc(r, 1);
      });
    });
  },
};
/** (x, scratch, sum, n, statistics, mean, inverse, epsilon, added…): stages a row and finds its mean and 1 / deviation. */
function normRow(c: Ctx, spec: NormSpec): void {
  const { f } = c;
  const [x, scratch, sum, n, statistics, mean, inverse] = [0, 1, 2, 3, 4, 5, 6].map((i) => f.arg('i32', i)) as Local<'i32'>[];
  const epsilon = f.arg('f32', 7);
  const added = spec.added.map((_, i) => f.arg('i32', 8 + i));
  const count = f.let(f32.convU(n!));
  const totals = partsOf(f, v128.zero());
  const p = f.let(x!);
  const q = f.let(scratch!);
  const at = (k: number): void => {
    f.inc(p, k * widthOf(spec.from));
    f.inc(q, 4 * k);
    if (spec.sum) f.inc(sum!, k * widthOf(spec.from));
    added.forEach((a, i) => { if (spec.added[i]!.each) f.inc(a, k * widthOf(spec.added[i]!.dtype)); });
  };
  const whole = (load: typeof load4): V => added.reduce<V>((v, a, i) => f32x4.add(v, (spec.added[i]!.each ? load : loadSplat)(c, spec.added[i]!.dtype, a)), load(c, spec.from, p));
  if (spec.staged || spec.centred) parted(f, n!,
    (part) => { const v = f.let(whole(load4)); if (spec.centred) f.set(totals[part]!, f32x4.add(totals[part]!, v)); if (spec.staged) f.emit(v128.store(q, v)); if (spec.sum) f.emit(store4(c, spec.from, sum!, v)); at(4); },
    () => { const v = f.let(whole(loadSplat)); if (spec.centred) f.set(totals[0]!, f32x4.add(totals[0]!, first(v))); if (spec.staged) f.emit(v128.store32lane(q, v, 0)); if (spec.sum) f.emit(store1(c, spec.from, sum!, v)); at(1); });
  const average = f.let(f32x4.div(sumLanes(f, merged(f, totals, f32x4.add)), f32x4.splat(count)));
  const squares = partsOf(f, v128.zero());
  f.set(p, spec.staged ? scratch! : x!);
  const centred = (v: V): Local<'v128'> => f.let(spec.centred ? f32x4.sub(v, average) : v);
  parted(f, n!,
    (part) => { const v = centred(v128.load(p)); f.set(squares[part]!, madd(c, v, v, squares[part]!)); f.inc(p, 16); },
    () => { const v = centred(v128.load32splat(p)); f.set(squares[0]!, madd(c, first(v), v, squares[0]!)); f.inc(p, 4); });
  const scale = f.let<'f32'>(f32.div(1, f32.sqrt(f32.add(f32.div(f32x4.lane(sumLanes(f, merged(f, squares, f32x4.add)), 0), count), epsilon))));
  const middle: F32 = spec.centred ? f32x4.lane(average, 0) : f32.const(0);
  f.emit(f32.store(statistics!, middle, 0), f32.store(statistics!, scale, 4));
  if (spec.mean) f.emit(f32.store(mean!, middle));
  if (spec.inverse) f.emit(f32.store(inverse!, scale));
}
/** (values, y, n, mean, 1 / deviation, scale, bias): a row, or a part of one. */
function normApply(c: Ctx, spec: NormSpec): void {
  const { f } = c;
  const [p, q, n] = [f.arg('i32', 0), f.arg('i32', 1), f.arg('i32', 2)];
  const [mean, inverse] = [f.arg('v128', 3), f.arg('v128', 4)];
  const pointers = [f.arg('i32', 5), f.arg('i32', 6)];
  const operands = [spec.scale, spec.bias];
  const fixed = operands.map((o, i) => (o && !o.each ? f.let(loadSplat(c, o.dtype, pointers[i]!)) : null));
  const from: DType = spec.staged ? 'float32' : spec.from;
  const value = (load: typeof load4): V => {
    const [g, b] = operands.map((o, i) => o && (fixed[i] ?? load(c, o.dtype, pointers[i]!)));
    const v = load(c, from, p);
    const scaled = f32x4.mul(spec.centred ? f32x4.sub(v, mean) : v, inverse);
    return g && b ? madd(c, scaled, g, b) : g ? f32x4.mul(scaled, g) : b ? f32x4.add(scaled, b) : scaled;
  };
  const step = (k: number): void => {
    f.inc(p, k * widthOf(from));
    f.inc(q, k * widthOf(spec.to));
    operands.forEach((o, i) => { if (o?.each) f.inc(pointers[i]!, k * widthOf(o.dtype)); });
  };
  span(f, n, () => { f.emit(store4(c, spec.to, q, value(load4))); step(4); }, () => { f.emit(store1(c, spec.to, q, value(loadSplat))); step(1); });
}

/** Two statistics, and a row of float32; per thread. */
const rowScratch = (n: number): number => 16 + 16 * Math.ceil(n / 4);
/** Layer, RMS, instance and group normalisation, with additions before. */
export const normKernels = (name: string, formOf: (call: Call) => NormForm): readonly WasmKernel[] => [{
  name,
  accepts: (call) => {
    const form = formOf(call);
    const statistics = [form.mean, form.inverse].filter((i): i is number => i !== undefined && (call.outputs[i] ?? null) !== null);
    return form.n > 0 && call.inputs.every((t) => t === null || isF32Like(t)) && isF32Like(call.outputs[0]) && statistics.every((i) => call.outputs[i]!.dtype === 'float32') && layoutOf(call, form) !== null;
  },
  scratch: (call, { threads }) => [threads * rowScratch(formOf(call).n)],
  inPlace: (call) => (widthOf(call.inputs[0]!.dtype) === widthOf(call.outputs[0]!.dtype) ? [[0, 0]] : []),
  launch: (call) => {
    if (sizeOf(call.outputs[0]!.shape) === 0) return [];
    const form = formOf(call);
    const { spec, follows, refs, segments } = layoutOf(call, form)!;
    const output = (wanted: boolean, i: number | undefined): Ref | number => (wanted ? { output: i! } : 0);
    return {
      emit: normEmitter, spec,
      args: [
        { input: 0 }, { output: 0 }, { scratch: 0 }, output(spec.mean, form.mean), output(spec.inverse, form.inverse), output(spec.sum, form.sum), form.rows, form.n, segments, { f32: form.epsilon },
        ...refs.flatMap((ref, i) => [ref, follows[i]!.every, follows[i]!.count]), 0,
      ],
      split: {
        items: 6, grain: 1, own: [[2, rowScratch(form.n)]], cost: form.n * (0.5 + 0.2 * refs.length),
        moves: [[0, form.n * widthOf(spec.from)], [1, form.n * widthOf(spec.to)], ...(spec.mean ? [[3, 4] as const] : []), ...(spec.inverse ? [[4, 4] as const] : []), ...(spec.sum ? [[5, form.n * widthOf(spec.from)] as const] : []), [10 + 3 * refs.length, 1]],
      },
    };
  },
}];
