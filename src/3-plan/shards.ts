/**
 * What a GPU cannot bind at once, in shards that it can: weights by rows, and the work on wide activations by pieces
 * along their first axis. Done last, to nodes whose dims are known, and loaded by the first model that needs it. What
 * is left wide the planner gives to the host, and says so.
 */
import type { GpuKernel, Op } from '../../kernels/define.ts';
import { constant, type Ex, input, kindOf, substitute, x } from '../../kernels/expr.ts';
import { axisOf, axesOf } from '../../kernels/shapes.ts';
import { movable } from '../../kernels/webgpu/gather.ts';
import { gatherShards } from '../../kernels/webgpu/gather-shards.ts';
import { numbers } from '../core/numbers.ts';
import { type AttrValue, constantOf, type Fact, type Facts, type Node, type ValueId } from '../core/graph.ts';
import { byteLength, sizeOf, tensor } from '../core/tensor.ts';
import { shardOf } from './shard-constant.ts';

/** Nodes with all facts known, and what is wanted of them. */
export interface Shardable {
  readonly nodes: readonly Node[];
  readonly facts: Facts;
  readonly outputs: readonly ValueId[];
  readonly nameOf: (v: ValueId) => string;
}
/** A value in pieces of these sizes along an axis. */
interface Cut {
  readonly axis: number;
  readonly sizes: readonly number[];
  readonly parts: readonly ValueId[];
}

const MAP = 'sardonyx.Map';
/** Shards begin at multiples of this where they are as long: kernels read four, and packed words, at once. */
const GRAIN = 64;
const up = (n: number, to: number): number => Math.ceil(n / to) * to;

/** The operators with kernels that read shards. */
export const withShards = (ops: ReadonlyMap<string, Op>): ReadonlyMap<string, Op> => {
  const gather = ops.get('Gather');
  return gather
    ? new Map([...ops, ['Gather', { ...gather, webgpu: [gatherShards as GpuKernel, ...(gather.webgpu ?? [])] }]])
    : ops;
};

