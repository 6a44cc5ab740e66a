/**
 * The range of every float that a model makes: where values first stop being numbers, and which would not fit float16.
 */
import { isFloat } from '../core/dtype.ts';
import type { Graph, ValueId } from '../core/graph.ts';
import { numbers } from '../core/numbers.ts';
import { isTensor, type Tensor, type Value } from '../core/tensor.ts';
import { Session, type SessionOptions } from '../session.ts';

/** The largest finite float16; larger ones become infinite in it. */
export const HALF_MAX = 65504;

/** Of one value: its ends among the finite elements, and how many are not finite. */
export interface Range {
  readonly value: string;
  readonly node: string;
  readonly op: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly min: number;
  readonly max: number;
  readonly nan: number;
  readonly infinite: number;
}

export interface Ranges {
  /** In the graph's order. */
  readonly all: readonly Range[];
  /** Those that hold NaN or infinities though all that their nodes read is finite. */
  readonly broken: readonly Range[];
  readonly runs: number;
}

export interface Question {
  readonly source: string;
  readonly device: NonNullable<SessionOptions['device']>;
  readonly feeds: (session: Session) => Promise<Readonly<Record<string, Value>>>;
  readonly options?: SessionOptions;
  readonly onProgress?: (what: string) => void;
}

/** Values that one run looks at, so that no more than these are kept. */
const WATCHED = 64;

/**
 * Runs the model with its values made outputs, some at a time, which keeps nodes from being merged: each is as its node
 * makes it.
 */
export async function rangesOf({ source, device, feeds, options, onProgress }: Question): Promise<Ranges> {
  let graph: Graph | null = null;
  const found = new Map<ValueId, Range>();
  const run = async (pick: (parsed: Graph) => readonly ValueId[]): Promise<Readonly<Record<string, Value>>> => {
    let watched: readonly ValueId[] = [];
    await using session = await Session.load(
      source,
      { ...options, device },
      {
        edit: (parsed) => ({
          ...(graph = parsed),
          outputs: [...new Set([...parsed.outputs, ...(watched = pick(parsed))])],
        }),
      },
    );
    const given = await feeds(session);
    const results = await session.run(given);
    const maker = new Map(graph!.nodes.flatMap((n) => n.outputs.map((v) => [v, n] as const)));
    for (const v of new Set([...graph!.outputs, ...watched])) {
      const value = results[graph!.values[v]!.name];
      const node = maker.get(v);
      if (node && value && isTensor(value) && isFloat(value.dtype))
        found.set(v, {
          value: graph!.values[v]!.name,
          node: node.name,
          op: node.op,
          dtype: value.dtype,
          shape: value.shape,
          ...endsOf(value),
        });
    }
    return given;
  };
  let runs = 1;
  const given = await run(() => []);
  const order = graph!.nodes.flatMap((n) =>
    n.outputs.filter((v): v is ValueId => v !== null && graph!.values[v]!.name !== ''),
  );
  const open = order.filter((v) => !found.has(v) && !graph!.outputs.includes(v));
  for (let i = 0; i < open.length; i += WATCHED, runs++) {
    onProgress?.(`run ${runs + 1} of ${1 + Math.ceil(open.length / WATCHED)}`);
    await run(() => open.slice(i, i + WATCHED));
  }
  const finite = async (v: ValueId | null): Promise<boolean> => {
    if (v === null) return true;
    const made = found.get(v);
    if (made) return made.nan + made.infinite === 0;
    const { constant, name } = graph!.values[v]!;
    const value = constant ? await constant.load() : given[name];
    if (!value || !isTensor(value) || !isFloat(value.dtype)) return true;
    const { nan, infinite } = endsOf(value);
    return nan + infinite === 0;
  };
  const all: Range[] = [];
  const broken: Range[] = [];
  for (const node of graph!.nodes) {
    const made = node.outputs.flatMap((v) => (v !== null && found.has(v) ? [found.get(v)!] : []));
    all.push(...made);
    const odd = made.filter((r) => r.nan + r.infinite > 0);
    if (odd.length > 0 && (await Promise.all(node.inputs.map(finite))).every(Boolean)) broken.push(...odd);
  }
  return { all, broken, runs };
}

function endsOf(t: Tensor): Pick<Range, 'min' | 'max' | 'nan' | 'infinite'> {
  const all = numbers(t);
  let [min, max, nan, infinite] = [Infinity, -Infinity, 0, 0];
  for (let i = 0; i < all.length; i++) {
    const x = all[i]!;
    if (x !== x) nan++;
    else if (x === Infinity || x === -Infinity) infinite++;
    else {
      if (x < min) min = x;
      if (x > max) max = x;
    }
  }
  return { min, max, nan, infinite };
}
