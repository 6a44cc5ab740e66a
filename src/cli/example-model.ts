/** Examples of operators as models of one node. */
import type { AttrKind, Op } from '../../kernels/define.ts';
import { type Body, type Example, type ExampleAttrs, given } from '../../kernels/examples.ts';
import { elementExamples } from '../../kernels/examples-elements.ts';
import { heavyExamples } from '../../kernels/examples-heavy.ts';
import { hostExamples } from '../../kernels/examples-host.ts';
import { quantizedExamples } from '../../kernels/examples-quantized.ts';
import { shapeExamples } from '../../kernels/examples-shape.ts';
import { ops } from '../../kernels/index.ts';
import type { DType } from '../core/dtype.ts';
import type { Tensor, Value } from '../core/tensor.ts';
import { type AttrText, encodeModel, type GraphText, type NodeText, type PortText } from './encode-model.ts';

/** Every operator has at least one; those of a name stand together. */
export const examples: readonly Example[] = [
  ...elementExamples,
  ...shapeExamples,
  ...heavyExamples,
  ...quantizedExamples,
  ...hostExamples,
];

/** "com.microsoft" of "com.microsoft.Gelu"; "" is ONNX's own. */
export const domainOf = (op: string): string => op.slice(0, Math.max(0, op.lastIndexOf('.')));
/** What the runtime makes of other operators; no model has them. */
export const isInternal = (op: string): boolean => domainOf(op) === 'sardonyx';

const newest = new Map<string, number>();
for (const op of ops.values()) newest.set(domainOf(op.op), Math.max(newest.get(domainOf(op.op)) ?? 1, ...op.since));

/**
 * A model before it is written, and what to feed it. Its node is called `EXAMPLE_NODE`, its inputs x0, x1, …, its
 * outputs y0, y1, …
 */
export interface ExampleModel {
  readonly graph: GraphText;
  readonly opsets: Readonly<Record<string, number>>;
  readonly feeds: Readonly<Record<string, Value>>;
}
export const EXAMPLE_NODE = 'the_example';

/** The example's model with T standing for `dtype`. */
export function exampleModel(example: Example, op: Op, dtype: DType): ExampleModel {
  const inputs: PortText[] = [];
  const weights: { name: string; tensor: Tensor }[] = [];
  const feeds: Record<string, Value> = {};
  const names = example.inputs.map((text, i) => {
    const name = `x${i}`;
    if (text === '') return '';
    const [, kind, rest] = /^(?:(seq|opt|map): )?(.*)$/.exec(text)!;
    const parts = rest!.split(', ').map((part, k) => given(part, dtype, example.range, 7 * i + k));
    const [first] = parts;
    if (kind === undefined && first!.constant) weights.push({ name, tensor: first!.tensor });
    else {
      inputs.push(kind === undefined ? { name, dtype: first!.tensor.dtype, shape: first!.tensor.shape } : { name });
      feeds[name] =
        kind === 'seq'
          ? { kind: 'sequence', items: parts.map((p) => p.tensor) }
          : kind === 'opt'
            ? { kind: 'optional', value: first!.tensor }
            : kind === 'map'
              ? { kind: 'map', keys: ['a', 'b'], values: { ...first!.tensor, shape: [2] } as Tensor }
              : first!.tensor;
    }
    return name;
  });
  const outputs = Array.from({ length: example.outputs ?? 1 }, (_, i) => `y${i}`);
  const attrs = typeof example.attrs === 'function' ? example.attrs(dtype) : (example.attrs ?? {});
  const domain = domainOf(op.op);
  const graph: GraphText = {
    inputs,
    weights,
    outputs: outputs.map((name) => ({ name })),
    nodes: [
      ...nodesOf(example.before ?? [], 'before'),
      { op: op.op, name: EXAMPLE_NODE, inputs: names, outputs, attrs: attrsOf(attrs, op) },
    ],
  };
  return {
    graph,
    feeds,
    opsets: {
      '': newest.get('')!,
      ...(domain === '' ? {} : { [domain]: newest.get(domain)! }),
      ...(example.opset === undefined ? {} : { [domain]: example.opset }),
    },
  };
}

/** The bytes of an example's model. */
export const encodeExample = ({ graph, opsets }: ExampleModel): Uint8Array<ArrayBuffer> => encodeModel(graph, opsets);

const guess = (v: ExampleAttrs[string]): AttrKind => {
  if (typeof v !== 'object') return typeof v === 'number' ? 'int' : 'string';
  return !Array.isArray(v) ? 'graph' : typeof v[0] === 'string' ? 'strings' : 'ints';
};
const attrsOf = (attrs: ExampleAttrs, op: Op): AttrText[] =>
  Object.entries(attrs).map(([name, v]) => {
    const kind = Object.hasOwn(op.attrs, name) ? (op.attrs[name] as { kind: AttrKind }).kind : guess(v);
    return {
      name,
      kind,
      value:
        kind === 'tensor'
          ? given(v as string, 'float32', undefined, 0).tensor
          : kind === 'graph'
            ? bodyOf(v as Body)
            : (v as AttrText['value']),
    };
  });

function bodyOf(body: Body): GraphText {
  const port = (text: string): PortText => {
    const [name, type] = text.split(': ') as [string, string | undefined];
    if (type === undefined) return { name };
    const { dtype, shape } = given(type, 'float32', undefined, 0).tensor;
    return { name, dtype, shape };
  };
  return {
    inputs: body.inputs.map(port),
    outputs: body.outputs.map(port),
    weights: [],
    nodes: nodesOf(body.nodes, 'in_body'),
  };
}
const nodesOf = (nodes: Body['nodes'], prefix: string): NodeText[] =>
  nodes.map((n, i) => ({
    op: n.op,
    name: `${prefix}_${i}`,
    inputs: n.inputs,
    outputs: n.outputs,
    attrs: attrsOf(n.attrs ?? {}, ops.get(n.op)!),
  }));
