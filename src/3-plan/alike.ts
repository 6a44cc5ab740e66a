/** What is the same for a planner who has seen it before. */
import type { Call, Launch } from '../../kernels/define.ts';
import { type Fact, sameAttrs } from '../core/graph.ts';

/** Do two calls of one operator say the same to a kernel? */
export const sameCall = (a: Call, b: Call): boolean => sameAttrs(a.attrs, b.attrs) && sameFacts(a.inputs, b.inputs) && sameFacts(a.outputs, b.outputs)
  && (a.epilogue === b.epilogue || sameFacts(a.epilogue?.operands ?? [], b.epilogue?.operands ?? []));
const sameFacts = (a: readonly (Fact | null)[], b: readonly (Fact | null)[]): boolean => a.length === b.length && a.every((f, i) => f === b[i] || (f !== null && b[i] != null && sameFact(f, b[i])));
const sameFact = (a: Fact, b: Fact): boolean => a.dtype === b.dtype && a.constant === b.constant && sameNumbers(a.shape, b.shape);
const sameNumbers = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** Do two launches give one shader? */
export const sameText = (a: Launch, b: Launch): boolean => a === b || (a.module === b.module && sameRecord(a.types, b.types) && sameRecord(a.params, b.params) && sameRecord(a.slots, b.slots)
  && sameList(a.extra, b.extra, (x, y) => x.name === y.name) && sameList(a.extraUniforms, b.extraUniforms, (x, y) => x.name === y.name && x.type === y.type));
function sameRecord(a: Readonly<Record<string, unknown>> = {}, b: Readonly<Record<string, unknown>> = {}): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
const sameList = <T>(a: readonly T[] = [], b: readonly T[] = [], same: (x: T, y: T) => boolean): boolean => a.length === b.length && a.every((x, i) => same(x, b[i]!));
