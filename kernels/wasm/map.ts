import type { DType } from '../../src/core/dtype.ts';
import type { Split } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { costOf, type Ex, inputsOf, kindOf, parsed } from '../expr.ts';
import { broadcastStrides } from '../shapes.ts';
import { type Expr, type I32, i32, type Local, type V } from './asm.ts';
import { load4, loadScalar, loadSplat, store1, store4, storeScalar, widthOf } from './elem.ts';
import { kept } from './expr-kept.ts';
import { compiles, scalarCode } from './expr-scalar.ts';
import { isVector, vectorCode } from './expr-vector.ts';
import { type Ctx, context } from './float.ts';
import { mergeLoops } from '../merge.ts';
import { kernelModule } from './module.ts';

export interface MapAttrs {
  readonly expr: string;
  readonly dtype: string;
}

/**
 * An operand of the innermost loop: `each` element or `one` for all; `flat`: it is read from end to end like the
 * output.
 */
interface Operand {
  readonly dtype: DType;
  readonly inner: 'each' | 'one';
  readonly flat: boolean;
}
export interface MapSpec {
  readonly expr: Ex;
  readonly out: DType;
  readonly operands: readonly Operand[];
  /** Loops around the innermost. */
  readonly outer: number;
}

/**
 * One expression over broadcast operands. `run(out, operands…, n, then per outer loop from the outermost: count, and
 * for each operand that is not flat the bytes to move by after each round)`.
 */
export const mapEmitter: WasmEmitter<MapSpec> = {
  name: 'map',
  build: (spec, caps) => {
    const { operands, outer } = spec;
    const moving = operands.filter((o) => !o.flat).length;
    const params = 2 + operands.length + outer * (1 + moving);
    return kernelModule('map', new Array<'i32'>(params).fill('i32'), caps, (f, m) => {
      const span = m.fn('map span', new Array<'i32'>(2 + operands.length).fill('i32'), [], false, (g) => {
        const c = context(g, m, caps.fma);
        const at = operands.map((_, i) => g.arg('i32', 1 + i));
        (isVector(spec.expr) ? vectorLoop : scalarLoop)(
          c,
          spec,
          g.arg('i32', 0),
          at,
          g.arg('i32', 1 + operands.length),
        );
      });
      const out = f.arg('i32', 0);
      const at = operands.map((_, i) => f.arg('i32', 1 + i));
      const n = f.arg('i32', 1 + operands.length);
      const left = f.local('i32');
      const now = f.local('i32');
      const level = (d: number): void => {
        if (d === outer) {
          f.set(left, n);
          f.whileLoop(
            () => left,
            () => {
              f.set(now, i32.select(i32.ltu(left, SPAN), left, SPAN));
              f.call(span, out, ...at, now);
              f.inc(out, i32.mul(now, widthOf(spec.out)));
              operands.forEach((o, i) => {
                if (o.inner === 'each') f.inc(at[i]!, i32.mul(now, widthOf(o.dtype)));
              });
              f.set(left, i32.sub(left, now));
            },
          );
          return;
        }
        const first = 2 + operands.length + d * (1 + moving);
        f.times(f.arg('i32', first), () => {
          level(d + 1);
          let k = first + 1;
          operands.forEach((o, i) => {
            if (!o.flat) f.inc(at[i]!, f.arg('i32', k++));
          });
        });
      };
      level(0);
    });
  },
};
/** Elements per call of the inner function: engines replace a function by its optimised form only between calls. */
const SPAN = 8192;

/** Is the value the same for all of the innermost loop? */
const isFixed = (spec: MapSpec, e: Ex): boolean =>
  e.f === 'const' || (e.f === 'in' ? spec.operands[e.i]!.inner === 'one' : e.a.every((a) => isFixed(spec, a)));
/** The largest subexpressions that are the same for all of the innermost loop. */
const fixedParts = (spec: MapSpec, e: Ex): Ex[] =>
  isFixed(spec, e) ? [e] : e.f === 'in' || e.f === 'const' ? [] : e.a.flatMap((a) => fixedParts(spec, a));
/** Moves on by some elements. */
function advance(c: Ctx, spec: MapSpec, out: Local<'i32'>, at: readonly Local<'i32'>[], elements: number): void {
  c.f.inc(out, elements * widthOf(spec.out));
  spec.operands.forEach((o, i) => {
    if (o.inner === 'each') c.f.inc(at[i]!, elements * widthOf(o.dtype));
  });
}

