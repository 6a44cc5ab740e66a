/**
 * Runs a graph as a chain of plans. A plan covers all that is known once its inputs' shapes are; where a shape depends
 * on data, the runner looks at the values that decide it, runs what only the host can run, and goes on with a plan for
 * the rest. Plans are kept in a tree keyed by what was seen, so that a second run with the same dims plans nothing.
 */
import { type Op, refCall } from '../kernels/define.ts';
import { specialize, type Specialized, type Work } from './2-optimize/specialize.ts';
import { optimize, type Recipe } from './2-optimize/optimize.ts';
import type { Rules } from './2-optimize/passes/index.ts';
import { rewriteNodes, type Tracer } from './2-optimize/rewrite.ts';
import { makePlan } from './3-plan/make-plan.ts';
import type { Planned, PlanMemory, PlanRequest } from './3-plan/request.ts';
import { type Backend, type Executable, type Held, hostHeld, type HostWork, type Targets } from './4-run/executable.ts';
import { listen } from './4-run/turns.ts';
import { shards } from './devices/index.ts';
import { fail, SardonyxError, within } from './core/errors.ts';
import { constantOf, type Fact, type Facts, type Graph, type Node, readsOf, type ValueId } from './core/graph.ts';
import type { Caps, Plan } from './core/plan.ts';
import { byteLength, bytesOfTensor, isTensor, type Tensor, type Value } from './core/tensor.ts';

/** What all runners of a session share. */
export interface Surroundings {
  readonly model: string;
  readonly ops: ReadonlyMap<string, Op>;
  readonly backend: Backend;
  readonly work: HostWork;
  readonly random: () => number;
  /** Rewrites; none: each operator runs by itself. */
  readonly rules: Rules;
  readonly trace?: Tracer;
  /** What measurement found best, and who is told of nodes as they are placed. */
  readonly planning?: Planning;
  /** Called with every plan that is made. */
  readonly planned: (plan: Plan) => void;
}

export type Planning = Pick<PlanRequest, 'tuning' | 'placed'>;

/** Plans kept for each set of dims at one place of the tree; the least recently used goes first. */
const KEPT = 16;

interface Segment {
  readonly specialized: Specialized;
  readonly executable: Executable | null;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Nodes for the host, in order, once the plan has run. */
  readonly hostNodes: readonly Node[];
  readonly next: Map<string, Segment>;
}

export type Target = (output: number, fact: Fact) => Held | null;

export interface Runner {
  /**
   * Runs the graph. `feeds` has every input and capture. `target` tells where output i of the graph, of that type and
   * shape, should be made; where it was is in the results.
   */
  run(feeds: ReadonlyMap<ValueId, Held>, signal?: AbortSignal, target?: Target): Promise<readonly Held[]>;
  /** Makes the first plan for inputs of these facts, as a run of them would. */
  prepare(inputs: ReadonlyMap<ValueId, Fact>): Promise<void>;
  release(): void;
}

