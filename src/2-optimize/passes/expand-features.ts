import { isFloat } from '../../core/dtype.ts';
import type { ValueId } from '../../core/graph.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { GraphView, Pass } from '../rewrite.ts';
import { type Expand, expanding, type Expansion } from './expansion.ts';

/** The numbers of an attribute: one for each feature, or one for all. */
const perFeature = (e: Expansion, values: readonly number[]): ValueId =>
  e.constant('float32', values, values.length === 1 ? [] : [values.length]);
/** Rows of features, as float32. */
function rowsOf(e: Expansion, graph: GraphView, v: ValueId): { features: number; x: ValueId } {
  const { shape } = graph.fact(v)!;
  const features = shape.at(-1)!;
  const x = e.cast(v, 'float32');
  return { features, x: shape.length === 1 ? e.reshape(x, [1, features]) : x };
}

/** What ai.onnx.ml does to features. */
const FEATURES: Readonly<Record<string, Expand>> = {
  ArrayFeatureExtractor: (e, node, graph) => {
    const [x, at] = node.inputs as [ValueId, ValueId];
    const { shape } = graph.fact(x)!;
    const count = sizeOf(graph.fact(at)!.shape);
    e.put(
      'Gather',
      [shape.length === 1 ? e.reshape(x, [1, ...shape]) : x, e.reshape(at, [count])],
      { axis: Math.max(1, shape.length - 1) },
      node.outputs[0],
    );
    return 'a Gather of features';
  },
  Binarizer: (e, node, graph) => {
    const { dtype } = graph.fact(node.inputs[0])!;
    const threshold = node.attrs.threshold as number;
    const whole = Math.floor(threshold);
    if (!isFloat(dtype) && !(Math.abs(whole) < 2 ** 31)) return null;
    e.cast(
      e.put('Greater', [node.inputs[0]!, e.number(dtype, isFloat(dtype) ? threshold : whole)]),
      dtype,
      node.outputs[0]!,
    );
    return 'a comparison';
  },
  Scaler: (e, node) => {
    const { offset, scale } = node.attrs as { readonly offset?: readonly number[]; readonly scale?: readonly number[] };
    const moved = e.put('Sub', [e.cast(node.inputs[0]!, 'float32'), perFeature(e, offset?.length ? offset : [0])]);
    e.put('Mul', [moved, perFeature(e, scale?.length ? scale : [1])], {}, node.outputs[0]);
    return 'a difference and a product';
  },
  Normalizer: (e, node, graph) => {
    const x = e.cast(node.inputs[0]!, 'float32');
    const op = { MAX: 'ReduceMax', L1: 'ReduceL1', L2: 'ReduceL2' }[node.attrs.norm as string];
    if (op === undefined || sizeOf(graph.fact(node.inputs[0])!.shape) === 0) return null;
    const norm = e.reduce(op, x, [-1]);
    e.put(
      'Div',
      [x, e.put('Where', [e.put('Equal', [norm, e.number('float32', 0)]), e.number('float32', 1), norm])],
      {},
      node.outputs[0],
    );
    return 'a quotient of rows and their norms';
  },
  Imputer: (e, node, graph) => {
    const [x] = node.inputs as [ValueId];
    const { dtype } = graph.fact(x)!;
    const a = node.attrs as Readonly<Record<string, number | readonly number[] | undefined>>;
    const [from, to] = (
      isFloat(dtype)
        ? [a.replaced_value_float, a.imputed_value_floats]
        : [a.replaced_value_int64, a.imputed_value_int64s]
    ) as [number, readonly number[]];
    const lost = Number.isNaN(from) ? e.put('IsNaN', [x]) : e.put('Equal', [x, e.number(dtype, from)]);
    e.put('Where', [lost, e.constant(dtype, to, to.length === 1 ? [] : [to.length]), x], {}, node.outputs[0]);
    return 'a choice of elements';
  },
  OneHotEncoder: (e, node, graph) => {
    const [x] = node.inputs as [ValueId];
    const { shape } = graph.fact(x)!;
    const { cats_int64s: list, zeros } = node.attrs as {
      readonly cats_int64s?: readonly number[];
      readonly zeros: number;
    };
    if (!zeros || !list?.length) return null;
    e.cast(e.put('Equal', [e.reshape(e.cast(x, 'int64'), [...shape, 1]), e.list(list)]), 'float32', node.outputs[0]!);
    return 'a comparison with each category';
  },
  FeatureVectorizer: (e, node, graph) => {
    if (node.inputs.some((v) => graph.fact(v)?.dtype === 'float64')) return null;
    e.put(
      'Concat',
      node.inputs.map((v) => rowsOf(e, graph, v!).x),
      { axis: 1 },
      node.outputs[0],
    );
    return 'a Concat of features';
  },
  LinearRegressor: (e, node, graph) => {
    const {
      coefficients,
      intercepts,
      targets,
      post_transform: post,
    } = node.attrs as {
      readonly coefficients: readonly number[];
      readonly intercepts?: readonly number[];
      readonly targets: number;
      readonly post_transform: string;
    };
    const { features, x } = rowsOf(e, graph, node.inputs[0]!);
    if (post !== 'NONE' || features === 0) return null;
    const weights = e.constant(
      'float32',
      Array.from(
        { length: coefficients.length },
        (_, i) => coefficients[(i % targets) * features + Math.floor(i / targets)]!,
      ),
      [features, targets],
    );
    const sums = e.put('MatMul', [x, weights], {}, intercepts?.length ? null : node.outputs[0]);
    if (intercepts?.length) e.put('Add', [sums, e.constant('float32', intercepts)], {}, node.outputs[0]);
    return 'a product with its coefficients';
  },
};