/** The nodes with everything that takes more than `limit` bytes in shards, as far as operators allow it. */
export function inShards<R extends Shardable>(request: R, ops: ReadonlyMap<string, Op>, limit: number): R {
  const facts = request.facts.slice();
  const names = new Map<ValueId, string>();
  const nodes: Node[] = [];
  const cuts = new Map<ValueId, Cut>();
  const split = new Map<ValueId, Cut>();
  const made = new Set<ValueId>();
  let next =
    request.nodes.reduce(
      (n, node) => [...node.inputs, ...node.outputs].reduce<number>((m, v) => Math.max(m, v ?? 0), n),
      facts.length - 1,
    ) + 1;

  const fact = (v: ValueId): Fact => facts[v]!;
  const isWide = (v: ValueId | null | undefined): v is ValueId => v != null && byteLength(fact(v)) > limit;
  const nameOf = (v: ValueId): string => names.get(v) ?? request.nameOf(v);
  const add = (name: string, f: Fact): ValueId => {
    names.set(next, name);
    facts[next] = f;
    return next++;
  };
  const leading = (shape: readonly number[]): number => shape.findIndex((d) => d > 1);
  /** Sizes of the fewest pieces of at most `most`, all alike but the last; null where one is too much. */
  const sizesOf = (total: number, most: number): number[] | null => {
    if (most < 1) return null;
    const grain = most >= GRAIN ? GRAIN : most >= 4 ? 4 : 1;
    const room = Math.floor(most / grain) * grain;
    const each = Math.min(room, up(Math.ceil(total / Math.ceil(total / room)), grain));
    return Array.from({ length: Math.ceil(total / each) }, (_, i) => Math.min(each, total - i * each));
  };

  /** How pieces of wide values with this many rows are cut: alike, so that what one node makes another takes. */
  const alike = new Map<number, number>();
  for (const f of facts) {
    if (f === undefined) continue;
    const axis = byteLength(f) > limit ? leading(f.shape) : -1;
    const rows = f.shape[axis];
    // Sums of narrow elements are kept in words.
    if (rows !== undefined)
      alike.set(
        rows,
        Math.min(
          alike.get(rows) ?? Infinity,
          Math.floor(limit / (Math.max(byteLength(f), 4 * sizeOf(f.shape)) / rows)),
        ),
      );
  }

  /** The parts of a value, made by slicing where nobody made them. */
  function partsOf(v: ValueId, axis: number, sizes: readonly number[], node: Node): readonly ValueId[] {
    const same = (c: Cut | undefined): c is Cut =>
      c !== undefined && c.axis === axis && String(c.sizes) === String(sizes);
    for (const c of [cuts.get(v), split.get(v)]) if (same(c)) return c.parts;
    join(v, node);
    const { dtype, shape, constant } = fact(v);
    const of = (size: number): number[] => shape.map((d, i) => (i === axis ? size : d));
    let from = 0;
    const run = sizeOf(shape.slice(axis + 1));
    const whole = constant && shape.slice(0, axis).every((d) => d === 1);
    const parts = sizes.map((size, i) => {
      const c = whole ? shardOf(constant, from * run, of(size)) : null;
      from += size;
      return add(`${nameOf(v)}.shard${i}`, { dtype, shape: of(size), ...(c ? { constant: c } : {}) });
    });
    if (parts.some((p) => fact(p).constant === undefined)) {
      const given = constantOf(tensor('int64', [sizes.length], sizes));
      for (const p of parts) facts[p] = { dtype, shape: fact(p).shape };
      nodes.push({
        ...node,
        op: 'Split',
        name: `${node.name}.split`,
        inputs: [v, add(`${nameOf(v)}.sizes`, { dtype: 'int64', shape: [sizes.length], constant: given })],
        outputs: parts,
        attrs: { axis },
      });
    }
    split.set(v, { axis, sizes, parts });
    return parts;
  }
  /** Puts a value together that was made in pieces. */
  function join(v: ValueId, node: Node): void {
    const c = cuts.get(v);
    if (c === undefined || made.has(v)) return;
    made.add(v);
    nodes.push({
      ...node,
      op: 'Concat',
      name: `${node.name}.joined`,
      inputs: c.parts,
      outputs: [v],
      attrs: { axis: c.axis },
    });
  }
  function emit(node: Node): void {
    const reads = node.inputs.filter(isWide);
    const writes = node.outputs.filter(isWide);
    if (reads.length === 0 && writes.length === 0) nodes.push(node);
    else if ((writes.length > 0 || reads.some((v) => fact(v).constant === undefined)) && inPieces(node)) return;
    else if (writes.length === 0 && reads.every((v) => fact(v).constant !== undefined) && byWeights(node)) return;
    else {
      for (const v of node.inputs) if (v !== null) join(v, node);
      nodes.push(node);
    }
  }

  /** The node once for each piece of what it makes or takes. */
  function inPieces(node: Node): boolean {
    const y = node.outputs[0];
    const view = ops.get(node.op)!.view;
    const wide = view || !isWide(y) ? (node.op === MAP ? node.inputs.find(isWide) : node.inputs[0]) : y;
    if (y == null || wide == null) return false;
    const { shape } = fact(wide);
    const axis = leading(shape);
    const to = view ? leading(fact(y).shape) : axis;
    const length = shape[axis] ?? 0;
    const sizes = sizesOf(length, alike.get(length) ?? 0);
    const sliced = piecesOf(node, axis, shape.length, fact);
    const from = (node.attrs.operandsFrom as number | undefined) ?? node.inputs.length;
    // Inputs are aligned from the right, as broadcasting has it, and cut where they are as long as what is cut.
    const places = node.inputs.map((v, i) => {
      if (v === null || (i < from && !sliced?.includes(i))) return -1;
      const at = fact(v).shape.length - (i < from ? shape.length - axis : fact(y).shape.length - to);
      return fact(v).shape[at] === length ? at : -1;
    });
    const uncut = node.inputs.some(
      (v, i) => places[i] === -1 && isWide(v) && (fact(v).constant === undefined || node.op === MAP),
    );
    if (
      sizes === null ||
      sizes.length < 2 ||
      sliced === null ||
      uncut ||
      node.outputs.some((v) => v !== null && fact(v).shape[to] !== length)
    )
      return false;
    const inputs = node.inputs.map((v, i) => (places[i] === -1 ? null : partsOf(v!, places[i]!, sizes, node)));
    const outputs = node.outputs.map(
      (v) =>
        v !== null &&
        sizes.map((size, i) =>
          add(`${nameOf(v)}.piece${i}`, {
            dtype: fact(v).dtype,
            shape: fact(v).shape.map((d, k) => (k === to ? size : d)),
          }),
        ),
    );
    node.outputs.forEach((v, i) => {
      if (v !== null) cuts.set(v, { axis: to, sizes, parts: outputs[i] as ValueId[] });
    });
    sizes.forEach((_, p) => {
      const made = outputs.map((parts) => parts && parts[p]!).map((v) => (v === false ? null : v));
      const attrs = node.op === MAP ? { ...node.attrs, shape: fact(made[0]!).shape } : node.attrs;
      emit({
        ...node,
        name: `${node.name}.piece${p}`,
        attrs,
        inputs: node.inputs.map((v, i) => inputs[i]?.[p] ?? v),
        outputs: made,
      });
    });
    for (const v of node.outputs) if (v !== null && !isWide(v)) join(v, node);
    return true;
  }

  /** A node with a wide weight, once for each shard of it. */
  function byWeights(node: Node): boolean {
    const {
      op,
      attrs,
      inputs: [a, b],
    } = node;
    if (op === 'Gather' && isWide(a) && !isWide(b) && axisOf(attrs.axis as number, fact(a).shape.length) === 0) {
      const { shape } = fact(a);
      const sizes = sizesOf(shape[0]!, Math.floor(limit / (byteLength(fact(a)) / shape[0]!)));
      if (sizes === null || !movable({ inputs: [fact(a)], outputs: [], attrs })) return false;
      const [first, ...rest] = partsOf(a, 0, sizes, node);
      nodes.push({ ...node, inputs: [first!, b!, ...rest] });
      return true;
    }
    if (!isWide(b)) return false;
    if (op === 'com.microsoft.MatMulNBits') return byColumns(node, attrs.N as number, [1, 2, 3, 5], -1, (N) => ({ N }));
    if (op === 'Conv' && !((attrs.group as number) > 1))
      return byColumns(node, fact(b).shape[0]!, [1, 2], 1, () => ({}));
    if (
      fact(b).shape.length !== 2 ||
      attrs.transBatchA ||
      attrs.transBatchB ||
      fact(a!).shape.length < 2 ||
      !/^(MatMul|Gemm|com\.microsoft\.(FusedMatMul|TransposeMatMul))$/.test(op)
    )
      return false;
    return attrs.transB
      ? byColumns(node, fact(b).shape[0]!, [1], -1, () => ({}))
      : byDepth(node, attrs.transA ? fact(a!).shape.length - 2 : fact(a!).shape.length - 1);
  }

  /**
   * The columns of a product, which lie in rows of the weights `rowed`, side by side; what follows the product, behind
   * that.
   */
  function byColumns(
    node: Node,
    columns: number,
    rowed: readonly number[],
    axis: number,
    change: (size: number) => Record<string, AttrValue>,
  ): boolean {
    const { epilogue, operandsFrom, label, ...attrs } = node.attrs;
    const from = (operandsFrom as number | undefined) ?? node.inputs.length;
    const y = node.outputs[0]!;
    const out = fact(y);
    const at = axisOf(axis, out.shape.length);
    const weights = node.inputs.map((v, i) => (v !== null && i < from && rowed.includes(i) ? v : null));
    const sizes = sizesOf(
      columns,
      Math.min(...weights.map((v) => (v === null ? Infinity : Math.floor(limit / (byteLength(fact(v)) / columns))))),
    );
    if (sizes === null || weights.some((v) => v !== null && fact(v).constant === undefined)) return false;
    const shards = weights.map((v) => (v === null ? null : rowShards(v, columns, sizes)));
    if (weights.some((v, i) => v !== null && shards[i] === null)) return false;
    // Gemm's C and the epilogue see the whole product.
    const c = node.op === 'Gemm' && node.attrs.beta !== 0 ? (node.inputs[2] ?? null) : null;
    const kind = kindOf(out.dtype)!;
    const apart = c !== null || epilogue !== undefined;
    const dtype = apart && kind === 'f32' ? 'float32' : apart ? fact(node.inputs[0]!).dtype : out.dtype;
    const middle = apart ? add(`${node.name}.columns`, { dtype, shape: out.shape }) : y;
    const parts = sizes.map((size, i) =>
      add(`${nameOf(y)}.columns${i}`, { dtype, shape: out.shape.map((d, k) => (k === at ? size : d)) }),
    );
    sizes.forEach((size, i) => {
      const inputs = node.inputs
        .slice(0, from)
        .map((v, k) => shards[k]?.[i] ?? (node.op === 'Gemm' && k === 2 ? null : v));
      nodes.push({
        ...node,
        name: `${node.name}.shard${i}`,
        inputs,
        outputs: [parts[i]!],
        attrs: { ...attrs, ...change(size) },
      });
    });
    nodes.push({
      ...node,
      op: 'Concat',
      name: `${node.name}.columns`,
      inputs: parts,
      outputs: [middle],
      attrs: { axis: at },
    });
    if (!apart) return true;
    const operands = [...node.inputs.slice(from), ...(c === null ? [] : [c])] as ValueId[];
    const inKind = kindOf(dtype)!;
    const product = input(0, inKind);
    const sum =
      c === null
        ? product
        : x.add(product, x.mul(input(operands.length, inKind), constant(node.attrs.beta as number, inKind)));
    const expr = epilogue === undefined ? x.cast(sum, kind) : substitute(JSON.parse(epilogue as string) as Ex, [sum]);
    nodes.push({
      ...node,
      op: MAP,
      name: `${node.name}.finish`,
      inputs: [middle, ...operands],
      outputs: [y],
      attrs: {
        expr: JSON.stringify(expr),
        dtype: out.dtype,
        shape: out.shape,
        label: (label as string[] | undefined)?.slice(1) ?? ['Add'],
      },
    });
    return true;
  }

  /** Shards of a weight that has `rows` rows, whatever its shape calls them. */
  function rowShards(v: ValueId, rows: number, sizes: readonly number[]): ValueId[] | null {
    const { dtype, shape, constant } = fact(v);
    const run = sizeOf(shape) / rows;
    let from = 0;
    const list = sizes.map((size, i) => {
      const of = shape[0] === rows ? [size, ...shape.slice(1)] : [size * run];
      const c = shardOf(constant!, from * run, of);
      from += size;
      return c && add(`${nameOf(v)}.shard${i}`, { dtype, shape: of, constant: c });
    });
    return Number.isInteger(run) && list.every((p) => p !== null) ? (list as ValueId[]) : null;
  }

  /** A product as the sum of products of some depth each, every one of which takes in the one before it. */
  function byDepth(node: Node, axis: number): boolean {
    const { epilogue, operandsFrom, label, ...attrs } = node.attrs;
    const [a, b] = node.inputs as [ValueId, ValueId];
    const { shape, dtype } = fact(b);
    const y = node.outputs[0]!;
    const out = fact(y);
    const kind = kindOf(out.dtype);
    const from = (operandsFrom as number | undefined) ?? node.inputs.length;
    const sizes = sizesOf(shape[0]!, Math.floor(limit / byteLength({ dtype, shape: [1, up(shape[1]!, 4)] })));
    if (sizes === null || kind === undefined || fact(a).constant !== undefined) return false;
    const sum = kindOf(fact(a).dtype)!;
    const rows = partsOf(b, 0, sizes, node);
    const left = partsOf(a, axis, sizes, node);
    const dtypeOf = sum === 'f32' ? 'float32' : fact(a).dtype;
    let before: ValueId | null = null;
    sizes.forEach((_, i) => {
      const last = i === sizes.length - 1;
      const to = last ? y : add(`${nameOf(y)}.sum${i}`, { dtype: dtypeOf, shape: out.shape });
      const operands: ValueId[] = [
        ...(before === null ? [] : [before]),
        ...(last ? (node.inputs.slice(from) as ValueId[]) : []),
      ];
      const total = before === null ? input(0, sum) : x.add(input(0, sum), input(1, sum));
      const expr =
        last && epilogue !== undefined
          ? substitute(JSON.parse(epilogue as string) as Ex, [
              total,
              ...node.inputs.slice(from).map((v, k) => input(k + 2, kindOf(fact(v!).dtype)!)),
            ])
          : x.cast(total, last ? kind : sum);
      const inputs = node.inputs
        .slice(0, from)
        .map((v, k) => (k === 0 ? left[i]! : k === 1 ? rows[i]! : i === 0 ? v : null));
      const more =
        operands.length === 0
          ? {}
          : {
              epilogue: JSON.stringify(expr),
              operandsFrom: inputs.length,
              label: [node.op, 'Add', ...(last ? ((label as string[] | undefined)?.slice(1) ?? []) : [])],
            };
      nodes.push({
        ...node,
        name: `${node.name}.shard${i}`,
        inputs: [...inputs, ...operands],
        outputs: [to],
        attrs: { ...attrs, ...more },
      });
      before = to;
    });
    return true;
  }

  for (const node of request.nodes) emit(node);
  const end = request.nodes.at(-1);
  for (const v of request.outputs) if (end) join(v, end);
  return { ...request, nodes, facts, nameOf };
}

