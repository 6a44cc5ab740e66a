/** Launches of modules whose invocations each make one element, or the four that share a word. */
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import type { Call, Launch, Ref } from '../define.ts';
import { input, kindOf, x } from '../expr.ts';
import { axisOf } from '../shapes.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid } from './grid.ts';
import { mapLaunch } from './map.ts';
import { writeSlot } from './unit.ts';

const WG = 64;
export interface ElementLaunch
  extends Partial<Pick<Launch, 'types' | 'params' | 'slots' | 'uniforms' | 'extra' | 'extraUniforms'>> {
  readonly module: Launch['module'];
  /** What is read, in the order of the module's bindings; `y` comes behind it. */
  readonly reads: readonly Ref[];
}

/** A module with `fn element(i: u32) -> Y` and the slot `write`: output `to` of `out`. */
export function elementLaunch(l: ElementLaunch, out: Fact, to: Ref, caps: GpuCaps): Launch {
  const elem = elemOf(out.dtype)!;
  const PER = isPacked(elem, caps) ? 4 : 1;
  const count = sizeOf(out.shape);
  const { reads, ...rest } = l;
  return {
    ...rest,
    types: { ...l.types, y: elem },
    params: { WG, PER, ...l.params },
    slots: { ...l.slots, write: writeSlot({ types: {}, text: '', PER }) },
    uniforms: { count, ...l.uniforms },
    workgroups: grid(Math.ceil(count / PER), WG),
    bind: [...reads, to],
  };
}
/** A module whose invocations, `count` of them, each do something of their own; `bind` is all that it binds. */
export const countedLaunch = (
  l: Omit<ElementLaunch, 'reads'> & { readonly bind: readonly Ref[] },
  count: number,
): Launch => ({
  types: {},
  ...l,
  params: { WG, ...l.params },
  uniforms: { count, ...l.uniforms },
  workgroups: grid(count, WG),
});

/** f32 elements made in `from`, as output `to` of `out`. */
export const narrowed = (out: Fact, to: Ref, from: Ref): Launch =>
  mapLaunch(x.cast(input(0, 'f32'), kindOf(out.dtype)!), out, to, [
    { fact: { dtype: 'float32', shape: out.shape }, bind: from },
  ]);

/** An extra binding and its type, to spread into a launch. */
export const extraOf = (
  ...list: readonly (readonly [name: string, elem: Elem, bind: Ref] | null)[]
): { types: Record<string, Elem>; extra: { name: string; bind: Ref }[] } => {
  const given = list.filter((e) => e !== null);
  return {
    types: Object.fromEntries(given.map(([name, elem]) => [name, elem])),
    extra: given.map(([name, , bind]) => ({ name, bind })),
  };
};

/** Four numbers, innermost first, the missing ones 1. */
export const inward = (list: readonly number[], fill = 1): number[] =>
  [...list].reverse().concat(Array.from({ length: 4 - list.length }, () => fill));

/** Lines along an axis, `inner` elements apart. */
export interface Lines {
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
}
/** The lines along a call's axis. */
export const linesAlong = (call: Call): Lines => {
  const { shape } = call.inputs[0]!;
  const axis = axisOf(call.attrs.axis, shape.length);
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) };
};