function vectorLoop(c: Ctx, spec: MapSpec, out: Local<'i32'>, at: readonly Local<'i32'>[], n: I32): void {
  const { f } = c;
  const ids = kept<V>();
  for (const e of fixedParts(spec, spec.expr))
    vectorCode(c, e, (i) => loadSplat(c, spec.operands[i]!.dtype, at[i]!), ids);
  const fixed = new Map(ids.values);
  const once = (read: (i: number) => V): V => {
    ids.values.clear();
    for (const [id, v] of fixed) ids.values.set(id, v);
    return vectorCode(c, spec.expr, read, ids);
  };
  const left = f.let(n);
  f.whileLoop(
    () => i32.geu(left, 4),
    () => {
      f.emit(
        store4(
          c,
          spec.out,
          out,
          once((i) => load4(c, spec.operands[i]!.dtype, at[i]!)),
        ),
      );
      advance(c, spec, out, at, 4);
      f.inc(left, -4);
    },
  );
  f.whileLoop(
    () => left,
    () => {
      f.emit(
        store1(
          c,
          spec.out,
          out,
          once((i) => loadSplat(c, spec.operands[i]!.dtype, at[i]!)),
        ),
      );
      advance(c, spec, out, at, 1);
      f.inc(left, -1);
    },
  );
}
function scalarLoop(c: Ctx, spec: MapSpec, out: Local<'i32'>, at: readonly Local<'i32'>[], n: I32): void {
  const { f } = c;
  const ids = kept<Expr>();
  const read = (i: number): Expr => loadScalar(c, spec.operands[i]!.dtype, at[i]!);
  for (const e of fixedParts(spec, spec.expr)) scalarCode(c, e, read, ids);
  f.times(n, () => {
    f.emit(storeScalar(c, spec.out, out, scalarCode(c, spec.expr, read, ids)));
    advance(c, spec, out, at, 1);
  });
}

const exprOf = (call: Call<MapAttrs>): Ex => parsed(call.attrs.expr);
/** All dims of the output and the operands' strides in elements, merged where they can be, innermost last. */
function loopsOf(call: Call<MapAttrs>): { dims: number[]; strides: number[][] } {
  const shape = call.outputs[0]!.shape;
  return mergeLoops(
    shape,
    call.inputs.map((f) => broadcastStrides(f!.shape, shape)),
  );
}
const isFlat = (dims: readonly number[], strides: readonly number[]): boolean => {
  let n = 1;
  for (let d = dims.length - 1; d >= 0; n *= dims[d--]!) if (strides[d] !== n) return false;
  return true;
};

/** `sardonyx.Map`: four elements at a time, or one where 64-bit types are about. */
export const mapKernel: WasmKernel<MapAttrs> = {
  name: 'map',
  accepts: (call) => {
    const expr = exprOf(call);
    const out = call.outputs[0];
    const used = inputsOf(expr);
    return (
      !!out &&
      expr.k === kindOf(out.dtype) &&
      compiles(expr) &&
      used.every((i) => i < call.inputs.length) &&
      call.inputs.every((f) => !!f && kindOf(f.dtype) !== undefined)
    );
  },
  inPlace: (call) => {
    const { dims, strides } = loopsOf(call);
    return call.inputs.flatMap((f, i): [number, number][] =>
      isFlat(dims, strides[i]!) && widthOf(f!.dtype) === widthOf(call.outputs[0]!.dtype) ? [[0, i]] : [],
    );
  },
  launch: (call) => {
    const out = call.outputs[0]!;
    if (sizeOf(out.shape) === 0) return [];
    const { dims, strides } = loopsOf(call);
    const last = dims.length - 1;
    const operands = call.inputs.map(
      (f, i): Operand => ({
        dtype: f!.dtype,
        inner: strides[i]![last] ? 'each' : 'one',
        flat: isFlat(dims, strides[i]!),
      }),
    );
    const width = (i: number): number => widthOf(operands[i]!.dtype);
    const inner = sizeOf(dims.slice(1));
    const each = widthOf(out.dtype);
    /** Of elements where there is one loop, else of what the outermost goes round. */
    const split: Split = {
      items: 1 + operands.length + (last > 0 ? 1 : 0),
      grain: last > 0 ? 1 : 16,
      cost: inner * (0.3 + 0.08 * costOf(exprOf(call))),
      moves: [
        [0, inner * each],
        ...operands.flatMap((_, i): [number, number][] =>
          strides[i]![0] ? [[1 + i, strides[i]![0]! * width(i)]] : [],
        ),
      ],
    };
    const bytesBetween = (i: number, d: number): number =>
      (strides[i]![d]! - strides[i]![d + 1]! * dims[d + 1]!) * widthOf(operands[i]!.dtype);
    return {
      emit: mapEmitter,
      spec: { expr: exprOf(call), out: out.dtype, operands, outer: last },
      args: [
        { output: 0 },
        ...call.inputs.map((_, i) => ({ input: i })),
        dims[last]!,
        ...dims
          .slice(0, last)
          .flatMap((count, d) => [count, ...operands.flatMap((o, i) => (o.flat ? [] : [bytesBetween(i, d)]))]),
      ],
      split,
    };
  },
};
