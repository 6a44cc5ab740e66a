import type { Call, GpuKernel, Launch, WasmKernel, WasmLaunch } from '../../kernels/define.ts';
import type { Access, Lifetimes } from '../../memory/lifetimes.ts';
import type { MemoryPlan } from '../../memory/plan.ts';
import type { Constant, Facts, Node, ValueId } from '../core/graph.ts';
import type { Caps, Plan, PlannedShader } from '../core/plan.ts';
import type { Chosen, Tuning } from './choose.ts';

/** Nodes with all facts known, and what the caller brings and wants. */
export interface PlanRequest {
  readonly model: string;
  readonly nodes: readonly Node[];
  readonly facts: Facts;
  readonly nameOf: (v: ValueId) => string;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Nodes that the host runs behind the plan. */
  readonly after: readonly Node[];
  readonly caps: Caps;
  readonly tuning?: Tuning;
  /** Called with every node that is placed on a device, as its kernel sees it. */
  readonly placed?: (node: Node, call: Call) => void;
  /** What kernels made of the same nodes at other dims; this plan's takes its place. */
  readonly memory?: PlanMemory;
}
export interface PlanMemory {
  /**
   * By the first output of a node: how it was last placed. A call that says the same as then is not asked about again,
   * and a shader that is put together alike is the same.
   */
  readonly made: Map<ValueId, Made>;
  /** What steps did with memory, and how long blocks lived. */
  lives?: { readonly accesses: readonly Access[]; readonly kept: string; readonly found: Lifetimes };
  /** Where blocks went, and where they went when all that can share slabs did. */
  layout?: MemoryPlan;
  tight?: MemoryPlan;
  /**
   * Of all plans of a graph, at dims of any class: whether the last one's steps shared slabs. What they do else takes
   * other shaders.
   */
  readonly habit: { shares?: boolean };
}
export interface Made {
  readonly call: Call;
  readonly gpu?: Chosen<GpuKernel, Launch> | undefined;
  readonly wasm?: Chosen<WasmKernel, WasmLaunch> | undefined;
  readonly shaders: PlannedShader[];
}

/** A plan, and the constants that it refers to by number. */
export interface Planned {
  readonly plan: Plan;
  readonly constants: readonly Constant[];
}
