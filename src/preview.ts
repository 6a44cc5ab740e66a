/** A plan before there is a device: `planModel` of `index.ts` loads this when it is called. */
import { equip } from '../kernels/operators.ts';
import { isRemote, type ModelSource } from './0-read/open.ts';
import { type Fit, fitOf } from './3-plan/fits.ts';
import { leaving, type Leaving } from './3-plan/leaving.ts';
import { fail } from './core/errors.ts';
import type { Constant, Graph } from './core/graph.ts';
import { BASE_GPU, BASE_WASM, type Caps, type Plan } from './core/plan.ts';
import { kernelsFor } from './devices/index.ts';
import { inputFacts } from './feeds.ts';
import { loadGraph } from './load.ts';
import { bindable, draft, segmentRequest } from './runner.ts';
import type { Dims, SessionOptions, SessionTools } from './session.ts';

export interface PlanOptions
  extends Pick<SessionOptions, 'optimize' | 'operators' | 'trace' | 'externalData' | 'signal' | 'fetch'> {
  /** Sizes of the free dims, as a session takes them. */
  readonly dims?: Dims;
  /** What to plan for, with what every such device offers. Default 'webgpu'. */
  readonly device?: 'webgpu' | 'wasm' | 'reference';
  /** The machine to plan for, in place of `device`. */
  readonly caps?: Caps;
  /**
   * Read no more than the graph, even of a model so small that a session reads it whole: weights then take no part in
   * rewriting, and the plan may have a few more steps. Default: true for URLs, else false.
   */
  readonly graphOnly?: boolean;
  /** Bytes that weights and activations may take together, for `fits`. Default: what the device's limits allow. */
  readonly memory?: number;
}

/** A plan made without a device, and what else can be told before a model is loaded. */
export interface Preview extends Fit {
  readonly plan: Plan;
  readonly constants: readonly Constant[];
  /** False where a shape depends on data: the plan ends there. */
  readonly complete: boolean;
  readonly graph: Graph;
  /** Nodes that would leave the device, and why. */
  readonly left: readonly Leaving[];
  /**
   * Bytes of the source that were read: of a file, a Blob, a URL with ranges or `{ size, read }`, those of the graph
   * without its weights.
   */
  readonly bytesRead: number;
}

/**
 * The plan of a model at these dims, made without any device and without its weights: where every node would run, what
 * it copies, what memory it needs, whether a machine has room for it. Where shapes depend on data it covers the model
 * up to there. `tools.freeDims`: the size of dims that `dims` does not name.
 * @throws what `Session.load` throws, dimension_unbound, option_invalid
 */
export async function planModel(
  source: ModelSource,
  options: PlanOptions = {},
  tools: Pick<SessionTools, 'placed'> & { readonly freeDims?: number } = {},
): Promise<Preview> {
  const { device = 'webgpu', memory } = options;
  if (!['webgpu', 'wasm', 'reference'].includes(device))
    fail('option_invalid', `a plan is made for 'webgpu', 'wasm' or 'reference', not for ${JSON.stringify(device)}`);
  if (memory !== undefined && !(memory >= 0))
    fail('option_invalid', `memory is a number of bytes, not ${JSON.stringify(memory)}`);
  const loaded = await loadGraph(source, options, options.graphOnly ?? isRemote(source));
  const {
    model: { graph },
    name,
    definitions,
    sets,
    rules,
  } = loaded;
  const caps =
    options.caps ??
    (device === 'wasm' ? BASE_WASM : device === 'reference' ? { kind: 'reference' as const } : BASE_GPU);
  const ops = equip(definitions, await kernelsFor(caps.kind, sets));
  const facts = inputFacts(graph, options.dims ?? {}, tools.freeDims);
  const request = await bindable(
    segmentRequest(
      { nodes: graph.nodes, values: graph.values, facts, opaque: new Set(), outputs: graph.outputs },
      ops,
      rules,
      caps,
      options.trace,
    ),
    ops,
    caps,
  );
  const { plan, constants } = draft(request, name, request.ops, caps, tools.placed ? { placed: tools.placed } : {});
  await loaded.settle();
  return {
    plan,
    constants,
    complete: request.specialized.deferred.length === 0,
    graph,
    left: leaving(plan),
    bytesRead: loaded.bytesRead(),
    ...fitOf(plan, caps, memory),
  };
}