export function makeRunner(graph: Graph, around: Surroundings): Runner {
  const { ops, backend } = around;
  const roots = new Map<string, Segment>();
  const bodies = new Map<Graph, Runner>();

  const recipes: Recipe[] = [];
  const whole: Work = {
    nodes: graph.nodes,
    values: graph.values,
    facts: new Map(),
    opaque: new Set(),
    outputs: graph.outputs,
  };

  /** Facts of what was fed last: those that say the same stay the same, so that nothing is learned from them again. */
  const fed = new Map<ValueId, Fact>();
  function interned(v: ValueId, fact: Fact | null): Fact | null {
    const last = fed.get(v);
    if (fact === null) return null;
    if (last !== undefined && keyOf(v, last) === keyOf(v, fact)) return last;
    fed.set(v, fact);
    return fact;
  }

  /** The segment of this key; made if it is new, and now the most recently used. */
  async function segmentOf(level: Map<string, Segment>, name: string, work: Work): Promise<Segment> {
    const segment = level.get(name) ?? (await makeSegment(work));
    level.delete(name);
    level.set(name, segment);
    if (level.size > KEPT) evict(level);
    return segment;
  }

  async function prepare(inputs: ReadonlyMap<ValueId, Fact>): Promise<void> {
    await segmentOf(roots, [...inputs].map(([v, fact]) => keyOf(v, fact)).join(' '), { ...whole, facts: inputs });
  }

  async function run(
    feeds: ReadonlyMap<ValueId, Held>,
    signal?: AbortSignal,
    target?: Target,
  ): Promise<readonly Held[]> {
    const env = new Map<ValueId, Held>(feeds);
    let work = whole;
    let level = roots;
    let seen: readonly ValueId[] = [...feeds.keys()];
    let demanded: ReadonlySet<ValueId> = new Set();
    let known: Facts = [];
    for (;;) {
      const turn = listen(signal);
      if (turn) await turn;
      const facts = new Map<ValueId, Fact>();
      const opaque = new Set(work.opaque);
      const key: string[] = [];
      for (const v of seen) {
        const held = env.get(v)!;
        const value = demanded.has(v) ? await hostValue(v) : null;
        const fact = interned(v, factOfHeld(held));
        if (fact === null) opaque.add(v);
        else facts.set(v, value !== null && isTensor(value) ? { ...fact, constant: constantOf(value) } : fact);
        key.push(keyOf(v, fact) + (value !== null ? content(value as Tensor) : ''));
      }
      const segment = await segmentOf(level, key.join(' '), { ...work, facts, opaque });

      if (segment.executable !== null) {
        // What comes behind a plan may read what the run was given: only the last one writes where it is told.
        const targets = target && segment.specialized.deferred.length === 0 ? targetsOf(segment, target) : undefined;
        const results = await segment.executable.run(
          segment.inputs.map((v) => env.get(v)!),
          signal,
          undefined,
          targets,
        );
        segment.outputs.forEach((v, i) => env.set(v, results[i]!));
      }
      known = segment.specialized.facts;
      for (const node of segment.hostNodes) await runOnHost(node);
      if (segment.specialized.deferred.length === 0)
        return Promise.all(graph.outputs.map(async (v) => env.get(v) ?? hostHeld(await hostValue(v))));

      const ran = new Set(segment.hostNodes);
      demanded = segment.specialized.demands;
      seen = [
        ...demanded,
        ...segment.hostNodes.flatMap((n) => n.outputs).filter((v): v is ValueId => v !== null && env.has(v)),
      ];
      if (seen.length === 0 && ran.size === 0)
        fail(
          'internal',
          `nothing can go on: ${segment.specialized.deferred
            .slice(0, 3)
            .map((n) => n.name)
            .join(', ')} wait for values that no one makes`,
        );
      work = {
        nodes: segment.specialized.deferred.filter((n) => !ran.has(n)),
        values: segment.specialized.values,
        facts: new Map(),
        known,
        opaque,
        outputs: graph.outputs,
      };
      level = segment.next;

      function targetsOf({ outputs, specialized: { facts } }: Segment, target: Target): Targets {
        return {
          outputs: outputs.map((v) => (graph.outputs.includes(v) ? target(graph.outputs.indexOf(v), facts[v]!) : null)),
          kept: graph.outputs.flatMap((v) => {
            const held = outputs.includes(v) ? undefined : env.get(v);
            return held?.on === 'device' ? [held] : [];
          }),
        };
      }
      async function runOnHost(node: Node): Promise<void> {
        const op = ops.get(node.op)!;
        const inputs = await Promise.all(node.inputs.map((v) => (v === null ? null : hostValue(v))));
        const outputs = await withinAsync(`node ${node.name} (${node.op})`, async () =>
          op.reference(refCall(inputs, node.attrs, node.outputs.length, runBody, around.random)),
        );
        node.outputs.forEach((v, i) => {
          const value = outputs[i];
          if (v !== null && value != null) env.set(v, hostHeld(value));
        });
      }
      async function runBody(body: Graph, inputs: readonly Value[]): Promise<readonly Value[]> {
        let runner = bodies.get(body);
        if (runner === undefined) bodies.set(body, (runner = makeRunner(body, around)));
        if (inputs.length !== body.inputs.length)
          fail('shape_mismatch', `a body takes ${body.inputs.length} inputs and is given ${inputs.length}`);
        const inner = new Map<ValueId, Held>();
        body.inputs.forEach((v, i) => inner.set(v, hostHeld(inputs[i]!)));
        for (const [to, from] of body.captures) inner.set(to, env.get(from) ?? hostHeld(await hostValue(from)));
        return backend.read(await runner.run(inner, signal));
      }
    }

    async function hostValue(v: ValueId): Promise<Value> {
      const held = env.get(v);
      if (held === undefined) {
        const constant = known[v]?.constant ?? graph.values[v]?.constant;
        return constant?.load() ?? fail('internal', `value ${graph.values[v]?.name ?? v} was never made`);
      }
      if (held.on === 'host') return held.value;
      const [value] = await backend.read([held]);
      env.set(v, hostHeld(value!));
      return value!;
    }
  }

  async function makeSegment(work: Work): Promise<Segment> {
    const request = await bindable(
      segmentRequest(work, ops, around.rules, backend.caps, around.trace, recipes),
      ops,
      backend.caps,
    );
    const { plan, constants } = draft(request, around.model, request.ops, backend.caps, around.planning);
    around.planned(plan);
    const executable =
      plan.steps.length === 0 && request.outputs.length === 0
        ? null
        : await backend.instantiate(plan, constants, around.work);
    return {
      specialized: request.specialized,
      executable,
      inputs: request.inputs,
      outputs: request.outputs,
      hostNodes: request.hostNodes,
      next: new Map(),
    };
  }

  return {
    run,
    prepare,
    release: () => {
      for (const s of roots.values()) destroy(s);
      roots.clear();
      for (const r of bodies.values()) r.release();
    },
  };
}

