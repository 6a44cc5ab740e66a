/** What runs where, found out by asking the planner about every operator's examples. */
import type { Op } from '../../kernels/define.ts';
import { dtypesOf, type Example } from '../../kernels/examples.ts';
import { ops } from '../../kernels/index.ts';
import type { DType } from '../core/dtype.ts';
import { SardonyxError } from '../core/errors.ts';
import { BASE_GPU, BASE_WASM, type Caps } from '../core/plan.ts';
import { planModel, Session } from '../index.ts';
import { encodeExample, exampleModel, examples, isInternal } from './example-model.ts';

/**
 * Where a node runs: by kernels of the device; as a view, without work; before any run, its value being known; on the
 * host by its reference; on the host, because only data tells its outputs' shapes; or nowhere, the types being refused.
 */
type Place = 'kernel' | 'view' | 'load' | 'host' | 'data' | 'refused';
/** `webgpu` is a GPU with nothing beyond WebGPU's defaults, `f16` one that also has shader-f16. */
const MACHINES: Readonly<Record<'reference' | 'wasm' | 'webgpu' | 'f16', Caps>> = {
  reference: { kind: 'reference' },
  wasm: BASE_WASM,
  webgpu: BASE_GPU,
  f16: { ...BASE_GPU, features: ['shader-f16'], f16: true },
};
type Machine = keyof typeof MACHINES;

/** Where the example runs with T standing for `dtype`. @throws what is no refusal */
export async function placeOf(example: Example, op: Op, dtype: DType, machine: Machine): Promise<Place> {
  try {
    if (op.dynamic === true) {
      if (machine === 'reference') await runOnce(example, op, dtype);
      return 'data';
    }
    const { plan, complete, left } = await planModel(encodeExample(exampleModel(example, op, dtype)), {
      caps: MACHINES[machine],
    });
    if (!complete) return 'data';
    if (left.length > 0 || (plan.steps.length > 0 && plan.steps.every((s) => s.run === 'host'))) return 'host';
    if (plan.steps.some((s) => s.run === 'gpu' || s.run === 'wasm')) return 'kernel';
    return plan.outputs.length === 0 ? 'load' : 'view';
  } catch (e) {
    if (e instanceof SardonyxError && REFUSAL.has(e.code)) return 'refused';
    throw e;
  }
}
/** Where data decides shapes there is no plan to look at; the reference says what it refuses. */
async function runOnce(example: Example, op: Op, dtype: DType): Promise<void> {
  const model = exampleModel(example, op, dtype);
  const session = await Session.load(encodeExample(model), { device: 'reference' });
  await session.run(model.feeds).finally(() => session.release());
}
const REFUSAL: ReadonlySet<string> = new Set(['type_mismatch', 'attribute_invalid', 'op_unsupported']);

/** What one device does with an operator. */
export interface Support {
  /** Dtypes for which every example runs by its kernels, and those for which only some do. */
  readonly dtypes: readonly DType[];
  readonly some: readonly DType[];
  /** Where the rest runs. */
  readonly rest: Exclude<Place, 'kernel' | 'refused'> | null;
}
export interface Row {
  readonly op: string;
  readonly since: readonly number[];
  /** It runs other operators, in bodies that are planned by themselves. */
  readonly bodies: boolean;
  /** Dtypes of the operator's main type that its reference takes. */
  readonly reference: readonly DType[];
  readonly wasm: Support;
  readonly webgpu: Support;
  /** Dtypes that a GPU with shader-f16 takes beyond these. */
  readonly f16: readonly DType[];
}

/** The rows of the table, by name; `only` chooses operators. */
export async function supportRows(only: (op: string) => boolean = () => true): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const op of ops.values()) if (!isInternal(op.op) && only(op.op)) rows.push(await rowOf(op));
  return rows.sort((a, b) => (a.op < b.op ? -1 : 1));
}

async function rowOf(op: Op): Promise<Row> {
  const own = examples.filter((e) => e.op === op.op);
  const taken = new Map<DType, Example[]>();
  for (const example of own)
    for (const dtype of dtypesOf(example, op)) {
      if ((await placeOf(example, op, dtype, 'reference')) !== 'refused')
        taken.set(dtype, [...(taken.get(dtype) ?? []), example]);
    }
  const reference = [...taken.keys()];
  const support = async (machine: Machine, of: readonly DType[]): Promise<Support> => {
    const dtypes: DType[] = [];
    const some: DType[] = [];
    let rest: Support['rest'] = null;
    for (const dtype of of) {
      const places = await Promise.all(taken.get(dtype)!.map((example) => placeOf(example, op, dtype, machine)));
      const kernels = places.filter((p) => p === 'kernel').length;
      if (kernels === places.length) dtypes.push(dtype);
      else if (kernels > 0) some.push(dtype);
      const other = places.find((p) => p !== 'kernel');
      if (other !== undefined && rest !== 'host') rest = other as Support['rest'];
    }
    return { dtypes, some, rest };
  };
  const [wasm, webgpu] = [await support('wasm', reference), await support('webgpu', reference)];
  const f16 = await support(
    'f16',
    reference.filter((d) => !webgpu.dtypes.includes(d)),
  );
  return {
    op: op.op,
    since: op.since,
    bodies: Object.values(op.attrs).some((a) => (a as { kind: string }).kind === 'graph'),
    reference,
    wasm,
    webgpu,
    f16: f16.dtypes,
  };
}
