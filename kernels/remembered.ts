/** Kept of each function: far more than the models of a page ask for. */
const MOST = 1000;

/** The function, which answers equal arguments with what it answered before. It must be pure: kernels write long texts of a few numbers, and planners ask for them again and again. */
export function remembered<A extends readonly (string | number | boolean)[], R>(f: (...args: A) => R): (...args: A) => R {
  const known = new Map<string, R>();
  return (...args) => {
    const key = args.join();
    let result = known.get(key);
    if (result === undefined) {
      if (known.size >= MOST) known.clear();
      known.set(key, (result = f(...args)));
    }
    return result;
  };
}

/** The function, which knows what it last answered: all kernels of an operator ask the same of one call, one after another. */
export function ofLast<C extends object, D, R>(f: (call: C, caps: D) => R): (call: C, caps: D) => R {
  let last: { readonly call: C; readonly caps: D; readonly result: R } | undefined;
  return (call, caps) => {
    if (last?.call !== call || last.caps !== caps) last = { call, caps, result: f(call, caps) };
    return last.result;
  };
}
