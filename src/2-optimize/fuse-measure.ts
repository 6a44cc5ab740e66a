/** How much work an expression is, its equal parts counted once. */
import type { Ex, Fn } from '../../kernels/expr.ts';

export interface Measure {
  /** Different operations. */
  readonly cost: number;
  /** Operations, equal ones as often as they are written. */
  readonly tree: number;
  /** Different operations, each weighed by what it takes: 1 for an addition. */
  readonly work: number;
}

const FREE: ReadonlySet<Fn> = new Set<Fn>(['cast', 'not', 'neg', 'abs']);
const SLOW: ReadonlySet<Fn> = new Set<Fn>([
  'pow',
  'exp',
  'log',
  'sin',
  'cos',
  'tan',
  'asin',
  'acos',
  'atan',
  'sinh',
  'cosh',
  'tanh',
  'asinh',
  'acosh',
  'atanh',
  'erf',
  'sigmoid',
  'softplus',
  'mod',
  'rem',
]);
const workOf = (f: Fn, k: Ex['k']): number =>
  (FREE.has(f) ? 0.5 : SLOW.has(f) ? 12 : f === 'div' || f === 'sqrt' || f === 'rsqrt' ? 4 : 1) *
  (k === 'i64' || k === 'u64' ? 4 : 1);

/** A function that measures expressions, and knows again the parts it has seen. */
export function measurer(): (e: Ex) => Measure {
  const ids = new Map<string, number>();
  const known = new WeakMap<Ex, { readonly id: number; readonly tree: number }>();
  const visit = (e: Ex, seen: Map<number, number>): { id: number; tree: number } => {
    let known1 = known.get(e);
    if (known1 === undefined) {
      const parts = e.f === 'in' || e.f === 'const' ? [] : e.a.map((a) => visit(a, seen));
      const key =
        e.f === 'in'
          ? `in${e.i}`
          : e.f === 'const'
            ? `${e.k}:${e.v}`
            : `${e.f}:${e.k}:${e.v ?? ''}:${parts.map((p) => p.id)}`;
      let id = ids.get(key);
      if (id === undefined) ids.set(key, (id = ids.size));
      known1 = { id, tree: e.f === 'in' || e.f === 'const' ? 0 : 1 + parts.reduce((n, p) => n + p.tree, 0) };
      known.set(e, known1);
      if (e.f !== 'in' && e.f !== 'const') seen.set(id, workOf(e.f, e.a[0]!.k));
    } else if (e.f !== 'in' && e.f !== 'const' && !seen.has(known1.id)) {
      e.a.forEach((a) => visit(a, seen));
      seen.set(known1.id, workOf(e.f, e.a[0]!.k));
    }
    return known1;
  };
  return (e) => {
    const seen = new Map<number, number>();
    const { tree } = visit(e, seen);
    return { cost: seen.size, tree, work: [...seen.values()].reduce((a, b) => a + b, 0) };
  };
}

/** The kind of input `i` in an expression; undefined if it does not read it. */
export function kindOfInput(e: Ex, i: number): Ex['k'] | undefined {
  if (e.f === 'in') return e.i === i ? e.k : undefined;
  if (e.f === 'const') return undefined;
  for (const c of e.a) {
    const k = kindOfInput(c, i);
    if (k !== undefined) return k;
  }
  return undefined;
}
