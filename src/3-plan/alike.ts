/** What is the same for a planner who has seen it before. */
import type { Call, Launch } from '../../kernels/define.ts';
import { type Constant, type Fact, sameAttrs, sameNumbers } from '../core/graph.ts';

/**
 * Do two calls of one operator say the same to a kernel? `but`: it does not look into constants, so that others of
 * their types and shapes are the same.
 */
export const sameCall = (a: Call, b: Call, but = false): boolean =>
  sameFacts(a.outputs, b.outputs, but) &&
  sameFacts(a.inputs, b.inputs, but) &&
  sameAttrs(a.attrs, b.attrs) &&
  (a.epilogue === b.epilogue || sameFacts(a.epilogue?.operands ?? [], b.epilogue?.operands ?? [], but));
function sameFacts(a: readonly (Fact | null)[], b: readonly (Fact | null)[], but: boolean): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const f = a[i]!;
    const g = b[i]!;
    if (f === g) continue;
    if (
      f === null ||
      g === null ||
      f.dtype !== g.dtype ||
      (but ? !f.constant !== !g.constant : f.constant !== g.constant) ||
      !sameNumbers(f.shape, g.shape)
    )
      return false;
  }
  return true;
}

/** Facts of constants that tell when they are looked into. */
const WATCHED = new WeakMap<Fact, Fact>();
let looked = false;
function watched(fact: Fact | null): Fact | null {
  if (!fact?.constant) return fact;
  let other = WATCHED.get(fact);
  if (other === undefined) {
    const { constant } = fact;
    const tell =
      <T>(f: () => T) =>
      (): T => {
        looked = true;
        return f();
      };
    WATCHED.set(
      fact,
      (other = {
        ...fact,
        constant: { ...constant, peek: tell(constant.peek), load: tell(constant.load) } satisfies Constant,
      }),
    );
  }
  return other;
}
/** What `choose` says of a call, and whether that depends on what constants hold. */
export function watching<T>(call: Call, choose: (call: Call) => T): { readonly chosen: T; readonly looked: boolean } {
  looked = false;
  const { epilogue } = call;
  const chosen = choose({
    ...call,
    inputs: call.inputs.map(watched),
    ...(epilogue ? { epilogue: { ...epilogue, operands: epilogue.operands.map(watched) as Fact[] } } : {}),
  });
  return { chosen, looked };
}

/** Do two specs of a module say the same? Both are JSON. */
export function sameSpec(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!sameSpec(a[i], b[i])) return false;
    return true;
  }
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  for (const name of names)
    if (!sameSpec((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name])) return false;
  return true;
}

/** Do two launches give one shader? */
export const sameText = (a: Launch, b: Launch): boolean =>
  a === b ||
  (a.module === b.module &&
    sameRecord(a.types, b.types) &&
    sameRecord(a.params, b.params) &&
    sameRecord(a.slots, b.slots) &&
    sameList(a.extra, b.extra, (x, y) => x.name === y.name) &&
    sameList(a.extraUniforms, b.extraUniforms, (x, y) => x.name === y.name && x.type === y.type));
function sameRecord(a: Readonly<Record<string, unknown>> = {}, b: Readonly<Record<string, unknown>> = {}): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
const sameList = <T>(a: readonly T[] = [], b: readonly T[] = [], same: (x: T, y: T) => boolean): boolean =>
  a.length === b.length && a.every((x, i) => same(x, b[i]!));
