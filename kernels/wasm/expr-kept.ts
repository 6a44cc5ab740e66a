import type { Ex } from '../expr.ts';

/** Values of subexpressions that code has computed, so that equal ones are computed once. */
export interface Kept<T> {
  /** Equal expressions have equal numbers. */
  readonly idOf: (e: Ex) => number;
  readonly values: Map<number, T>;
}
export function kept<T>(): Kept<T> {
  const known = new Map<Ex, number>();
  const ids = new Map<string, number>();
  const idOf = (e: Ex): number => {
    let id = known.get(e);
    if (id === undefined) {
      const key =
        e.f === 'in' ? `in${e.i}` : e.f === 'const' ? `${e.k}:${e.v}` : `${e.f}:${e.k}:${e.v ?? ''}:${e.a.map(idOf)}`;
      id = ids.get(key) ?? ids.size;
      ids.set(key, id);
      known.set(e, id);
    }
    return id;
  };
  return { idOf, values: new Map() };
}
