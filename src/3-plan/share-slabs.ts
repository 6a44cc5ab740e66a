/**
 * Steps that read and write one slab. WebGPU refuses a buffer that one dispatch binds both read-only and writable, but
 * takes disjoint ranges of it that are all bound writable. So a step may have its input beside its output in a slab if
 * its shader declares both read_write: another text, and another pipeline. That is done where memory would otherwise be
 * wasted, and nowhere else.
 */
import type { Access } from '../../memory/lifetimes.ts';
import type { MemoryPlan } from '../../memory/plan.ts';
import type { GpuStep, PlannedShader, Step } from '../core/plan.ts';

/**
 * Is what a plan needs so far above the least possible that it is worth the other shaders? Of a few kilobytes more may
 * go, and much more `again`, where a plan of the same graph did without: all its shaders would have to be compiled anew
 * for other dims.
 */
export function isWasteful({ total, lowerBound }: MemoryPlan, again: boolean): boolean {
  const waste = total - lowerBound;
  return again ? waste > Math.max(0.35 * lowerBound, 2 ** 20) : waste > (waste > 65536 ? 0.15 : 0.19) * lowerBound;
}

/** Values, by number: the block that holds them, undefined for what is outside the slabs. */
type BlockOf = (value: number) => number | undefined;

/** Modules whose invocations meet where uniforms alone say, though they share what they read. */
const UNIFORM = /^(norm_group|norm_skip_group|softmax_group|pool_global_group|attention_row)$/;

/** What was found out about shaders: whether what they read may be writable, and their texts with it writable. */
const MAY = new WeakMap<PlannedShader, boolean>();
const TURNED = new WeakMap<PlannedShader, Map<string, PlannedShader>>();

/**
 * Could the step bind all it reads as writable? Not if two bindings overlap; nor where what is read may decide who
 * meets at a barrier.
 */
function canShare(step: GpuStep, shader: PlannedShader, blockOf: BlockOf): boolean {
  let may = MAY.get(shader);
  if (may === undefined)
    MAY.set(
      shader,
      (may = !/subgroup/.test(shader.code) && (!/workgroupUniformLoad/.test(shader.code) || UNIFORM.test(shader.name))),
    );
  if (!may) return false;
  const blocks = step.bind.flatMap((b) => ('value' in b ? [blockOf(b.value)] : [])).filter((b) => b !== undefined);
  return new Set(blocks).size === blocks.length;
}

/**
 * Conflicts that stay when all steps that can share do. `accesses[i]` is what step i does with memory; undefined for a
 * step before all.
 */
export function hardConflicts(
  steps: readonly Step[],
  accesses: readonly Access[],
  shaders: readonly PlannedShader[],
  blockOf: BlockOf,
): [number, number][] {
  const pairs = new Map<number, [number, number]>();
  steps.forEach((step, i) => {
    if (step.run === 'gpu' && canShare(step, shaders[step.shader]!, blockOf)) return;
    for (const w of accesses[i]!.writes)
      for (const r of accesses[i]!.reads) {
        const [a, b] = [blockOf(w), blockOf(r)];
        if (a === undefined || b === undefined || a === b) continue;
        const pair: [number, number] = a < b ? [a, b] : [b, a];
        pairs.set(pair[0] * 2 ** 26 + pair[1], pair);
      }
  });
  return [...pairs.values()];
}

/**
 * The steps with shaders that bind writable what lies in a slab that they write. New shaders are appended by `add`,
 * which gives their number.
 */
export function shared(
  steps: readonly Step[],
  shaders: readonly PlannedShader[],
  blockOf: BlockOf,
  layout: MemoryPlan,
  add: (shader: PlannedShader) => number,
): Step[] {
  const slabOf = (value: number): number | undefined => {
    const block = blockOf(value);
    return block === undefined ? undefined : layout.place.get(block)!.slab;
  };
  return steps.map((step) => {
    if (step.run !== 'gpu') return step;
    const shader = shaders[step.shader]!;
    const slabs = step.bind.map((b) => ('value' in b ? slabOf(b.value) : undefined));
    const written = new Set(slabs.filter((s, i) => s !== undefined && shader.layout[i] === 'read_write'));
    const turned = shader.layout.map((access, i) => access === 'read' && written.has(slabs[i]));
    if (!turned.includes(true)) return step;
    let known = TURNED.get(shader);
    if (known === undefined) TURNED.set(shader, (known = new Map()));
    let other = known.get(String(turned));
    if (other === undefined) {
      const code = shader.code.replace(/@binding\((\d+)\) var<storage, read>/g, (text, n) =>
        turned[Number(n)] ? `@binding(${n}) var<storage, read_write>` : text,
      );
      known.set(
        String(turned),
        (other = { ...shader, code, layout: shader.layout.map((access, i) => (turned[i] ? 'read_write' : access)) }),
      );
    }
    return { ...step, shader: add(other) };
  });
}
