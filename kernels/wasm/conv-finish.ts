/** Epilogues of convolutions, done on the registers that are about to be stored. */
import { sizeOf } from '../../src/core/tensor.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { Ref } from '../define.ts';
import { costOf, type Ex } from '../expr.ts';
import { broadcastStrides } from '../shapes.ts';
import { i32, type Local, type V, v128 } from './asm.ts';
import type { Finish } from './epilogue.ts';
import { kept } from './expr-kept.ts';
import { isVector, vectorCode } from './expr-vector.ts';
import type { Ctx } from './float.ts';
import { loadLanes } from './gemm-core.ts';

/** How an operand lies to the output: one value, one per channel, one per channel of each image, or one per element. */
export type Follows = 'one' | 'channel' | 'plane' | 'element';
export interface StoreSpec {
  readonly expr: Ex;
  readonly operands: readonly Follows[];
}

const CHEAP = new Set([
  'in',
  'const',
  'add',
  'sub',
  'mul',
  'div',
  'neg',
  'abs',
  'min',
  'max',
  'sigmoid',
  'select',
  'lt',
  'le',
  'eq',
  'sqrt',
  'floor',
  'ceil',
]);
const cheap = (e: Ex): boolean => CHEAP.has(e.f) && (e.f === 'in' || e.f === 'const' || e.a.every(cheap));
function followsOf(operand: Fact, out: readonly number[]): Follows | null {
  if (operand.dtype !== 'float32') return null;
  if (sizeOf(operand.shape) === 1) return 'one';
  const strides = broadcastStrides(operand.shape, out);
  const moves = out.map((d, i) => d !== 1 && strides[i] !== 0);
  const all = out.map((d) => d !== 1);
  const only = (n: number): boolean => moves.every((m, i) => m === (i < n && all[i]!));
  if (only(out.length)) return 'element';
  if (only(2)) return 'plane';
  return moves.every((m, i) => m === (i === 1 && all[1]!)) ? 'channel' : null;
}
/**
 * The epilogue of an output [N, M, ...] as work on registers; null where it is too much for that, or its operands lie
 * otherwise.
 */
export function storeSpec(
  finish: Finish | null,
  out: Fact,
): { readonly spec: StoreSpec; readonly args: readonly Ref[] } | null {
  if (!finish || !isVector(finish.expr) || !cheap(finish.expr) || costOf(finish.expr) > 12) return null;
  const operands = finish.operands.map((o) => followsOf(o.fact, out.shape));
  if (operands.some((o) => o === null)) return null;
  return { spec: { expr: finish.expr, operands: operands as Follows[] }, args: finish.operands.map((o) => o.ref) };
}

/**
 * Makes the function that finishes `v`, the vector of `lanes` outputs at `out + off` of tile row `row`. `at`: per
 * operand the address of its first value for this tile ('element': how far it lies behind the output). What the first
 * `rows` rows need is read at once, for code that is not run each time; of others where it is first used.
 */
export function finisher(
  c: Ctx,
  s: StoreSpec | null,
  at: readonly Local<'i32'>[],
  rows = 0,
): (v: V, row: number, out: Local<'i32'>, off: number, lanes: number) => V {
  if (!s) return (v) => v;
  const ones = s.operands.map((o, i) => (o === 'one' ? c.f.let(v128.load32splat(at[i]!)) : null));
  const perRow = new Map<string, V>();
  const splatOf = (i: number, row: number): V => {
    const key = `${i},${row}`;
    let splat = perRow.get(key);
    if (!splat) perRow.set(key, (splat = c.f.let(v128.load32splat(at[i]!, 4 * row))));
    return splat;
  };
  s.operands.forEach((o, i) => {
    if (o === 'channel' || o === 'plane') for (let row = 0; row < rows; row++) splatOf(i, row);
  });
  return (v, row, out, off, lanes) =>
    vectorCode(
      c,
      s.expr,
      (i) => {
        if (i === 0) return v;
        const o = s.operands[i - 1]!;
        const p = at[i - 1]!;
        if (o === 'one') return ones[i - 1]!;
        if (o === 'element') return loadLanes(c.f.let(i32.add(out, p)), lanes, off);
        return splatOf(i - 1, row);
      },
      kept(),
    );
}
