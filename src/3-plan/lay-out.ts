import { type Access, type Lifetimes, lifetimes, lifetimesAgain, sameAccesses } from '../../memory/lifetimes.ts';
import { type MemoryPlan, planHeap, planSlabs } from '../../memory/plan.ts';
import type { Plan, PlannedShader, PlannedValue, Step } from '../core/plan.ts';
import { byteLength } from '../core/tensor.ts';
import type { Draft } from './draft.ts';
import type { PlanMemory } from './request.ts';
import { hardConflicts, isWasteful, shared } from './share-slabs.ts';

/** The plan that a draft becomes once its values have places in memory. `outputs` are values of the draft. */
export function layOut(draft: Draft, outputs: readonly number[]): Plan {
  const { request, values } = draft;
  // Kernels store whole words, up to four elements at once: every value is padded to 16 bytes.
  const bytes = (v: number): number => Math.max(16, Math.ceil(byteLength(values[v]!) / 16) * 16);
  const inSlab = (v: number): boolean => values[v]!.home.in === 'slab';
  const kept = new Set(outputs.map((v) => draft.root(v)).filter(inSlab));
  const accesses: Access[] = [{ reads: [], writes: draft.inputs.filter(inSlab) }];
  for (const a of draft.accesses) accesses.push(a.reads.every(inSlab) ? a : { ...a, reads: a.reads.filter(inSlab) });
  const memory: PlanMemory = request.memory ?? { made: new Map(), habit: {} };
  const gpu = request.caps.kind === 'webgpu';
  const { tight, layout: before, lives, habit } = memory;
  const again =
    lives && String([...kept]) === lives.kept && sameAccesses(accesses, lives.accesses)
      ? lifetimesAgain(lives.found, bytes)
      : null;
  const found = again ?? lifetimes(accesses, bytes, kept);
  const { blocks, conflicts, blockOf } = found;
  const blockAt = (v: number): number | undefined => blockOf.get(draft.root(v));
  const pack = (pairs: Lifetimes['conflicts'], like?: MemoryPlan): MemoryPlan =>
    planSlabs(blocks, pairs, {
      alignment: 256,
      maxSlabBytes: request.caps.kind === 'webgpu' ? request.caps.limits.maxBufferSize : Infinity,
      ...(like ? { like } : {}),
    });
  let layout = (memory.layout = gpu
    ? pack(conflicts, before)
    : planHeap(blocks, { alignment: 64, ...(before ? { like: before } : {}) }));
  let steps: readonly Step[] = draft.steps;
  // Once slabs are shared they stay so: the shaders are there.
  const used = before ? tight !== undefined : habit.shares;
  if (gpu && (used || isWasteful(layout, used === false))) {
    const other = pack(hardConflicts(draft.steps, accesses.slice(1), draft.shaders, blockAt), tight);
    if (used ? other.total <= layout.total : other.total < layout.total) {
      layout = memory.tight = other;
      steps = shared(draft.steps, draft.shaders, blockAt, layout, (shader) => draft.shader(shader));
    }
  }
  if (gpu) habit.shares = steps !== draft.steps;
  memory.lives = { accesses, kept: String([...kept]), found };
  const planned = values.map((v, id): PlannedValue => {
    if (v.home.in !== 'slab') return v;
    const block = blockOf.get(id);
    const place = block === undefined ? undefined : layout.place.get(block);
    return { ...v, home: { in: 'slab', slab: place?.slab ?? 0, offset: place?.offset ?? 0 } };
  });
  return {
    format: 1,
    device: request.caps.kind,
    model: request.model,
    values: planned,
    slabs: layout.slabs.length > 0 ? layout.slabs : [0],
    ...inUse(steps, draft.shaders),
    modules: draft.modules,
    weights: draft.weights,
    faults: draft.faults,
    after: request.after.map((n) => ({ node: n.name, op: n.op })),
    inputs: draft.inputs,
    outputs,
    peakBytes: layout.total,
    lowerBoundBytes: layout.lowerBound,
  };
}

/**
 * The shaders that steps use, and the steps with their new numbers: sharing a slab may have left some without a user.
 */
function inUse(steps: readonly Step[], shaders: readonly PlannedShader[]): Pick<Plan, 'steps' | 'shaders'> {
  const numbers = new Map<number, number>();
  for (const s of steps) if (s.run === 'gpu' && !numbers.has(s.shader)) numbers.set(s.shader, numbers.size);
  if (numbers.size === shaders.length) return { steps, shaders };
  return {
    steps: steps.map((s) => (s.run === 'gpu' ? { ...s, shader: numbers.get(s.shader)! } : s)),
    shaders: [...numbers.keys()].map((n) => shaders[n]!),
  };
}
