/** The same computation without rounding to float32 in between: a graph in double precision, and inputs for it. */
import { isGraph, type AttrValue, type Constant, type Graph, type Node } from '../src/core/graph.ts';
import type { DType } from '../src/core/dtype.ts';
import { isTensor, type Tensor, type Value } from '../src/core/tensor.ts';
import type { Feeds } from './runtimes.ts';

const FLOAT = 1;
const DOUBLE = 11; // ONNX's numbers of types
const wide = (dtype: DType): DType => (dtype === 'float32' ? 'float64' : dtype);
const wideTensor = (t: Tensor): Tensor =>
  t.dtype === 'float32' ? { dtype: 'float64', shape: t.shape, data: Float64Array.from(t.data as Float32Array) } : t;
/** float32 as float64; what else a value is stays. */
export const wideValue = (v: Value): Value => (isTensor(v) ? wideTensor(v) : v);

function wideConstant(c: Constant): Constant {
  if (c.dtype !== 'float32') return c;
  const here = c.peek();
  const load = (): Tensor | Promise<Tensor> => {
    const t = c.load();
    return t instanceof Promise ? t.then(wideTensor) : wideTensor(t);
  };
  return { dtype: 'float64', shape: c.shape, peek: () => here && wideTensor(here), load };
}
/** Inputs that are float32 whatever the others are. */
const FIXED: Readonly<Record<string, readonly number[]>> = { Resize: [1, 2], Upsample: [1] };

/** A graph, as it was parsed, with every float32 in it a float64. */
export function inDoubles(graph: Graph): Graph {
  const values = graph.values.map((v) => ({
    ...v,
    ...(v.declared ? { declared: { ...v.declared, dtype: wide(v.declared.dtype) } } : {}),
    ...(v.constant ? { constant: wideConstant(v.constant) } : {}),
  }));
  const nodes = graph.nodes.flatMap((n): Node[] => {
    const attrs = Object.fromEntries(
      Object.entries(n.attrs).map(([name, a]): [string, AttrValue] => [name, wideAttr(n.op, name, a)]),
    );
    const before: Node[] = [];
    const inputs = n.inputs.map((v, i) => {
      if (v === null || !FIXED[n.op]?.includes(i)) return v;
      values.push({ name: `${graph.values[v]!.name} as it was` });
      before.push({
        op: 'Cast',
        name: `${n.name} ${i}`,
        inputs: [v],
        outputs: [values.length - 1],
        attrs: { to: FLOAT },
        opset: Math.min(n.opset, 13),
      });
      return values.length - 1;
    });
    const value =
      n.op === 'Constant'
        ? (attrs.value_float ?? attrs.value_floats)
        : n.op === 'ConstantOfShape' && attrs.value === undefined
          ? [0]
          : undefined;
    return [...before, { ...n, inputs, attrs: value === undefined ? attrs : { value: numbersOf(value) } }];
  });
  return { ...graph, values, nodes };
}
const numbersOf = (a: AttrValue): Tensor =>
  typeof a === 'number'
    ? { dtype: 'float64', shape: [], data: Float64Array.of(a) }
    : { dtype: 'float64', shape: [(a as number[]).length], data: Float64Array.from(a as number[]) };
function wideAttr(op: string, name: string, a: AttrValue): AttrValue {
  if ((op === 'Cast' && name === 'to') || (name === 'dtype' && typeof a === 'number')) return a === FLOAT ? DOUBLE : a;
  if (typeof a !== 'object') return a;
  if ('dtype' in a) return wideTensor(a as Tensor);
  if (isGraph(a)) return inDoubles(a);
  return Array.isArray(a) && typeof a[0] === 'object'
    ? ((a as (Graph | Tensor)[]).map((x) => ('nodes' in x ? inDoubles(x) : wideTensor(x))) as AttrValue)
    : a;
}

/** Evenly spread numbers in [0, 1), the same for the same seed. */
function random(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b9) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    const t = Math.imul(state ^ (state >>> 15), 1 | state);
    return ((t ^ (t >>> 13) ^ (Math.imul(t ^ (t >>> 7), 61 | t) >>> 3)) >>> 0) / 2 ** 32;
  };
}
/**
 * Inputs like the recorded ones: floats with noise of a tenth of their size, and token numbers (neither sorted nor
 * flags) moved along. Seed 0: as recorded.
 */
export function varied(feeds: Feeds, seed: number): Feeds {
  if (seed === 0) return feeds;
  const next = random(seed);
  return Object.fromEntries(
    Object.entries(feeds).map(([name, v]) => {
      if (!isTensor(v)) return [name, v];
      if (v.dtype === 'float32') {
        const data = v.data as Float32Array;
        const size = Math.sqrt(data.reduce((s, x) => s + x * x, 0) / Math.max(1, data.length));
        return [name, { ...v, data: data.map((x) => x + size * 0.2 * (next() + next() - 1)) }];
      }
      const list = v.dtype === 'int64' || v.dtype === 'int32' ? [...(v.data as BigInt64Array)] : [];
      if (new Set(list).size < 3 || list.every((x, i) => i === 0 || x >= list[i - 1]!)) return [name, v];
      const by = 1 + Math.floor(next() * (list.length - 1));
      return [name, { ...v, data: (v.data as BigInt64Array).map((_, i) => list[(i + by) % list.length]!) }];
    }),
  );
}
