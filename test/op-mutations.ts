/** Calls of operators made wrong: one change each to a call that works. */
import { type AttrKind, FLOAT, type Op } from '../kernels/define.ts';
import type { AttrText } from '../src/cli/encode-model.ts';
import type { ExampleModel } from '../src/cli/example-model.ts';
import { parametersOf } from '../src/2-optimize/normalize.ts';
import type { DType } from '../src/core/dtype.ts';
import { isTensor, sizeOf, type Tensor, type Value, zeros } from '../src/core/tensor.ts';

/** `must`: this has to be refused; otherwise it may also be right. */
export interface Mutation {
  readonly what: string;
  readonly model: ExampleModel;
  readonly must: boolean;
}

const at = <T>(list: readonly T[], i: number, v: T): T[] => list.map((x, k) => (k === i ? v : x));

/** Every mutation of an example's model. */
export function mutations(base: ExampleModel, op: Op): Mutation[] {
  const out: Mutation[] = [];
  const last = base.graph.nodes.length - 1;
  const node = base.graph.nodes[last]!;
  const parameters = parametersOf(op.inputs);
  const variadic = parameters.some((p) => p.variadic);
  const withNode = (
    change: Partial<typeof node>,
    more: Partial<ExampleModel['graph']> = {},
    feeds = base.feeds,
  ): ExampleModel => ({
    ...base,
    feeds,
    graph: { ...base.graph, ...more, nodes: at(base.graph.nodes, last, { ...node, ...change }) },
  });
  const withInput = (i: number, value: Value): ExampleModel => {
    const name = node.inputs[i]!;
    const inWeights = base.graph.weights.findIndex((w) => w.name === name);
    if (inWeights >= 0)
      return withNode({}, { weights: at(base.graph.weights, inWeights, { name, tensor: value as Tensor }) });
    const inputs = base.graph.inputs.map((p) =>
      p.name !== name ? p : isTensor(value) ? { name, dtype: value.dtype, shape: value.shape } : { name },
    );
    return withNode({}, { inputs }, { ...base.feeds, [name]: value });
  };
  const withAttr = (a: AttrText | null, name: string): ExampleModel =>
    withNode({ attrs: [...node.attrs.filter((x) => x.name !== name), ...(a ? [a] : [])] });
  const add = (what: string, must: boolean, model: ExampleModel): void => {
    out.push({ what, must, model });
  };

  node.inputs.forEach((name, i) => {
    const value = base.feeds[name] ?? base.graph.weights.find((w) => w.name === name)?.tensor;
    const p = parameters[Math.min(i, parameters.length - 1)];
    if (value === undefined || p === undefined) return;
    const optional = p.optional || (p.variadic && i > 0);
    if (!optional && !p.variadic) add(`without input ${i}`, true, withNode({ inputs: at(node.inputs, i, '') }));
    if (!isTensor(value)) return add(`a tensor for input ${i}`, true, withInput(i, zeros('float32', [2])));
    const bigger = zeros(value.dtype, [...value.shape, 1, 2]);
    add(`input ${i} of rank ${bigger.shape.length}`, false, withInput(i, bigger));
    if (value.shape.length > 0) add(`input ${i} a scalar`, false, withInput(i, zeros(value.dtype, [])));
    if (sizeOf(value.shape) > 0)
      add(
        `input ${i} with no elements`,
        false,
        withInput(i, zeros(value.dtype, value.shape.length === 0 ? [0] : value.shape.map(() => 0))),
      );
    if (value.shape.length > 0)
      add(
        `input ${i} larger`,
        false,
        withInput(
          i,
          zeros(
            value.dtype,
            value.shape.map((d) => d + 1),
          ),
        ),
      );
    if (p.type !== 'any')
      for (const wrong of wrongTypes(op, i))
        add(`input ${i} of ${wrong}`, true, withInput(i, zeros(wrong, value.shape)));
  });
  if (!variadic) {
    const more = Array.from({ length: op.inputs.length - node.inputs.length }, () => '');
    add(
      'an input too many',
      true,
      withNode(
        { inputs: [...node.inputs, ...more, node.inputs.find((n) => n !== '') ?? 'w'] },
        { weights: [...base.graph.weights, { name: 'w', tensor: zeros('float32', []) }] },
      ),
    );
  }
  add(
    'an unknown attribute',
    true,
    withAttr({ name: 'no_such_attribute', kind: 'int', value: 1 }, 'no_such_attribute'),
  );
  for (const { name, kind, value } of node.attrs) {
    const other: AttrText =
      kind === 'string' ? { name, kind: 'ints', value: [1, 2] } : { name, kind: 'string', value: 'wrong' };
    add(`${name} of kind ${other.kind}`, true, withAttr(other, name));
    if ((op.attrs[name] as { required?: true } | undefined)?.required)
      add(`without ${name}`, true, withAttr(null, name));
    if (kind === 'ints' && (value as readonly number[]).length > 0) {
      add(`${name} empty`, false, withAttr({ name, kind, value: [] }, name));
      for (const v of EXTREMES)
        add(
          `${name} all ${v}`,
          false,
          withAttr({ name, kind, value: (value as readonly number[]).map(() => v) }, name),
        );
    }
  }
  for (const [name, attr] of Object.entries(op.attrs) as [string, { kind: AttrKind }][]) {
    if (attr.kind === 'int')
      for (const v of EXTREMES) add(`${name} = ${v}`, false, withAttr({ name, kind: 'int', value: v }, name));
    if (attr.kind === 'string')
      add(`${name} = "no such thing"`, false, withAttr({ name, kind: 'string', value: 'no such thing' }, name));
    if (attr.kind === 'float') add(`${name} = NaN`, false, withAttr({ name, kind: 'float', value: NaN }, name));
    if (name === 'axis')
      for (const v of [99, -99]) add(`axis ${v}`, true, withAttr({ name, kind: 'int', value: v }, name));
    if (name === 'axes') add('axes [99]', true, withAttr({ name, kind: 'ints', value: [99] }, name));
  }
  return out;
}
const EXTREMES = [-1, 0, 2 ** 31, -(2 ** 53)];

/** Types that the operator's input `i` may not have. */
function wrongTypes(op: Op, i: number): readonly DType[] {
  const { type } = parametersOf(op.inputs)[Math.min(i, op.inputs.length - 1)]!;
  const allowed = Object.hasOwn(op.types, type) ? op.types[type]! : [type as DType];
  return ([...FLOAT.slice(0, 1), 'int64', 'bool', 'complex64', 'float64', 'string'] as const)
    .filter((d) => !allowed.includes(d))
    .slice(0, 2);
}
