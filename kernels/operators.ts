import type { GpuKernel, KernelTable, Op, WasmKernel } from './define.ts';
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
import { randoms } from './random.ts';
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
import { losses } from './loss.ts';
import { optimizers } from './training.ts';
import { control } from './control.ts';
import { sequence } from './sequence.ts';
import { quantization } from './quantize.ts';
import { strings } from './strings.ts';
import { attentions } from './attention.ts';
import { rotary } from './rotary.ts';
import { signal } from './signal.ts';
import { features } from './ml/features.ts';
import { labels } from './ml/labels.ts';
import { linear } from './ml/linear.ts';
import { svm } from './ml/svm.ts';
import { trees } from './ml/trees.ts';
import { gradients } from './gradient.ts';

/** The registry: adding an operator family is one file and one line here. No two define one operator. */
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
  gradients,
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
  randoms,
  sort,
  maps,
  reductions,
  resize,
  grid,
  roi,
  det,
  rowNorms,
  channelNorms,
  losses,
  optimizers,
  control,
  sequence,
  strings,
  features,
  labels,
  linear,
  svm,
  trees,
];

/** Every operator, as its definition: no kernels but its reference. */
export const operators: ReadonlyMap<string, Op> = new Map(families.flat().map((o) => [o.op, o]));

/** The operators with kernels of one or both backends. */
export const equip = (webgpu: KernelTable<GpuKernel>, wasm: KernelTable<WasmKernel>): ReadonlyMap<string, Op> =>
  new Map(Array.from(operators, ([name, op]) => [name, { ...op, ...(Object.hasOwn(webgpu, name) ? { webgpu: webgpu[name]! } : {}), ...(Object.hasOwn(wasm, name) ? { wasm: wasm[name]! } : {}) }]));
