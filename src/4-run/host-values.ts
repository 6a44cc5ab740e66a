import { fail, SardonyxError } from '../core/errors.ts';
import type { Constant } from '../core/graph.ts';
import type { HostStep, Plan } from '../core/plan.ts';
import { isTensor, type Tensor, type Value } from '../core/tensor.ts';
import type { HostWork } from './executable.ts';

/** The JavaScript side of a plan's values while it runs. */
export interface HostValues {
  get(v: number): Value;
  set(v: number, value: Value): void;
  /** Runs a host step; a promise only if the reference is asynchronous. */
  run(step: HostStep): void | Promise<void>;
  clear(): void;
}

/** `constants` are loaded already: the ones that host steps read. */
export function hostValues(plan: Plan, constants: ReadonlyMap<number, Tensor>, work: HostWork): HostValues {
  const values = new Map<number, Value>();
  const get = (v: number): Value => {
    const found = values.get(v);
    if (found !== undefined) return found;
    const { home, shape, name } = plan.values[v]!;
    if (home.in === 'constant') return constants.get(home.constant)!;
    if (home.in === 'view') {
      const base = get(home.of);
      return isTensor(base) ? { dtype: base.dtype, shape, data: base.data } : base;
    }
    throw new SardonyxError('internal', `value ${name} has no host copy`);
  };
  const store = (step: HostStep, outputs: readonly (Value | null)[]): void => {
    step.outputs.forEach((v, i) => {
      const value = outputs[i];
      if (v === null || value == null) return;
      const { dtype, shape, name } = plan.values[v]!;
      if (
        isTensor(value) &&
        (value.dtype !== dtype || value.shape.length !== shape.length || value.shape.some((d, k) => d !== shape[k]))
      ) {
        fail('op_failed', `${name} was planned as ${dtype}[${shape}] and came out as ${value.dtype}[${value.shape}]`);
      }
      values.set(v, value);
    });
  };
  return {
    get,
    set: (v, value) => {
      values.set(v, value);
    },
    run: (step) => {
      const place = (e: unknown): never => {
        throw e instanceof SardonyxError
          ? e.within(`node ${step.node} (${step.op})`)
          : new SardonyxError('internal', `${e instanceof Error ? e.message : e}`, [`node ${step.node} (${step.op})`], {
              cause: e,
            });
      };
      try {
        const outputs = work.run(
          step,
          step.inputs.map((v) => (v === null ? null : get(v))),
        );
        if (outputs instanceof Promise) return outputs.then((o) => store(step, o)).catch(place);
        store(step, outputs);
      } catch (e) {
        place(e);
      }
    },
    clear: () => values.clear(),
  };
}

/** Loads the constants that the plan's host values refer to. */
export async function hostConstants(plan: Plan, constants: readonly Constant[]): Promise<Map<number, Tensor>> {
  const wanted = new Set(plan.values.flatMap((v) => (v.home.in === 'constant' ? [v.home.constant] : [])));
  const loaded = new Map<number, Tensor>();
  for (const n of wanted) loaded.set(n, await constants[n]!.load());
  return loaded;
}
