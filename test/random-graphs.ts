/** Valid small graphs, drawn from a seed, and a shrinker for those on which devices disagree. */
import { type DType, type Tensor, tensor } from '../src/index.ts';
import { broadcast } from '../kernels/shapes.ts';
import { encode, initializer, type Json, node, noise, port } from './onnx-model.ts';

interface Live {
  readonly name: string;
  readonly shape: readonly number[];
}
/** A graph in onnx-proto's JSON form; every value in it has a known shape. */
export interface Drawn {
  readonly nodes: readonly {
    readonly json: Json;
    readonly reads: readonly string[];
    readonly writes: readonly Live[];
  }[];
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly inputs: readonly Live[];
}

/** Linear congruential; good enough to pick with. */
function picker(seed: number): { int(n: number): number; of<T>(list: readonly T[]): T; chance(p: number): boolean } {
  let s = (seed * 2654435761) >>> 0;
  const next = (): number => (s = (Math.imul(s, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  for (let i = 0; i < 4; i++) next();
  return {
    int: (n) => Math.floor(next() * n),
    of: (list) => list[Math.floor(next() * list.length)]!,
    chance: (p) => next() < p,
  };
}
const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/**
 * A graph of about `count` nodes over float32 values of rank 0 to 5; the same for the same seed. With `batch`, a prime
 * above all dims that are drawn, the first input has that many rows, and nothing in the graph but shapes depends on how
 * many.
 */
export function drawGraph(seed: number, count: number, batch?: number): Drawn {
  const pick = picker(seed);
  const isFixed = (d: number): boolean => batch === undefined || d % batch !== 0;
  /** An axis whose size nodes may depend on. */
  const axisOf = (a: Live): number => {
    const axes = a.shape.flatMap((d, i) => (isFixed(d) ? [i] : []));
    return axes.length === 0 ? -1 : pick.of(axes);
  };
  const most = batch === undefined ? 20000 : 1000;
  /** Elements, of one row. */
  const bulk = (shape: readonly number[]): number => shape.reduce((n, d) => n * (isFixed(d) ? d : d / batch!), 1);
  const weights = new Map<string, Tensor>();
  const nodes: Drawn['nodes'][number][] = [];
  const dims = [1, 2, 3, 4, 5, 7, 8, 13, 16];
  const live: Live[] = Array.from({ length: 1 + pick.int(3) }, (_, i) => ({
    name: `x${i}`,
    shape:
      i === 0
        ? [batch ?? pick.of([1, 2]), pick.of([3, 4, 8]), pick.of([5, 8, 9]), pick.of([4, 7, 8])]
        : Array.from({ length: 1 + pick.int(4) }, () => pick.of(dims)),
  }));
  const inputs = [...live];
  let made = 0;
  const fresh = (): string => `v${made++}`;
  const weight = (t: Tensor): string => {
    const name = `w${weights.size}`;
    weights.set(name, t);
    return name;
  };
  const floats = (shape: readonly number[]): string =>
    weight(tensor('float32', shape, noise(size(shape), seed + weights.size * 7 + 1)));
  const ints = (...values: number[]): string => weight(tensor('int64', [values.length], values));
  const emit = (
    op: string,
    reads: string[],
    shape: readonly number[],
    attributes: Parameters<typeof node>[3] = {},
    more: readonly (readonly number[])[] = [],
  ): Live => {
    const writes = [shape, ...more].map((s): Live => ({ name: fresh(), shape: s }));
    nodes.push({
      json: node(
        op,
        reads,
        writes.map((w) => w.name),
        attributes,
      ),
      reads,
      writes,
    });
    live.push(...writes);
    return writes[0]!;
  };
  const anyOf = (rank = 0): Live | undefined => {
    const fits = live.filter((v) => v.shape.length >= rank && bulk(v.shape) <= most);
    return fits.length === 0
      ? undefined
      : pick.chance(0.6)
        ? fits[fits.length - 1 - pick.int(Math.min(4, fits.length))]
        : pick.of(fits);
  };
  /** A partner that broadcasts: another value, or a weight of some of the dims. */
  const partner = (a: Live): Live => {
    const others = live.filter((v) => {
      try {
        return bulk(broadcast(v.shape, a.shape)) <= most;
      } catch {
        return false;
      }
    });
    if (pick.chance(0.5)) return pick.of(others);
    const shape = a.shape.slice(pick.int(a.shape.length + 1)).map((d) => (pick.chance(0.7) && isFixed(d) ? d : 1));
    return { name: floats(shape), shape };
  };

  const recipes: ((a: Live) => void)[] = [
    (a) => {
      emit(
        pick.of([
          'Relu',
          'Sigmoid',
          'Tanh',
          'Neg',
          'Abs',
          'Erf',
          'Softplus',
          'HardSwish',
          'Sin',
          'Ceil',
          'Floor',
          'Round',
          'Sign',
          'Elu',
          'LeakyRelu',
          'HardSigmoid',
        ]),
        [a.name],
        a.shape,
      );
    },
    (a) => {
      emit(pick.of(['Relu', 'Sigmoid', 'Tanh', 'Mish', 'Softsign']), [a.name], a.shape);
    },
    (a) => {
      const b = partner(a);
      emit(
        pick.of(['Add', 'Sub', 'Mul', 'Max', 'Min', 'Add']),
        pick.chance(0.5) ? [a.name, b.name] : [b.name, a.name],
        broadcast(a.shape, b.shape),
      );
    },
    (a) => {
      const b = partner(a);
      emit(pick.of(['Add', 'Mul']), [a.name, b.name], broadcast(a.shape, b.shape));
    },
    (a) => {
      const t = emit('Abs', [a.name], a.shape);
      const u = emit('Add', [t.name, weight(tensor('float32', [], [1]))], a.shape);
      const b = partner(a);
      emit('Div', [b.name, u.name], broadcast(a.shape, b.shape));
    },
    (a) => {
      const b = partner(a);
      const c = emit(pick.of(['Less', 'Greater', 'GreaterOrEqual']), [a.name, b.name], broadcast(a.shape, b.shape));
      live.pop();
      emit('Where', [c.name, a.name, b.name], c.shape);
    },
    (a) => {
      const i = emit('Cast', [a.name], a.shape, { to: 6 });
      live.pop();
      emit('Cast', [i.name], a.shape, { to: 1 });
    },
    (a) => {
      emit(
        'Clip',
        [
          a.name,
          weight(tensor('float32', [], [-0.5])),
          ...(pick.chance(0.5) ? [weight(tensor('float32', [], [0.75]))] : []),
        ],
        a.shape,
      );
    },
    (a) => {
      if (a.shape.length > 0)
        emit(pick.of(['Softmax', 'LogSoftmax']), [a.name], a.shape, { axis: pick.int(a.shape.length) });
    },
    (a) => {
      if (a.shape.length === 0) return;
      const axes = a.shape.map((_, i) => i).filter(() => pick.chance(0.5));
      const over = axes.length > 0 ? axes : [pick.int(a.shape.length)];
      const keep = pick.int(2);
      const op = pick.of(['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL2']);
      const shape = a.shape.flatMap((d, i) => (over.includes(i) ? (keep ? [1] : []) : [d]));
      if (op === 'ReduceSum') emit(op, [a.name, ints(...over)], shape, { keepdims: keep });
      else emit(op, [a.name], shape, { axes: over, keepdims: keep });
    },
    (a) => {
      const perm = a.shape.map((_, i) => i).sort(() => pick.int(3) - 1);
      emit(
        'Transpose',
        [a.name],
        perm.map((p) => a.shape[p]!),
        { perm },
      );
    },
    (a) => {
      const at = pick.int(a.shape.length + 1);
      const flat = pick.chance(0.5);
      emit(
        'Reshape',
        [a.name, ints(...(flat ? [] : a.shape.slice(0, at).map(() => 0)), -1)],
        flat ? [size(a.shape)] : [...a.shape.slice(0, at), size(a.shape.slice(at))],
      );
    },
    (a) => {
      const at = pick.int(a.shape.length + 1);
      emit('Unsqueeze', [a.name, ints(at)], [...a.shape.slice(0, at), 1, ...a.shape.slice(at)]);
    },
    (a) => {
      const axis = axisOf(a);
      if (axis < 0) return;
      const d = a.shape[axis]!;
      const from = pick.int(d);
      const step = 1 + pick.int(2);
      const back = pick.chance(0.3);
      const length = back ? Math.ceil((from + 1) / step) : Math.ceil((d - from) / step);
      emit(
        'Slice',
        [a.name, ints(from), ints(back ? -d - 1 : d), ints(axis), ints(back ? -step : step)],
        a.shape.map((v, i) => (i === axis ? length : v)),
      );
    },
    (a) => {
      if (a.shape.length === 0) return;
      const axis = pick.int(a.shape.length);
      const same = live.filter(
        (v) => v.shape.length === a.shape.length && v.shape.every((d, i) => i === axis || d === a.shape[i]),
      );
      const parts = [a, ...Array.from({ length: 1 + pick.int(2) }, () => pick.of(same))];
      emit(
        'Concat',
        parts.map((p) => p.name),
        a.shape.map((d, i) => (i === axis ? parts.reduce((n, p) => n + p.shape[axis]!, 0) : d)),
        { axis },
      );
    },
    (a) => {
      const axis = axisOf(a);
      const d = a.shape[axis] ?? 0;
      if (d < 2) return;
      const first = 1 + pick.int(d - 1);
      const part = (n: number): number[] => a.shape.map((v, i) => (i === axis ? n : v));
      emit('Split', [a.name, ints(first, d - first)], part(first), { axis }, [part(d - first)]);
    },
    (a) => {
      const axis = axisOf(a);
      if (axis < 0) return;
      const n = 1 + pick.int(5);
      const indices = Array.from({ length: n }, () => pick.int(2 * a.shape[axis]!) - a.shape[axis]!);
      emit('Gather', [a.name, ints(...indices)], [...a.shape.slice(0, axis), n, ...a.shape.slice(axis + 1)], { axis });
    },
    (a) => {
      const pads = [...a.shape, ...a.shape].map((d) => (isFixed(d) ? pick.int(2) : 0));
      emit(
        'Pad',
        [a.name, ints(...pads), weight(tensor('float32', [], [0.25]))],
        a.shape.map((d, i) => d + pads[i]! + pads[i + a.shape.length]!),
      );
    },
    (a) => {
      if (a.shape.length < 1 || !isFixed(a.shape.at(-1)!)) return;
      const k = a.shape.at(-1)!;
      const n = pick.of([1, 3, 4, 8, 17]);
      emit('MatMul', [a.name, floats([k, n])], [...a.shape.slice(0, -1), n]);
    },
    (a) => {
      if (a.shape.length < 2) return;
      const t = emit('Transpose', [a.name], [...a.shape.slice(0, -2), a.shape.at(-1)!, a.shape.at(-2)!], {
        perm: [...a.shape.map((_, i) => i).slice(0, -2), a.shape.length - 1, a.shape.length - 2],
      });
      emit('MatMul', [a.name, t.name], [...a.shape.slice(0, -1), a.shape.at(-2)!]);
    },
    (a) => {
      if (a.shape.length !== 2 || !isFixed(a.shape[1]!)) return;
      const n = pick.of([2, 5, 8]);
      emit('Gemm', [a.name, floats([n, a.shape[1]!]), floats([n])], [a.shape[0]!, n], {
        transB: 1,
        alpha: { float: 0.5 },
      });
    },
    (a) => {
      if (a.shape.length !== 4 || !a.shape.slice(1).every(isFixed)) return;
      const [b, c, h, w] = a.shape as [number, number, number, number];
      const group = pick.chance(0.4) ? c : 1;
      const k = pick.of([1, 3]);
      const stride = 1 + pick.int(2);
      const m = group === 1 ? pick.of([1, 4, 6, 8]) : c * (1 + pick.int(2));
      const pad = k === 3 ? pick.int(2) : 0;
      const out = (d: number): number => Math.floor((d + 2 * pad - k) / stride) + 1;
      if (h + 2 * pad < k || w + 2 * pad < k) return;
      emit(
        'Conv',
        [a.name, floats([m, c / group, k, k]), ...(pick.chance(0.6) ? [floats([m])] : [])],
        [b, m, out(h), out(w)],
        { kernel_shape: [k, k], strides: [stride, stride], pads: [pad, pad, pad, pad], group },
      );
    },
    (a) => {
      if (a.shape.length !== 4 || a.shape[2]! < 2 || a.shape[3]! < 2 || !a.shape.slice(2).every(isFixed)) return;
      const [b, c, h, w] = a.shape as [number, number, number, number];
      emit(pick.of(['MaxPool', 'AveragePool']), [a.name], [b, c, h - 1, w - 1], { kernel_shape: [2, 2] });
    },
    (a) => {
      if (a.shape.length !== 4) return;
      const [b, c] = a.shape as [number, number, number, number];
      emit('GlobalAveragePool', [a.name], [b, c, 1, 1]);
    },
    (a) => {
      if (a.shape.length < 1 || a.shape.at(-1)! < 2 || !isFixed(a.shape.at(-1)!)) return;
      const d = a.shape.at(-1)!;
      emit('LayerNormalization', [a.name, floats([d]), floats([d])], a.shape, { axis: -1 });
    },
    (a) => {
      if (a.shape.length < 2 || !isFixed(a.shape[1]!)) return;
      const c = a.shape[1]!;
      const variance = weight(
        tensor(
          'float32',
          [c],
          Array.from({ length: c }, (_, i) => 0.5 + (i % 3)),
        ),
      );
      emit('BatchNormalization', [a.name, floats([c]), floats([c]), floats([c]), variance], a.shape);
    },
    (a) => {
      const target = [pick.of([1, 2, 3]), ...a.shape];
      if (bulk(target) <= most && target.length <= 5)
        emit('Expand', [a.name, ints(target[0]!, ...a.shape.map(() => 1))], target);
    },
    (a) => {
      if (a.shape.length !== 4) return;
      const [b, c, h, w] = a.shape as [number, number, number, number];
      if (4 * bulk(a.shape) > most) return;
      emit('Resize', [a.name, '', weight(tensor('float32', [4], [1, 1, 2, 2]))], [b, c, 2 * h, 2 * w], {
        mode: pick.of(['nearest', 'linear']),
        coordinate_transformation_mode: pick.of(['asymmetric', 'half_pixel']),
        nearest_mode: 'floor',
      });
    },
    // Attention as exporters write it, of one sequence or several, with scores moved by a mask.
    (a) => {
      if (a.shape.length < 3 || !isFixed(a.shape.at(-1)!)) return;
      const [rows, d] = a.shape.slice(-2) as [number, number];
      const lead = a.shape.slice(0, -1);
      const n = pick.of([4, 8]);
      const turned = [...a.shape.map((_, i) => i).slice(0, -2), a.shape.length - 1, a.shape.length - 2];
      if (bulk([...lead, rows]) > most) return;
      const [q, k, v] = [0, 1, 2].map(() => emit('MatMul', [a.name, floats([d, n])], [...lead, n])) as [
        Live,
        Live,
        Live,
      ];
      const t = emit('Transpose', [k.name], [...a.shape.slice(0, -2), n, rows], { perm: turned });
      const s = emit('MatMul', [q.name, t.name], [...lead, rows]);
      const scaled = emit('Mul', [s.name, weight(tensor('float32', [], [n ** -0.5]))], s.shape);
      const masked =
        pick.chance(0.5) || !isFixed(rows) ? scaled : emit('Add', [scaled.name, floats([rows, rows])], s.shape);
      emit('MatMul', [emit('Softmax', [masked.name], s.shape, { axis: -1 }).name, v.name], [...lead, n]);
    },
    (a) => {
      const axis = axisOf(a);
      if (axis < 0) return;
      const d = a.shape[axis]!;
      const k = 1 + pick.int(d);
      emit(
        'TopK',
        [a.name, ints(k)],
        a.shape.map((v, i) => (i === axis ? k : v)),
        { axis, largest: pick.int(2) },
        [a.shape.map((v, i) => (i === axis ? k : v))],
      );
      live.pop();
    },
    (a) => {
      const axis = axisOf(a);
      if (axis < 0) return;
      const keep = pick.int(2);
      const found = emit(
        'ArgMax',
        [a.name],
        a.shape.flatMap((d, i) => (i === axis ? (keep ? [1] : []) : [d])),
        { axis, keepdims: keep },
      );
      live.pop();
      emit('Cast', [found.name], found.shape, { to: 1 });
    },
    (a) => {
      const axis = axisOf(a);
      if (axis >= 0)
        emit('CumSum', [a.name, weight(tensor('int64', [], [axis]))], a.shape, {
          exclusive: pick.int(2),
          reverse: pick.int(2),
        });
    },
    (a) => {
      if (a.shape.length < 3 || !isFixed(a.shape[1]!) || size(a.shape.slice(2)) < 2) return;
      const c = a.shape[1]!;
      emit('InstanceNormalization', [a.name, floats([c]), floats([c])], a.shape);
    },
    (a) => {
      if (a.shape.length !== 3 || !a.shape.slice(1).every(isFixed)) return;
      const [b, c, w] = a.shape as [number, number, number];
      const m = pick.of([1, 3, 8]);
      const dilation = 1 + pick.int(2);
      if (w >= 2 * dilation + 1)
        emit('Conv', [a.name, floats([m, c, 3]), floats([m])], [b, m, w - 2 * dilation], {
          kernel_shape: [3],
          dilations: [dilation],
        });
    },
    (a) => {
      if (a.shape.length !== 4 || !a.shape.slice(1).every(isFixed) || 4 * bulk(a.shape) > most) return;
      const [b, c, h, w] = a.shape as [number, number, number, number];
      const m = pick.of([1, 4]);
      const stride = 1 + pick.int(2);
      emit('ConvTranspose', [a.name, floats([c, m, 3, 3])], [b, m, (h - 1) * stride + 3, (w - 1) * stride + 3], {
        kernel_shape: [3, 3],
        strides: [stride, stride],
      });
    },
    (a) => {
      if (a.shape.length !== 4 || a.shape[1]! % 4 !== 0 || !a.shape.every((d, i) => i === 0 || isFixed(d))) return;
      const [b, c, h, w] = a.shape as [number, number, number, number];
      emit('DepthToSpace', [a.name], [b, c / 4, 2 * h, 2 * w], { blocksize: 2, mode: pick.of(['DCR', 'CRD']) });
    },
    (a) => {
      const repeats = a.shape.map((d) => (isFixed(d) ? 1 + pick.int(2) : 1));
      if (bulk(a.shape) * size(repeats) <= most)
        emit(
          'Tile',
          [a.name, ints(...repeats)],
          a.shape.map((d, i) => d * repeats[i]!),
        );
    },
    (a) => {
      if (a.shape.length >= 2) emit('Trilu', [a.name], a.shape, { upper: pick.int(2) });
    },
    (a) => {
      const t = emit('Abs', [a.name], a.shape);
      const root = emit('Sqrt', [t.name], a.shape);
      emit(pick.of(['Pow', 'Mul']), [root.name, weight(tensor('float32', [], [pick.of([2, 0.5, 3])]))], a.shape);
    },
    (a) => {
      const b = partner(a);
      const shape = broadcast(a.shape, b.shape);
      const less = emit('Less', [a.name, b.name], shape);
      const zero = emit('Greater', [a.name, weight(tensor('float32', [], [0]))], a.shape);
      live.splice(-2);
      const both = emit(pick.of(['And', 'Or', 'Xor']), [less.name, zero.name], shape);
      live.pop();
      emit('Cast', [both.name], shape, { to: 1 });
    },
    (a) => {
      if (a.shape.length < 1 || !isFixed(a.shape[0]!)) return;
      const rows = a.shape[0]!;
      const n = 1 + pick.int(Math.min(rows, 3));
      const at = Array.from({ length: rows }, (_, i) => i)
        .sort(() => pick.int(3) - 1)
        .slice(0, n);
      emit(
        'ScatterND',
        [
          a.name,
          weight(tensor('int64', [n, 1], at)),
          emit('Gather', [a.name, ints(...at.map((i) => (i + 1) % rows))], [n, ...a.shape.slice(1)]).name,
        ],
        a.shape,
      );
    },
    (a) => {
      if (a.shape.length !== 3 || !isFixed(a.shape[2]!)) return;
      const [b, s, d] = a.shape as [number, number, number];
      const heads = pick.of([2, 4]);
      emit('Einsum', [a.name, floats([heads, d])], [b, heads, s], { equation: 'bsd,hd->bhs' });
    },
  ];
  for (let tries = 0; nodes.length < count && tries < 20 * count; tries++) {
    const a = anyOf();
    if (a !== undefined && a.shape.length <= 5) pick.of(recipes)(a);
  }
  return { nodes, weights, inputs };
}

/**
 * The graph's model, with these outputs; without any: all values that nothing reads. Of `batch` rows, where that is
 * given: any number of them.
 */
export function modelOf(
  drawn: Drawn,
  outputs?: readonly string[],
  batch?: number,
  float: 'float32' | 'float16' = 'float32',
): Uint8Array {
  const read = new Set(drawn.nodes.flatMap((n) => n.reads));
  const all = drawn.nodes.flatMap((n) => n.writes);
  const wanted =
    outputs === undefined ? all.filter((v) => !read.has(v.name)) : all.filter((v) => outputs.includes(v.name));
  const needed = new Set(wanted.map((v) => v.name));
  const free = (shape: readonly number[]): (number | string | null)[] =>
    shape.map((d) => (batch === undefined || d % batch !== 0 ? d : d === batch ? 'batch' : null));
  const nodes = [...drawn.nodes]
    .reverse()
    .filter((n) => {
      if (!n.writes.some((v) => needed.has(v.name))) return false;
      n.reads.forEach((r) => needed.add(r));
      return true;
    })
    .reverse();
  return encode({
    input: drawn.inputs.map((v) => port(v.name, free(v.shape), float)),
    output: wanted.map((v) => port(v.name, free(v.shape), dtypeOf(drawn, v.name, float))),
    initializer: [...drawn.weights].filter(([name]) => needed.has(name)).map(([name, t]) => initializer(name, t)),
    node: nodes.map((n) => n.json),
  });
}
function dtypeOf({ nodes }: Drawn, name: string, float: 'float32' | 'float16'): DType {
  const { json, writes } = nodes.find((n) => n.writes.some((w) => w.name === name))!;
  const op = json.opType as string;
  if (op === 'Cast') return (json.attribute as { i: number }[])[0]!.i === 6 ? 'int32' : float;
  if (op === 'ArgMax' || (op === 'TopK' && writes[1]!.name === name)) return 'int64';
  return ['Less', 'Greater', 'GreaterOrEqual', 'And', 'Or', 'Xor'].includes(op) ? 'bool' : float;
}

/** The graph in half precision: give `modelOf` 'float16' with it. Scales of Resize stay what they are. */
export function halved(drawn: Drawn): Drawn {
  const kept = new Set(
    drawn.nodes.filter(({ json }) => json.opType === 'Resize').map(({ json }) => (json.input as string[])[2]!),
  );
  return {
    ...drawn,
    weights: new Map([...drawn.weights].map(([name, t]) => [name, kept.has(name) ? t : half(t)])),
    nodes: drawn.nodes.map((n) =>
      n.json.opType === 'Cast' && (n.json.attribute as { i: number }[])[0]!.i === 1
        ? { ...n, json: { ...n.json, attribute: [{ name: 'to', type: 2, i: 10 }] } }
        : n,
    ),
  };
}
export const half = (t: Tensor): Tensor =>
  t.dtype === 'float32' ? tensor('float16', t.shape, t.data as Float32Array) : t;

/** Noise for the inputs; `rows` in place of every `batch` rows. */
export const feedsOf = (drawn: Drawn, seed: number, batch = 0, rows = 0): Record<string, Tensor> =>
  Object.fromEntries(
    drawn.inputs.map((v, i) => {
      const shape = v.shape.map((d) => (d === batch ? rows : d));
      return [v.name, tensor('float32', shape, noise(size(shape), seed * 31 + i + 1))];
    }),
  );
