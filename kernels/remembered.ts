/** Kept of each function: far more than the models of a page ask for. */
const MOST = 1000;

/**
 * The function, which answers equal arguments with what it answered before. It must be pure: kernels write long texts
 * of a few numbers, and planners ask for them again and again.
 */
export function remembered<A extends readonly (string | number | boolean)[], R>(
  f: (...args: A) => R,
): (...args: A) => R {
  // A Map for each argument: a long text is hashed once, when it is made.
  let known: Branch<R> = new Map();
  let count = 0;
  return (...args) => {
    let at = known;
    for (let i = 0; i < args.length - 1; i++) {
      let next = at.get(args[i]!);
      if (next === undefined) at.set(args[i]!, (next = new Map()));
      at = next as Branch<R>;
    }
    const last = args[args.length - 1]!;
    let result = at.get(last) as R | undefined;
    if (result === undefined) {
      if (count++ === MOST) {
        known = new Map();
        count = 0;
      }
      at.set(last, (result = f(...args)));
    }
    return result;
  };
}
type Branch<R> = Map<string | number | boolean, Branch<R> | R>;

/** Parts of a shader's text in a row, the empty ones left out. Equal parts give one string, which planners compare. */
export const inRow = remembered((a: string, b: string, c: string, d: string): string =>
  [a, b, c, d].filter((t) => t !== '').join('\n'),
);

/**
 * The function, which knows what it last answered: all kernels of an operator ask the same of one call, one after
 * another.
 */
export function ofLast<C extends object, D, R>(f: (call: C, caps: D) => R): (call: C, caps: D) => R {
  let last: { readonly call: C; readonly caps: D; readonly result: R } | undefined;
  return (call, caps) => {
    if (last?.call !== call || last.caps !== caps) last = { call, caps, result: f(call, caps) };
    return last.result;
  };
}
