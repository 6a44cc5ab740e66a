/** Kernels that only move elements, whatever they mean: strided copies, concatenation, padding. */
import { fromNumbers } from '../../src/core/numbers.ts';
import { bytesOfTensor, sizeOf, stridesOf } from '../../src/core/tensor.ts';
import { moveConcat, movePad, moveStrided, moveTransposeTile } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch, Ref } from '../define.ts';
import type { Given } from '../given.ts';
import { mergeDims } from '../merge.ts';
import { widthOf } from './elem.ts';
import { grid } from './grid.ts';
import { givenCall, knows, unitOf, widest, writeSlot } from './unit.ts';

/**
 * Output `output` reads input 0 from element `start` on by `strides` (in elements, of any sign, 0 to repeat), under
 * `shape`.
 */
export interface StridedView {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly start?: number;
}

const WG = 64;
const DIMS = 12;
const reversed = (list: readonly number[]): number[] => [...list].reverse();
const present = (call: Call, i: number): boolean =>
  (call.outputs[i] ?? null) !== null && sizeOf(call.outputs[i]!.shape) > 0;

/** `view` with merged dims, in the widest units that it moves together: dims innermost last. */
function inUnits(
  view: StridedView,
  width: number,
): { width: number; shape: number[]; strides: number[]; start: number } {
  const {
    dims: shape,
    strides: [strides],
  } = mergeDims(view.shape, [view.strides], true) as { dims: number[]; strides: [number[]] };
  const start = view.start ?? 0;
  if (shape.length === 0 || strides.at(-1) !== 1) return { width, shape, strides, start };
  const { width: unit, times } = widest(width, [start, shape.at(-1)!, ...strides.slice(0, -1)]);
  const inner = shape.at(-1)! / times;
  const outer = strides.slice(0, -1).map((s) => s / times);
  return inner === 1
    ? { width: unit, shape: shape.slice(0, -1), strides: outer, start: start / times }
    : { width: unit, shape: [...shape.slice(0, -1), inner], strides: [...outer, 1], start: start / times };
}

/** One strided copy from `from` to `to`, elements of `width` bytes. */
export function copyLaunch(view: StridedView, width: number, from: Ref, to: Ref): Launch {
  const v = inUnits(view, width);
  const unit = unitOf(v.width);
  const count = sizeOf(v.shape);
  return {
    module: moveStrided,
    types: unit.types,
    slots: { write: writeSlot(unit) },
    params: { WG, PER: unit.PER, RANK: v.shape.length },
    uniforms: { count, start: v.start, dims: reversed(v.shape), strides: reversed(v.strides) },
    workgroups: grid(Math.ceil(count / unit.PER), WG),
    bind: [from, to],
  };
}

/** A copy of all of input `input` to output `output`. */
export const wholeCopy = (call: Call, input: number, output: number): Launch => {
  const { dtype, shape } = call.inputs[input]!;
  return {
    ...copyLaunch({ shape: [sizeOf(shape)], strides: [1] }, widthOf(dtype), { input }, { output }),
    copies: true,
  };
};

/**
 * An operator whose outputs are strided views of input 0. `views` says which, an output each; `needs` lists inputs
 * whose values it asks for.
 */
