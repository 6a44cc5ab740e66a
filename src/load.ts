/** From a source to a graph that is ready to be planned, with word of how far it is. */
import type { CustomOperator } from '../kernels/define.ts';
import { type Definitions, definitionsOf, setsOf } from '../kernels/operators.ts';
import { goOn } from './0-read/bytes.ts';
import type { SetName } from '../kernels/sets.ts';
import { openModel, type ModelSource, type Progress, type ReadOptions } from './0-read/open.ts';
import { type Model, parseModel } from './1-parse/model.ts';
import { operatorsNamed } from './1-parse/operators.ts';
import type { Sparse } from './1-parse/wire.ts';
import { normalize } from './2-optimize/normalize.ts';
import { type Rules, rulesFor } from './2-optimize/passes/index.ts';
import { type Exactness, rewrite, type Trace } from './2-optimize/rewrite.ts';
import { fail, SardonyxError } from './core/errors.ts';
import { type Graph, operatorsIn } from './core/graph.ts';
import type { Plan } from './core/plan.ts';

export interface GraphOptions extends ReadOptions {
  /**
   * Merge operators and rewrite the graph; a list allows only rewrites of these kinds. Default true: 'exact' and
   * 'reassociates'.
   */
  readonly optimize?: boolean | readonly Exactness[];
  /** Operators that Sardonyx does not have, as `defineOperator` of `sardonyx/operators` makes them. */
  readonly operators?: readonly CustomOperator[];
  /** Called with every rewrite of the graph. */
  readonly trace?: (t: Trace) => void;
}

/** A model, parsed and rewritten. Its weights may still lie where they came from. */
export interface Loaded {
  readonly model: Model;
  readonly name: string;
  readonly definitions: Definitions;
  /** What was loaded for its operators. */
  readonly sets: readonly SetName[];
  readonly rules: Rules;
  readonly bytesRead: () => number;
  /** Tells that a plan was made, which is about to be given to its device. */
  planned(plan: Plan): void;
  /** To be called when loading is over. @throws what was found out since, such as integrity_mismatch */
  settle(): Promise<void>;
}

/**
 * Reads a model's graph; `graphOnly`: nothing more, whatever it costs later; `edit` changes it as it was parsed;
 * `needs` is told which sets of operators it has, as its nodes come, and again when it is parsed. @throws what
 * `openModel` and `parseModel` throw, op_unsupported, aborted
 */
export async function loadGraph(
  source: ModelSource,
  options: GraphOptions,
  graphOnly = false,
  edit: (parsed: Graph) => Graph = (g) => g,
  needs: (sets: readonly SetName[]) => void = () => undefined,
): Promise<Loaded> {
  const tell = (phase: Progress['phase'], loaded: number, total: number | null): void =>
    options.onProgress?.({ phase, loaded, total });
  const ahead = (from: Uint8Array | Sparse): void => fetchAhead(setsOf(operatorsNamed(from)), options, needs);
  const opened = await openModel(source, options, graphOnly, ahead);
  const { name, bytesRead } = opened;
  let plan: Plan | null = null;
  let loading = true;
  let read = 0;
  const weights = (): number => plan?.weights.reduce((n, w) => n + w.bytes, 0) ?? 0;
  try {
    tell('parse', 0, 1);
    ahead(opened.from);
    const model = parseModel(opened.from, (file, offset, length) => {
      const bytes = opened.read(file, offset, length);
      if (loading && plan)
        Promise.resolve(bytes).then(
          () => tell('upload', Math.min((read += length), weights()), weights()),
          () => undefined,
        );
      return bytes;
    });
    tell('parse', 1, 1);
    const parsed = edit(model.graph);
    const sets = setsOf(operatorsIn(parsed));
    needs(sets);
    const [own, rules] = await Promise.all([definitionsOf(sets), rulesFor(options.optimize, sets)]);
    const definitions = options.operators
      ? (await import('./custom-operators.ts')).withCustom(own, options.operators)
      : own;
    const normal = normalize(parsed, definitions);
    const graph = sets.includes('rare') ? (await import('./2-optimize/gradient.ts')).expandGradients(normal) : normal;
    return {
      model: { ...model, graph: rewrite(graph, rules.free, definitions, options.trace) },
      name,
      definitions,
      sets,
      rules,
      bytesRead,
      planned: (made) => {
        if (!loading) return;
        plan = made;
        tell('plan', 1, 1);
        tell('compile', 0, made.shaders.length + made.modules.length);
        tell('upload', 0, weights());
      },
      settle: async () => {
        goOn(options);
        await opened.settle();
        if (plan) {
          tell('compile', plan.shaders.length + plan.modules.length, plan.shaders.length + plan.modules.length);
          tell('upload', weights(), weights());
        }
        loading = false;
      },
    };
  } catch (e) {
    await opened.settle().catch(() => undefined);
    throw e instanceof SardonyxError ? e.within(`model ${name}`) : e;
  }
}

/**
 * Asks for what these operators need, while their model comes and is parsed. What is rare may be a function of the
 * model's own, and what fails is asked for again.
 */
function fetchAhead(
  named: readonly SetName[],
  { optimize }: GraphOptions,
  needs: (sets: readonly SetName[]) => void,
): void {
  const sets = named.filter((set) => set !== 'rare');
  needs(sets);
  void Promise.all([definitionsOf(sets), rulesFor(optimize, sets)]).catch(() => undefined);
}

/** What the promise gives, unless the signal comes first; `late` then gets what comes after all. @throws aborted */
export function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  late: (value: T) => unknown,
): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      promise.then(late, () => undefined);
      try {
        fail('aborted', 'loading was aborted');
      } catch (e) {
        reject(e);
      }
    };
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.finally(() => signal.removeEventListener('abort', stop)).then(resolve, reject);
  });
}
