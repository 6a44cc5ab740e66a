import type { Kernels, Op, OpDef } from './define.ts';
import { type SetName, setsFor } from './sets.ts';
import { softmax } from './softmax.ts';
import { matmul } from './matmul.ts';
import { reshape } from './reshape.ts';
import { create } from './create.ts';
import { transpose } from './transpose.ts';
import { slice } from './slice.ts';
import { pad } from './pad.ts';
import { gather } from './gather.ts';
import { unaries } from './unary.ts';
import { activations } from './activation.ts';
import { binaries } from './binary.ts';
import { choices } from './where.ts';
import { identities } from './identity.ts';
import { casts } from './cast.ts';
import { maps } from './map.ts';
import { reductions } from './reduce.ts';

/**
 * What every build has at hand. Adding an operator family is one file and one line here, or in one of `sets/`. No two
 * define one operator.
 */
export const families: readonly (readonly Op[])[] = [
  matmul,
  softmax,
  reshape,
  create,
  transpose,
  slice,
  pad,
  gather,
  unaries,
  activations,
  binaries,
  choices,
  identities,
  casts,
  maps,
  reductions,
];

/** Definitions by operator: no kernels but the reference. */
export type Definitions = ReadonlyMap<string, OpDef>;
const named = (lists: readonly (readonly OpDef[])[]): [string, OpDef][] => lists.flat().map((o) => [o.op, o]);
const common: Definitions = new Map(named(families));

const load: Readonly<Record<SetName, () => Promise<{ readonly families: readonly (readonly Op[])[] }>>> = {
  spatial: () => import('./sets/spatial.ts'),
  transformers: () => import('./sets/transformers.ts'),
  quantized: () => import('./sets/quantized.ts'),
  recurrent: () => import('./sets/recurrent.ts'),
  norms: () => import('./sets/norms.ts'),
  indexed: () => import('./sets/indexed.ts'),
  uncommon: () => import('./sets/uncommon.ts'),
  rare: () => import('./sets/rare.ts'),
};

/** The sets that a graph with these operators needs. */
export const setsOf = (names: Iterable<string>): readonly SetName[] => setsFor(names, common);

/** The definitions of common operators and of these sets. */
export async function definitionsOf(sets: readonly SetName[]): Promise<Definitions> {
  const more = await Promise.all(sets.map((name) => load[name]()));
  return more.length === 0 ? common : new Map([...common, ...more.flatMap((set) => named(set.families))]);
}

/** Definitions joined to the kernels of the devices at hand. */
export const equip = (definitions: Definitions, { webgpu = {}, wasm = {} }: Kernels): ReadonlyMap<string, Op> =>
  new Map(
    Array.from(definitions, ([name, op]) => [
      name,
      {
        ...op,
        ...(Object.hasOwn(webgpu, name) ? { webgpu: webgpu[name]! } : {}),
        ...(Object.hasOwn(wasm, name) ? { wasm: wasm[name]! } : {}),
      },
    ]),
  );