type Step = (
  e: Expansion,
  attrs: Readonly<Record<string, number | string>>,
  rate: ValueId,
  steps: ValueId,
  x: ValueId,
  gradient: ValueId,
  states: readonly ValueId[],
) => readonly ValueId[];
const binary =
  (op: string) =>
  (e: Expansion, a: ValueId, b: ValueId): ValueId =>
    e.put(op, [a, b]);
const [mul, add, sub, div] = [binary('Mul'), binary('Add'), binary('Sub'), binary('Div')];
const root = (e: Expansion, v: ValueId): ValueId => e.put('Sqrt', [v]);
const f = (e: Expansion, v: number | string | undefined): ValueId => e.number('float32', Number(v));

const STEPS: Readonly<Record<string, { readonly states: number; readonly step: Step }>> = {
  Adagrad: {
    states: 1,
    step: (e, a, rate, steps, x, g, [h]) => {
      const square = add(e, h!, mul(e, g, g));
      const slower = div(e, rate, add(e, mul(e, steps, f(e, a.decay_factor)), f(e, 1)));
      return [sub(e, x, div(e, mul(e, slower, g), add(e, root(e, square), f(e, a.epsilon)))), square];
    },
  },
  Adam: {
    states: 2,
    step: (e, a, rate, steps, x, g, [v, h]) => {
      const [alpha, beta] = [Number(a.alpha), Number(a.beta)];
      const mean = add(e, mul(e, v!, f(e, alpha)), mul(e, g, f(e, 1 - alpha)));
      const square = add(e, mul(e, h!, f(e, beta)), mul(e, mul(e, g, g), f(e, 1 - beta)));
      const left = (base: number): ValueId => sub(e, f(e, 1), e.put('Pow', [f(e, base), steps]));
      const begun = e.put('Where', [
        e.put('Greater', [steps, f(e, 0)]),
        div(e, mul(e, rate, root(e, left(beta))), left(alpha)),
        rate,
      ]);
      const moved = sub(e, x, div(e, mul(e, begun, mean), add(e, root(e, square), f(e, a.epsilon))));
      return [
        Number(a.norm_coefficient_post) === 0 ? moved : mul(e, moved, f(e, 1 - Number(a.norm_coefficient_post))),
        mean,
        square,
      ];
    },
  },
  Momentum: {
    states: 1,
    step: (e, a, rate, steps, x, g, [v]) => {
      const part = e.put('Where', [e.put('Greater', [steps, f(e, 0)]), f(e, a.beta), f(e, 1)]);
      const velocity = add(e, mul(e, v!, f(e, a.alpha)), mul(e, part, g));
      return [
        sub(e, x, mul(e, rate, a.mode === 'nesterov' ? add(e, g, mul(e, velocity, f(e, a.alpha))) : velocity)),
        velocity,
      ];
    },
  },
};
/** Steps of gradient descent as the elementwise operators that they are, for float32. */
const optimizer =
  ({ states, step }: (typeof STEPS)[string]): Expand =>
  (e, node, graph) => {
    const inputs = node.inputs as readonly ValueId[];
    const count = (inputs.length - 2) / (2 + states);
    const attrs = node.attrs as Readonly<Record<string, number | string>>;
    if (inputs.some((v, i) => i !== 1 && graph.fact(v)?.dtype !== 'float32')) return null;
    const rate = e.reshape(inputs[0]!, []);
    const steps = e.reshape(e.cast(inputs[1]!, 'float32'), []);
    const norm = Number(attrs.norm_coefficient);
    for (let k = 0; k < count; k++) {
      const [x, g, ...kept] = Array.from({ length: 2 + states }, (_, part) => inputs[2 + part * count + k]!) as [
        ValueId,
        ValueId,
        ...ValueId[],
      ];
      const results = step(e, attrs, rate, steps, x, norm === 0 ? g : add(e, mul(e, x, f(e, norm)), g), kept);
      results.forEach((v, s) => e.name(v, node.outputs[s * count + k]));
    }
    return 'a chain of elementwise operators';
  };

/** Operators on features and parameters as the elementwise operators, products and moves that they are. */
export const expandFeatures: Pass = expanding('expand-features', {
  ...Object.fromEntries(
    Object.entries(FEATURES).map(([op, expand]): [string, Expand] => [
      `ai.onnx.ml.${op}`,
      (e, node, graph) => (graph.fact(node.inputs[0])!.shape.length === 0 ? null : expand(e, node, graph)),
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(STEPS).map(([op, how]): [string, Expand] => [`ai.onnx.preview.training.${op}`, optimizer(how)]),
  ),
});
