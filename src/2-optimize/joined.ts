/** Constants put together from others when a device wants them: one for equal parts, for the plans of all dims. */
import type { Constant } from '../core/graph.ts';
import { numbers, writer } from '../core/numbers.ts';
import { sizeOf, type Tensor, zeros } from '../core/tensor.ts';

const IDS = new WeakMap<Constant, number>();
let next = 0;
function idOf(c: Constant): number {
  let id = IDS.get(c);
  if (id === undefined) IDS.set(c, (id = next++));
  return id;
}
const MADE = new WeakMap<Constant, Map<string, Constant>>();

/** The constant that `join` makes of the parts' tensors; `how` names it. */
function made(
  how: string,
  parts: readonly Constant[],
  shape: readonly number[],
  join: (parts: readonly Tensor[], out: Tensor) => void,
): Constant {
  const known = MADE.get(parts[0]!) ?? new Map<string, Constant>();
  MADE.set(parts[0]!, known);
  const key = `${how} ${parts.map(idOf)}`;
  let constant = known.get(key);
  if (constant === undefined) {
    const { dtype } = parts[0]!;
    const load = async (): Promise<Tensor> => {
      const out = zeros(dtype, shape);
      join(await Promise.all(parts.map((c) => c.load())), out);
      return out;
    };
    known.set(key, (constant = { dtype, shape, peek: () => null, load }));
  }
  return constant;
}

/** Matrices or vectors side by side along the last axis, or with `turned` along the first. */
export function sideBySide(parts: readonly Constant[], turned: boolean): Constant {
  const rank = parts[0]!.shape.length;
  const total = parts.reduce((n, c) => n + c.shape[turned ? 0 : rank - 1]!, 0);
  const depth = rank === 1 ? 1 : parts[0]!.shape[turned ? 1 : 0]!;
  return made(
    `side ${turned}`,
    parts,
    rank === 1 ? [total] : turned ? [total, depth] : [depth, total],
    (tensors, out) => {
      const to = out.data as Float32Array;
      let at = 0;
      for (const t of tensors) {
        const width = sizeOf(t.shape) / depth;
        const from = t.data as Float32Array;
        if (turned) to.set(from, at * depth);
        else for (let i = 0; i < depth; i++) to.set(from.subarray(i * width, (i + 1) * width), i * total + at);
        at += width;
      }
    },
  );
}

/** Each part as rows, by its first dim: the rows of all side by side. */
export function joinedRows(parts: readonly Constant[]): Constant {
  const rows = parts[0]!.shape[0]!;
  const widths = parts.map((c) => sizeOf(c.shape) / rows);
  const total = widths.reduce((n, w) => n + w, 0);
  return made('rows', parts, [rows, total], (tensors, out) => {
    let at = 0;
    tensors.forEach((t, n) => {
      for (let i = 0; i < rows; i++)
        (out.data as Float32Array).set(
          (t.data as Float32Array).subarray(i * widths[n]!, (i + 1) * widths[n]!),
          i * total + at,
        );
      at += widths[n]!;
    });
  });
}

/** A matrix with its axes exchanged, under `shape`. */
export const turned = (c: Constant, shape: readonly number[]): Constant =>
  made(`turned ${shape}`, [c], shape, ([t], out) => {
    const [rows, columns] = c.shape as [number, number];
    const from = t!.data as Float32Array;
    const to = out.data as Float32Array;
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j]!;
  });

/** Constants of one shape added up. */
export const sumOf = (parts: readonly Constant[]): Constant =>
  made('sum', parts, parts[0]!.shape, (tensors, out) => {
    const put = writer(out);
    const all = tensors.map(numbers);
    for (let i = 0; i < sizeOf(out.shape); i++)
      put(
        i,
        all.reduce((n, v) => n + v[i]!, 0),
      );
  });

/** Two matrices of one shape, their columns in pairs by turns: a0 a1 b0 b1 a2 … */
export function inPairs(a: Constant, b: Constant): Constant {
  const [depth, width] = a.shape as [number, number];
  return made('pairs', [a, b], [depth, 2 * width], (tensors, out) => {
    const to = out.data as Float32Array;
    tensors.forEach((t, n) => {
      const from = t.data as Float32Array;
      for (let i = 0, o = 2 * n; i < depth * width; i += 2, o += 4) {
        to[o] = from[i]!;
        to[o + 1] = from[i + 1]!;
      }
    });
  });
}
