/** Finds the node at which two devices part. */
import { fail } from '../core/errors.ts';
import type { Graph, Node, ValueId } from '../core/graph.ts';
import type { Value } from '../core/tensor.ts';
import { Session, type SessionOptions } from '../session.ts';
import { type Comparison, compareValues, type Tolerance } from './compare.ts';

/** A value that was compared: what node makes it, and how far the devices are apart. */
export interface Compared {
  readonly value: string;
  readonly node: string;
  readonly op: string;
  readonly position: number;
  readonly comparison: Comparison;
}

export interface Difference {
  /** All that was compared, in the graph's order. */
  readonly compared: readonly Compared[];
  /** The values that differ though all that their nodes read agrees; null where nothing differs. */
  readonly first: Compared | null;
  /** Nodes that are to blame: one, or, where each agrees by itself, those that the device had merged. */
  readonly nodes: readonly Node[];
  /** True where the nodes differ only together. */
  readonly merged: boolean;
  readonly graph: Graph;
  /** Versions of operators by domain. */
  readonly runs: number;
}

export interface Search {
  readonly source: string;
  /** The device in question and the one that is believed. */
  readonly devices: readonly [SessionOptions['device'], SessionOptions['device']];
  readonly feeds: (session: Session) => Promise<Readonly<Record<string, Value>>>;
  readonly tolerance: Tolerance;
  readonly options?: SessionOptions;
  readonly onProgress?: (what: string) => void;
}

/** Values that a round looks at, so that no more than these are kept. */
const WATCHED = 12;

/**
 * Runs the model on both devices, with a few values in the middle made outputs, and closes in on the first that
 * differs: from the last values that agree to the first that do not, in the graph's order. Then the inputs of its node
 * are looked at: as long as one of them differs, the search goes on from there.
 */
export async function firstDifference(search: Search): Promise<Difference> {
  const { tolerance, onProgress = () => undefined } = search;
  const known = new Map<ValueId, Compared>();
  let graph: Graph | null = null;
  let runs = 0;

  /** Values of one device by id; `watched` become outputs. */
  const valuesOn = async (
    device: SessionOptions['device'],
    watched: readonly ValueId[],
  ): Promise<Map<ValueId, Value>> => {
    runs++;
    await using session = await Session.load(
      search.source,
      { ...search.options, device: device! },
      { edit: (parsed) => ({ ...(graph = parsed), outputs: [...new Set([...parsed.outputs, ...watched])] }) },
    );
    const results = await session.run(await search.feeds(session));
    return new Map([...new Set([...graph!.outputs, ...watched])].map((v) => [v, results[graph!.values[v]!.name]!]));
  };
  /** Which of `watched` and the outputs differ in a run that looks at `watched`; what was not known before, is now. */
  const look = async (watched: readonly ValueId[]): Promise<ReadonlySet<ValueId>> => {
    const open = [...watched];
    onProgress(`run ${runs / 2 + 1}: ${open.map((v) => graph!.values[v]!.name).join(', ') || 'outputs'}`);
    const want = await valuesOn(search.devices[1], open);
    const got = await valuesOn(search.devices[0], open);
    const maker = new Map(
      graph!.nodes.flatMap((n, position) =>
        n.outputs.flatMap((v) => (v === null ? [] : [[v, { n, position }] as const])),
      ),
    );
    const wrong = new Set<ValueId>();
    for (const [v, w] of want) {
      const by = maker.get(v);
      const name = graph!.values[v]!.name;
      const comparison = compareValues(got.get(v)!, w, tolerance, name);
      if (comparison.mismatch) wrong.add(v);
      if (by && !known.has(v))
        known.set(v, { value: name, node: by.n.name, op: by.n.op, position: by.position, comparison });
    }
    return wrong;
  };

  await look([]);
  const { nodes, outputs } = graph!;
  const differs = (v: ValueId): boolean => known.get(v)?.comparison.mismatch != null;
  const compared = (): Compared[] => [...known.values()].sort((a, b) => a.position - b.position);
  const none = { compared: compared(), first: null, nodes: [], merged: false, graph: graph!, runs };
  const finals = outputs.filter(differs);
  if (finals.length === 0) return none;

  // Every value in the order it is made; the first known difference, and the last agreement before it, close in on each
  // other.
  const order = nodes.flatMap((n) =>
    n.outputs.filter((v): v is ValueId => v !== null && graph!.values[v]!.name !== ''),
  );
  const place = new Map(order.map((v, i) => [v, i]));
  let bad = finals.reduce((a, b) => (place.get(a)! < place.get(b)! ? a : b));
  const narrow = async (from: number): Promise<void> => {
    for (let low = from, high = place.get(bad)!; high - low > 1; ) {
      const step = Math.max(1, Math.ceil((high - low) / (WATCHED + 1)));
      const probes = Array.from({ length: WATCHED }, (_, i) => low + (i + 1) * step).filter((p) => p < high);
      const wrong = await look([...probes.map((p) => order[p]!), bad]);
      if (wrong.size === 0) return alone(low, high);
      const hit = probes.find((p) => differs(order[p]!));
      if (hit !== undefined) high = hit;
      low = [...probes].reverse().find((p) => p < high && !differs(order[p]!)) ?? low;
      bad = order[high]!;
      if (step === 1) break;
    }
  };
  /** Looking at several values kept nodes from being merged, and all was well: so one at a time. */
  const alone = async (from: number, to: number): Promise<void> => {
    for (let low = from, high = to; high - low > 1; ) {
      const middle = (low + high) >> 1;
      const v = order[middle]!;
      known.delete(v);
      if ((await look([v])).has(v)) bad = order[(high = middle)]!;
      else low = middle;
    }
  };
  await narrow(-1);
  // A value off the line between the probes may have differed earlier.
  for (;;) {
    const node = nodes.find((n) => n.outputs.includes(bad))!;
    const reads = node.inputs.filter((v): v is ValueId => v !== null && place.has(v));
    const unknown = reads.filter((v) => !known.has(v));
    for (let i = 0; i < unknown.length; i += WATCHED) await look(unknown.slice(i, i + WATCHED));
    const earlier = reads.find(differs);
    if (earlier === undefined) {
      const merged = await onlyTogether(node);
      return {
        compared: compared(),
        first: known.get(bad)!,
        nodes: merged ?? [node],
        merged: merged !== null,
        graph: graph!,
        runs,
      };
    }
    bad = earlier;
  }

  /**
   * Looking at a value keeps the device from merging its node into the next. If, with the node's inputs looked at in
   * the same run, the node agrees, what differs is what it was merged with: the nodes that make those inputs, as far
   * back as values agree only because they were looked at.
   */
  async function onlyTogether(node: Node): Promise<Node[] | null> {
    const reads = node.inputs.filter((v): v is ValueId => v !== null && place.has(v)).slice(0, WATCHED);
    if (reads.length === 0) return null;
    if ((await look([...reads, bad])).has(bad)) return null;
    const makers = nodes.filter((n) => n.outputs.some((v) => v !== null && reads.includes(v)));
    return makers.length > 0 ? [...makers, node] : fail('internal', 'a value that no node makes was compared');
  }
}