export interface SegmentRequest {
  readonly specialized: Specialized;
  readonly nodes: readonly Node[];
  readonly facts: Facts;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  readonly hostNodes: readonly Node[];
  readonly nameOf: (v: ValueId) => string;
  /** How the nodes were found, where the same was done before at other dims. */
  readonly recipe?: Recipe;
}

/** Graphs with quantised layers as products of bytes, which the CPU has kernels for, by the nodes they were made of. */
const BYTES = new WeakMap<readonly Node[], Pick<Work, 'nodes' | 'values'>>();
function inBytes(work: Work, ops: ReadonlyMap<string, Op>, rules: Rules, caps: Caps, trace?: Tracer): Work {
  if (caps.kind !== 'wasm' || rules.bytes.length === 0 || !work.nodes.some((n) => n.op.endsWith('QuantizeLinear')))
    return work;
  let made = BYTES.get(work.nodes);
  if (made === undefined)
    BYTES.set(
      work.nodes,
      (made = rewriteNodes<Pick<Work, 'nodes' | 'values'>>(work, new Set(work.outputs), rules.bytes, ops, trace)),
    );
  return { ...work, nodes: made.nodes, values: made.values };
}

/** Binds, fuses, and says what the plan of this part reads and makes. */
export function segmentRequest(
  work: Work,
  ops: ReadonlyMap<string, Op>,
  rules: Rules,
  caps: Caps,
  trace?: Tracer,
  recipes?: Recipe[],
): SegmentRequest {
  const specialized = specialize(inBytes(work, ops, rules, caps, trace), ops);
  const wanted = new Set<ValueId>([...work.outputs, ...specialized.demands, ...specialized.deferred.flatMap(readsOf)]);
  const { nodes, facts, values, recipe } = optimize(specialized, wanted, ops, rules, caps, trace, recipes);
  const met = new Uint8Array(values.length);
  const inputs: ValueId[] = []; // 1: made, 2: read from outside
  for (const node of nodes) for (const v of node.outputs) if (v !== null) met[v] = 1;
  for (const node of nodes)
    for (const v of readsOf(node)) {
      if (met[v] !== 0) continue;
      met[v] = 2;
      if (facts[v]?.constant === undefined) inputs.push(v);
    }
  const outputs = [...wanted].filter((v) => met[v] === 1);
  return {
    specialized,
    nodes,
    facts,
    inputs,
    outputs,
    hostNodes: specialized.deferred.filter((n) => specialized.dynamic.has(n)),
    nameOf: (v) => values[v]?.name ?? `value ${v}`,
    ...(recipe ? { recipe } : {}),
  };
}

