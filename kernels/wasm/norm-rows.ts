/** Kernels of the normalisations of rows. Rows of float16 and bfloat16 are computed in float32. */
import type { DType } from '../../src/core/dtype.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel } from '../define.ts';
import { broadcastStrides } from '../shapes.ts';
import type { NormForm } from '../webgpu/norm-rows.ts';
import { type F32, f32, f32x4, i32, type I32, type Local, type V, v128 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { type Ctx, context, madd } from './float.ts';
import { mergeLoops } from '../merge.ts';
import { kernelModule } from './module.ts';
import { first, i32s, isF32Like, merged, parted, partsOf, span, sumLanes } from './rows.ts';

// ── normalisations ──────────────────────────────────────────────────────────────────────────────────────────────────
/**
 * How an operand follows rows of n elements: `each`: an element for each of a row; else one for each of the row's
 * `segments` equal parts. Row or segment g reads piece (g / every) % count.
 */
interface Follow {
  readonly each: boolean;
  readonly segments: number;
  readonly every: number;
  readonly count: number;
}
/** null where it does so in another way. */
function followOf(own: readonly number[], shape: readonly number[], n: number): Follow | null {
  const {
    dims,
    strides: [s],
  } = mergeLoops(shape, [broadcastStrides(own, shape)]);
  const strides = s!;
  const last = dims.at(-1)!;
  if (sizeOf(own) === 1) return { each: false, segments: 1, every: 1, count: 1 };
  if (strides.at(-1) !== 0) {
    if (last % n !== 0) return null;
    const within = last / n; // rows of one period
    if (dims.length === 1 || (dims.length === 2 && strides[0] === 0))
      return { each: true, segments: 1, every: 1, count: within };
    return within === 1 && dims.length === 3 && strides[1] === 0
      ? { each: true, segments: 1, every: dims[1]!, count: dims[0]! }
      : null;
  }
  if (dims.length > 3 || (dims.length === 3 && strides[0] !== 0)) return null;
  const count = dims.at(-2)!;
  if (n % last === 0) return { each: false, segments: n / last, every: 1, count };
  return last % n === 0 ? { each: false, segments: 1, every: last / n, count } : null;
}

interface NormOperand {
  readonly dtype: DType;
  readonly each: boolean;
}
interface NormSpec {
  readonly from: DType;
  readonly to: DType;
  readonly centred: boolean;
  readonly added: readonly NormOperand[];
  readonly scale: NormOperand | null;
  readonly bias: NormOperand | null;
  /** The row is first brought together in scratch memory, as float32. */
  readonly staged: boolean;
  readonly mean: boolean;
  readonly inverse: boolean;
  readonly sum: boolean;
}
interface NormLayout {
  readonly spec: NormSpec;
  readonly follows: readonly Follow[];
  readonly segments: number;
  readonly refs: readonly Ref[];
}

function layoutOf(call: Call, form: NormForm): NormLayout | null {
  const shape = form.shape ?? call.inputs[0]!.shape;
  const wanted = (i: number | undefined): boolean => i !== undefined && (call.outputs[i] ?? null) !== null;
  const given = (form.added ?? []).filter((i) => call.inputs[i] != null);
  const follows: Follow[] = [];
  const refs: Ref[] = [];
  const operand = (
    o: { readonly input: number; readonly shape?: readonly number[] } | undefined,
  ): NormOperand | null | undefined => {
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
    follows,
    refs,
    segments,
    spec: {
      from,
      to: call.outputs[0]!.dtype,
      centred: form.centred,
      added: added as NormOperand[],
      scale,
      bias,
      staged: added.length > 0 || from !== 'float32',
      mean: wanted(form.mean),
      inverse: wanted(form.inverse),
      sum: wanted(form.sum),
    },
  };
}

/**
 * `run(x, y, scratch, mean, inverse, sum, rows, n, segments, epsilon, then per operand: address, every, count; then the
 * number of the first row)`
 */
const normEmitter: WasmEmitter<NormSpec> = {
  name: 'norm',
  build: (spec, caps) => {
    const operands = [...spec.added, spec.scale, spec.bias].filter((o): o is NormOperand => o !== null);
    return kernelModule('norm', [...i32s(9), 'f32', ...i32s(3 * operands.length + 1)], caps, (f, m) => {
      const [x, y, scratch, mean, inverse, sum, rows, n, segments] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) =>
        f.arg('i32', i),
      ) as Local<'i32'>[];
      const epsilon = f.arg('f32', 9);
      const row = m.fn('norm row', [...i32s(7), 'f32', ...i32s(spec.added.length)], [], false, (g) =>
        normRow(context(g, m, caps.fma), spec),
      );
      const apply = m.fn('norm apply', [...i32s(3), 'v128', 'v128', ...i32s(2)], [], false, (g) =>
        normApply(context(g, m, caps.fma), spec),
      );
      const statistics = f.let(scratch!); // two numbers, then the row
      f.inc(scratch!, 16);
      const len = f.let(i32.divu(n!, segments!));
      const r = f.arg('i32', 10 + 3 * operands.length);
      const own = (k: number, g: I32): I32 => {
        const arg = (j: number): Local<'i32'> => f.arg('i32', 10 + 3 * k + j);
        const piece = i32.remu(i32.divu(g, arg(1)), arg(2));
        return i32.add(
          arg(0),
          i32.mul(
            piece,
            operands[k]!.each ? i32.mul(n!, widthOf(operands[k]!.dtype)) : i32.const(widthOf(operands[k]!.dtype)),
          ),
        );
      };
      const meanV = f.local('v128');
      const inverseV = f.local('v128');
      f.times(rows!, () => {
        const values = spec.staged ? scratch! : x!;
        f.call(
          row,
          x!,
          scratch!,
          sum!,
          n!,
          statistics,
          mean!,
          inverse!,
          epsilon,
          ...spec.added.map((_, k) => own(k, r)),
        );
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
/**
 * (x, scratch, sum, n, statistics, mean, inverse, epsilon, added…): stages a row and finds its mean and 1 / deviation.
 */
function normRow(c: Ctx, spec: NormSpec): void {
  const { f } = c;
  const [x, scratch, sum, n, statistics, mean, inverse] = [0, 1, 2, 3, 4, 5, 6].map((i) =>
    f.arg('i32', i),
  ) as Local<'i32'>[];
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
    added.forEach((a, i) => {
      if (spec.added[i]!.each) f.inc(a, k * widthOf(spec.added[i]!.dtype));
    });
  };
  const whole = (load: typeof load4): V =>
    added.reduce<V>(
      (v, a, i) => f32x4.add(v, (spec.added[i]!.each ? load : loadSplat)(c, spec.added[i]!.dtype, a)),
      load(c, spec.from, p),
    );
  if (spec.staged || spec.centred)
    parted(
      f,
      n!,
      (part) => {
        const v = f.let(whole(load4));
        if (spec.centred) f.set(totals[part]!, f32x4.add(totals[part]!, v));
        if (spec.staged) f.emit(v128.store(q, v));
        if (spec.sum) f.emit(store4(c, spec.from, sum!, v));
        at(4);
      },
      () => {
        const v = f.let(whole(loadSplat));
        if (spec.centred) f.set(totals[0]!, f32x4.add(totals[0]!, first(v)));
        if (spec.staged) f.emit(v128.store32lane(q, v, 0));
        if (spec.sum) f.emit(store1(c, spec.from, sum!, v));
        at(1);
      },
    );
  const average = f.let(f32x4.div(sumLanes(f, merged(f, totals, f32x4.add)), f32x4.splat(count)));
  const squares = partsOf(f, v128.zero());
  f.set(p, spec.staged ? scratch! : x!);
  const centred = (v: V): Local<'v128'> => f.let(spec.centred ? f32x4.sub(v, average) : v);
  parted(
    f,
    n!,
    (part) => {
      const v = centred(v128.load(p));
      f.set(squares[part]!, madd(c, v, v, squares[part]!));
      f.inc(p, 16);
    },
    () => {
      const v = centred(v128.load32splat(p));
      f.set(squares[0]!, madd(c, first(v), v, squares[0]!));
      f.inc(p, 4);
    },
  );
  const scale = f.let<'f32'>(
    f32.div(1, f32.sqrt(f32.add(f32.div(f32x4.lane(sumLanes(f, merged(f, squares, f32x4.add)), 0), count), epsilon))),
  );
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
    operands.forEach((o, i) => {
      if (o?.each) f.inc(pointers[i]!, k * widthOf(o.dtype));
    });
  };
  span(
    f,
    n,
    () => {
      f.emit(store4(c, spec.to, q, value(load4)));
      step(4);
    },
    () => {
      f.emit(store1(c, spec.to, q, value(loadSplat)));
      step(1);
    },
  );
}

/** Two statistics, and a row of float32; per thread. */
const rowScratch = (n: number): number => 16 + 16 * Math.ceil(n / 4);
/** Layer, RMS, instance and group normalisation, with additions before. */
export const normKernels = (name: string, formOf: (call: Call) => NormForm): readonly WasmKernel[] => [
  {
    name,
    accepts: (call) => {
      const form = formOf(call);
      const statistics = [form.mean, form.inverse].filter(
        (i): i is number => i !== undefined && (call.outputs[i] ?? null) !== null,
      );
      return (
        form.n > 0 &&
        call.inputs.every((t) => t === null || isF32Like(t)) &&
        isF32Like(call.outputs[0]) &&
        statistics.every((i) => call.outputs[i]!.dtype === 'float32') &&
        layoutOf(call, form) !== null
      );
    },
    scratch: (call, { threads }) => [threads * rowScratch(formOf(call).n)],
    inPlace: (call) => (widthOf(call.inputs[0]!.dtype) === widthOf(call.outputs[0]!.dtype) ? [[0, 0]] : []),
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const form = formOf(call);
      const { spec, follows, refs, segments } = layoutOf(call, form)!;
      const output = (wanted: boolean, i: number | undefined): Ref | number => (wanted ? { output: i! } : 0);
      return {
        emit: normEmitter,
        spec,
        args: [
          { input: 0 },
          { output: 0 },
          { scratch: 0 },
          output(spec.mean, form.mean),
          output(spec.inverse, form.inverse),
          output(spec.sum, form.sum),
          form.rows,
          form.n,
          segments,
          { f32: form.epsilon },
          ...refs.flatMap((ref, i) => [ref, follows[i]!.every, follows[i]!.count]),
          0,
        ],
        split: {
          items: 6,
          grain: 1,
          own: [[2, rowScratch(form.n)]],
          cost: form.n * (0.5 + 0.2 * refs.length),
          moves: [
            [0, form.n * widthOf(spec.from)],
            [1, form.n * widthOf(spec.to)],
            ...(spec.mean ? [[3, 4] as const] : []),
            ...(spec.inverse ? [[4, 4] as const] : []),
            ...(spec.sum ? [[5, form.n * widthOf(spec.from)] as const] : []),
            [10 + 3 * refs.length, 1],
          ],
        },
      };
    },
  },
];