/**
 * Which inputs, operands of an epilogue apart, are cut when a node is done in pieces along an axis of its widest value,
 * of this rank; null where it cannot be.
 */
function piecesOf(node: Node, axis: number, rank: number, fact: (v: ValueId) => Fact): readonly number[] | null {
  const { op, attrs, inputs } = node;
  const all = inputs.map((_, i) => i);
  const behind = (of: AttrValue | undefined, none: number): boolean =>
    axisOf((of as number | undefined) ?? none, rank) > axis;
  const first = inputs[0] == null ? [] : fact(inputs[0]).shape;
  switch (op.replace('com.microsoft.', '')) {
    case MAP:
      return all;
    case 'Reshape':
    case 'Flatten':
    case 'Squeeze':
    case 'Unsqueeze':
    case 'Identity':
      return [0];
    case 'MatMul':
      return axis === rank - 2 && first.length === rank ? [0] : axis < rank - 2 ? [0, 1] : null;
    case 'FusedMatMul':
    case 'TransposeMatMul':
      return !attrs.transA &&
        !attrs.transBatchA &&
        !attrs.transBatchB &&
        axis < rank - 1 &&
        fact(inputs[1]!).shape.length === 2
        ? [0]
        : null;
    case 'Gemm':
      return !attrs.transA && axis === 0 ? [0, 2] : null;
    case 'sardonyx.GatedMatMul':
    case 'MatMulNBits':
      return axis < rank - 1 ? [0] : null;
    case 'Softmax':
    case 'LogSoftmax':
      return !attrs.flatten && behind(attrs.axis, -1) ? [0] : null;
    case 'LayerNormalization':
    case 'RMSNormalization':
    case 'SimplifiedLayerNormalization':
      return behind(attrs.axis, -1) ? [0] : null;
    case 'SkipLayerNormalization':
    case 'SkipSimplifiedLayerNormalization':
      return axis < rank - 1 ? [0, 1] : null;
    case 'ArgMax':
    case 'ArgMin':
      return behind(attrs.axis, 0) ? [0] : null;
    case 'Conv':
    case 'ConvTranspose':
    case 'MaxPool':
    case 'AveragePool':
    case 'GlobalAveragePool':
    case 'GlobalMaxPool':
      return axis === 0 ? [0] : null;
    default: {
      const axes = op.startsWith('Reduce') && inputs[1] != null ? fact(inputs[1]).constant?.peek() : null;
      return axes && axes.shape[0]! > 0 && axesOf(Array.from(numbers(axes)), rank).every((k) => k > axis) ? [0] : null;
    }
  }
}