export function stridedKernels(
  name: string,
  views: (given: Given) => readonly StridedView[],
  needs: readonly number[] = [],
): readonly GpuKernel[] {
  const movable = (call: Call): boolean => widthOf(call.inputs[0]!.dtype) > 0 && knows(call, ...needs);
  const tiled = (call: Call): ReturnType<typeof inUnits> | null => {
    const v = inUnits(views(givenCall(call))[0]!, widthOf(call.inputs[0]!.dtype));
    const [c, r] = [v.shape.at(-2) ?? 0, v.shape.at(-1) ?? 0];
    const swaps =
      v.width === 4 &&
      v.start === 0 &&
      v.strides.at(-1) === c &&
      v.strides.at(-2) === 1 &&
      (v.shape.length === 2 || (v.shape.length === 3 && v.strides[0] === r * c && v.shape[0]! <= 65535));
    return swaps && c >= 16 && r >= 16 && Math.max(r, c) <= 32 * 65535 ? v : null;
  };
  return [
    {
      name: `${name}.tile`,
      accepts: (call, caps) => !caps.software && call.outputs.length === 1 && movable(call) && tiled(call) !== null,
      launch: (call) => {
        const v = tiled(call)!;
        const [columns, rows] = [v.shape.at(-2)!, v.shape.at(-1)!];
        return {
          module: moveTransposeTile,
          types: {},
          uniforms: { rows, columns },
          bind: [{ input: 0 }, { output: 0 }],
          workgroups: [Math.ceil(columns / 32), Math.ceil(rows / 32), v.shape.length === 3 ? v.shape[0]! : 1],
        };
      },
    },
    {
      name: `${name}.strided`,
      accepts: (call) =>
        movable(call) &&
        views(givenCall(call)).every((v) => inUnits(v, widthOf(call.inputs[0]!.dtype)).shape.length <= DIMS),
      launch: (call) =>
        views(givenCall(call)).flatMap((v, i) =>
          present(call, i) ? [copyLaunch(v, widthOf(call.inputs[0]!.dtype), { input: 0 }, { output: i })] : [],
        ),
    },
  ];
}