/** The request with what this device cannot bind at once in shards, and the operators that run it. */
export async function bindable(
  request: SegmentRequest,
  ops: ReadonlyMap<string, Op>,
  caps: Caps,
): Promise<SegmentRequest & { readonly ops: ReadonlyMap<string, Op> }> {
  const { nodes, facts } = request;
  const most = caps.kind === 'webgpu' ? caps.limits.maxStorageBufferBindingSize : Infinity;
  const isWide = (v: ValueId | null): boolean => v !== null && byteLength(facts[v]!) > most;
  if (most === Infinity || !nodes.some((n) => n.inputs.some(isWide) || n.outputs.some(isWide)))
    return { ...request, ops };
  const { inShards, withShards } = await shards();
  return { ...inShards(request, ops, most), ops: withShards(ops) };
}

export function draft(
  request: SegmentRequest,
  model: string,
  ops: ReadonlyMap<string, Op>,
  caps: Caps,
  planning: Planning = {},
): Planned {
  return within(`model ${model}`, () =>
    makePlan(
      {
        model,
        caps,
        nodes: request.nodes,
        facts: request.facts,
        nameOf: request.nameOf,
        after: request.hostNodes,
        inputs: request.inputs,
        outputs: request.outputs,
        ...planning,
        ...(request.recipe ? { memory: memoryOf(request.recipe) } : {}),
      },
      ops,
    ),
  );
}

/** What the last plan of each recipe learned of its kernels, and what plans of one graph do alike. */
const MEMORIES = new WeakMap<Recipe, PlanMemory>();
const HABITS = new WeakMap<object, PlanMemory['habit']>();
function memoryOf(recipe: Recipe): PlanMemory {
  let memory = MEMORIES.get(recipe);
  let habit = HABITS.get(recipe.family);
  if (habit === undefined) HABITS.set(recipe.family, (habit = {}));
  if (memory === undefined) MEMORIES.set(recipe, (memory = { made: new Map(), habit }));
  return memory;
}

const factOfHeld = (held: Held): Fact | null =>
  held.on === 'device'
    ? { dtype: held.dtype, shape: held.shape }
    : isTensor(held.value)
      ? { dtype: held.value.dtype, shape: held.value.shape }
      : null;

/** What a plan depends on in a value: nothing but its type and shape. */
const keyOf = (v: ValueId, fact: Fact | null): string =>
  fact === null ? `${v}:-` : `${v}:${fact.dtype}[${fact.shape}]`;

/** The contents of a demanded value, as part of a key. */
const content = (t: Tensor): string =>
  `=${t.dtype === 'string' ? JSON.stringify(t.data) : Array.from(bytesOfTensor(t), (b) => String.fromCharCode(b)).join('')}`;

function evict(level: Map<string, Segment>): void {
  const [oldest] = level.keys();
  destroy(level.get(oldest!)!);
  level.delete(oldest!);
}
function destroy(segment: Segment): void {
  segment.executable?.destroy();
  for (const s of segment.next.values()) destroy(s);
}

async function withinAsync<T>(place: string, f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (e) {
    throw e instanceof SardonyxError ? e.within(place) : e;
  }
}
