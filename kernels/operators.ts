import type { Kernels, Op, OpDef } from './define.ts';
import { softmax } from './softmax.ts';
import { matmul } from './matmul.ts';
import { einsum } from './einsum.ts';
import { reshape } from './reshape.ts';
import { create } from './create.ts';
import { transpose } from './transpose.ts';
import { slice } from './slice.ts';
import { pad } from './pad.ts';
import { convolution } from './conv.ts';
import { gather } from './gather.ts';
import { select } from './select.ts';
import { unaries } from './unary.ts';
import { activations } from './activation.ts';
import { binaries } from './binary.ts';
import { choices } from './where.ts';
import { identities } from './identity.ts';
import { casts } from './cast.ts';
import { gelus } from './gelu.ts';
import { sort } from './sort.ts';
import { maps } from './map.ts';
import { pool } from './pool.ts';
import { reductions } from './reduce.ts';
import { resize } from './resize.ts';
import { rnn } from './rnn.ts';
import { grid } from './grid.ts';
import { roi } from './roi.ts';
import { det } from './det.ts';
import { rowNorms } from './norm.ts';
import { channelNorms } from './norm-channel.ts';
import { control } from './control.ts';
import { quantization } from './quantize.ts';
import { attentions } from './attention.ts';
import { rotary } from './rotary.ts';
import { signal } from './signal.ts';

/** The registry: adding an operator family is one file and one line here, or in `rare.ts`. No two define one operator. */
export const families: readonly (readonly Op[])[] = [
  signal,
  rotary,
  attentions,
  quantization,
  rnn,
  pool,
  convolution,
  einsum,
  matmul,
  softmax,
  reshape,
  create,
  transpose,
  slice,
  pad,
  gather,
  select,
  unaries,
  activations,
  binaries,
  choices,
  identities,
  casts,
  gelus,
  sort,
  maps,
  reductions,
  resize,
  grid,
  roi,
  det,
  rowNorms,
  channelNorms,
  control,
];

/** Definitions by operator: no kernels but the reference. */
export type Definitions = ReadonlyMap<string, OpDef>;
const named = (lists: readonly (readonly OpDef[])[]): [string, OpDef][] => lists.flat().map((o) => [o.op, o]);
const common: Definitions = new Map(named(families));

/** The definitions that a graph with these operators needs: all of this file, and the rare ones, which load for it, if it has one. */
export async function definitionsFor(names: Iterable<string>): Promise<Definitions> {
  for (const name of names) if (!common.has(name)) return new Map([...common, ...named((await import('./rare.ts')).rareFamilies)]);
  return common;
}

/** Definitions joined to the kernels of the devices at hand. */
export const equip = (definitions: Definitions, { webgpu = {}, wasm = {} }: Kernels): ReadonlyMap<string, Op> =>
  new Map(Array.from(definitions, ([name, op]) => [name, { ...op, ...(Object.hasOwn(webgpu, name) ? { webgpu: webgpu[name]! } : {}), ...(Object.hasOwn(wasm, name) ? { wasm: wasm[name]! } : {}) }]));