/** Concat along `axisOf(call)`: inputs that fit into one dispatch together. */
export const concatKernel = (axisOf: (call: Call) => number): GpuKernel => ({
  name: 'concat.rows',
  accepts: (call) => call.inputs.every((f) => f !== null) && widthOf(call.outputs[0]!.dtype) > 0,
  launch: (call, caps) => {
    const { dtype, shape } = call.outputs[0]!;
    const axis = axisOf(call);
    const outer = sizeOf(shape.slice(0, axis));
    const parts = call.inputs
      .map((f, input) => ({ input, run: sizeOf(f!.shape.slice(axis)) }))
      .filter((p) => p.run > 0);
    const { width, times } = widest(
      widthOf(dtype),
      parts.map((p) => p.run),
    );
    const row = sizeOf(shape.slice(axis)) / times;
    const most = caps.limits.maxStorageBuffersPerShaderStage - 1;
    const launches: Launch[] = [];
    for (let first = 0, start = 0; first < parts.length; first += most) {
      const group = parts.slice(first, first + most).map((p) => ({ ...p, run: p.run / times }));
      const names = group.map((_, n) => `in${n}`);
      const unit = unitOf(width, names);
      const span = group.reduce((n, p) => n + p.run, 0);
      const ends = group.map((_, n) => group.slice(0, n + 1).reduce((sum, p) => sum + p.run, 0));
      const branches = names.map(
        (name, n) =>
          `${n < names.length - 1 ? `if (r < extra.end${n}) { ` : ''}return load_${name}(row * ${n === 0 ? 'extra.end0 + r' : `(extra.end${n} - extra.end${n - 1}) + r - extra.end${n - 1}`});${n < names.length - 1 ? ' }' : ''}`,
      );
      const alone = span === row;
      const count = outer * (unit.PER === 1 ? span : row);
      launches.push({
        module: moveConcat,
        types: unit.types,
        params: { WG, PER: unit.PER },
        uniforms: { count, row, start, span },
        workgroups: grid(Math.ceil(count / unit.PER), WG),
        slots: {
          write:
            unit.PER === 1
              ? [unit.text, `fn write(q: u32, last: u32) { store_y(${alone ? 'q' : 'place(q)'}, spanned(q)); }`].join(
                  '\n',
                )
              : writeSlot(unit),
          piece: `fn piece(row: u32, r: u32) -> Y {\n  ${branches.join('\n  ')}\n}`,
        },
        bind: [{ output: 0 }],
        extra: group.map((p, n) => ({ name: names[n]!, bind: { input: p.input } })),
        extraUniforms: ends.map((value, n) => ({ name: `end${n}`, type: 'u32' as const, value })),
      });
      start += span;
    }
    return launches;
  },
});

/**
 * What padding does to each axis of input 0: elements put before and after (removed, where negative), and the shape
 * that results.
 */
export interface PadGeometry {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly shape: readonly number[];
  readonly mode: string;
}

/** The fill is input `fill` where that is given, else attribute `value`, else 0. */
export const padKernel = (
  name: string,
  geometry: (given: Given) => PadGeometry,
  needs: readonly number[],
  fill?: number,
): GpuKernel => ({
  name: `${name}.map`,
  accepts: (call) =>
    widthOf(call.inputs[0]!.dtype) > 0 &&
    widthOf(call.inputs[0]!.dtype) <= 8 &&
    knows(call, ...needs) &&
    padded(call, geometry).length <= 8 &&
    call.inputs[0]!.shape.length > 0,
  launch: (call) => {
    const { dtype } = call.inputs[0]!;
    const axes = padded(call, geometry).reverse();
    const { mode } = geometry(givenCall(call));
    const given = fill !== undefined && (call.inputs[fill] ?? null) !== null;
    const width = widthOf(dtype);
    const unit = unitOf(width, given ? ['x', 'filler'] : ['x']);
    const count = sizeOf(call.outputs[0]!.shape);
    const value = (call.attrs as { readonly value?: number }).value ?? 0;
    const bytes = new Uint8Array(8);
    if (!given && value !== 0) bytes.set(bytesOfTensor(fromNumbers(dtype, [1], [value])));
    const words = new Uint32Array(bytes.buffer);
    const text = given ? 'load_filler(0u)' : width === 8 ? 'vec2u(extra.low, extra.high)' : 'extra.low';
    return {
      module: movePad,
      types: unit.types,
      params: { WG, PER: unit.PER, RANK: axes.length, MODE: ['constant', 'edge', 'reflect', 'wrap'].indexOf(mode) },
      slots: { write: writeSlot(unit), fill: `fn fill() -> Y { return ${text}; }` },
      uniforms: {
        count,
        dims: axes.map((a) => a.dim),
        kept: axes.map((a) => a.kept),
        lead: axes.map((a) => a.lead),
        first: axes.map((a) => a.first),
        strides: axes.map((a) => a.stride),
      },
      workgroups: grid(Math.ceil(count / unit.PER), WG),
      bind: [{ input: 0 }, { output: 0 }],
      ...(given
        ? { extra: [{ name: 'filler', bind: { input: fill } }] }
        : {
            extraUniforms: [
              { name: 'low', type: 'u32', value: words[0]! },
              { name: 'high', type: 'u32', value: words[1]! },
            ],
          }),
    };
  },
});

interface PadAxis {
  dim: number;
  kept: number;
  readonly lead: number;
  readonly first: number;
  stride: number;
  readonly plain: boolean;
}

/** Axes, neighbours that are not padded merged. */
function padded(call: Call, geometry: (given: Given) => PadGeometry): PadAxis[] {
  const { before, after, shape } = geometry(givenCall(call));
  const from = call.inputs[0]!.shape;
  const strides = stridesOf(from);
  const axes: PadAxis[] = [];
  from.forEach((d, k) => {
    const [b, a] = [before[k]!, after[k]!];
    const plain = b === 0 && a === 0;
    const last = axes.at(-1);
    if (plain && last?.plain) {
      last.dim *= d;
      last.kept *= d;
      last.stride = strides[k]!;
    } else
      axes.push({
        dim: shape[k]!,
        kept: d + Math.min(0, b) + Math.min(0, a),
        lead: Math.max(0, b),
        first: Math.max(0, -b),
        stride: strides[k]!,
        plain,
      });
  });
  return axes;
}
