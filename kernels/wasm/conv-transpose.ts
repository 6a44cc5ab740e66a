/**
 * ConvTranspose: for some filters at a time, what every input contributes to every tap is one matrix product (weights ×
 * image, both read where they lie); the contributions are then added to the output where the window of their input is.
 */
import type { Split, WasmCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { windowOfTranspose } from '../conv-window.ts';
import type { Call, WasmEmitter, WasmKernel } from '../define.ts';
import { f32, f32x4, type Fn, type I32, i32, type Local, type Mod, v128 } from './asm.ts';
import { finishes, finishLaunch, finishOf } from './epilogue.ts';
import { gemm2d, type GemmSpec, gemmSpec, i32s, locals, loop, params } from './gemm-core.ts';
import { MACS } from './gemm.ts';
import { kernelModule } from './module.ts';

type Three = readonly [number, number, number];
const three = (a: readonly number[], fill: number): Three =>
  [...new Array<number>(3 - a.length).fill(fill), ...a] as unknown as Three;
interface Spec {
  readonly gemm: GemmSpec;
  readonly bias: boolean;
  readonly input: Three;
  readonly output: Three;
  readonly kernel: Three;
  readonly strides: Three;
  readonly dilations: Three;
  readonly pads: Three;
  /** Filters worked on together. */
  readonly together: number;
}

/**
 * Columns that are stored at once: of two taps that are neighbours, and two apart for the next input, what four inputs
 * give lies in eight in a row.
 */
const PAIRS: readonly (readonly number[])[] = [
  [0, 4, 1, 5],
  [2, 6, 3, 7],
];

/** (columns, out): adds one filter's [tap][input position] to its output plane. */
function scatter(m: Mod, s: Spec): Fn {
  return m.fn('scatter', i32s(2), [], false, (f) => {
    const { columns, out } = params(f, 'columns', 'out');
    const [tz, ty, tx, z, y, x, oz, oy, row, at, low, high] = locals(f, 'i32', 12) as Local<'i32'>[];
    const [ID, IH, IW] = s.input;
    const [OD, OH, OW] = s.output;
    const [, , KW] = s.kernel;
    const [, , SW] = s.strides;
    const [, , DW] = s.dilations;
    const tap = 4 * ID * IH * IW;
    const start = (o: Local<'i32'>, tap: Local<'i32'>, d: number): void =>
      f.set(o, i32.sub(i32.mul(tap, s.dilations[d]!), s.pads[d]!));
    /** Columns of `taps` neighbouring taps, the first of them `tx`, into a row of the output. */
    const intoRow = (taps: number, quads: readonly (readonly number[])[]): void => {
      const column = (): I32 => i32.add(i32.sub(i32.mul(tx!, DW), s.pads[2]), i32.mul(x!, SW));
      const single = (end: I32): void =>
        f.whileLoop(
          () => i32.lts(x!, end),
          () => {
            const ox = f.let(column());
            for (let t = 0; t < taps; t++)
              f.iff(i32.ltu(i32.add(ox, t), OW), () => {
                // negative positions are large unsigned ones
                const to = f.let(i32.add(row!, i32.shl(ox, 2)));
                f.emit(f32.store(to, f32.add(f32.load(to, 4 * t), f32.load(at!, t * tap)), 4 * t));
              });
            f.inc(at!, 4);
            f.inc(x!, 1);
          },
        );
      f.set(x!, i32.const(0));
      if (quads.length > 0) {
        // Inputs from `low` until `high` have all their columns inside.
        const before = f.let(i32.sub(s.pads[2], tx!));
        f.set(low!, i32.shrs(i32.add(before, SW - 1), SW - 1));
        f.set(high!, i32.shrs(i32.add(before, OW + SW - taps), SW - 1));
        f.set(high!, i32.select(i32.lts(high!, IW), high!, IW));
        single(i32.select(i32.lts(low!, IW), low!, IW));
        f.whileLoop(
          () => i32.les(i32.add(x!, 4), high!),
          () => {
            const to = f.let(i32.add(row!, i32.shl(column(), 2)));
            const given = Array.from({ length: taps }, (_, t) => f.let(v128.load(at!, t * tap)));
            quads.forEach((lanes, q) =>
              f.emit(
                v128.store(
                  to,
                  f32x4.add(
                    v128.load(to, 16 * q),
                    taps === 1 ? given[0]! : v128.shuf32(given[0]!, given[1]!, [...lanes]),
                  ),
                  16 * q,
                ),
              ),
            );
            f.inc(at!, 16);
            f.inc(x!, 4);
          },
        );
      }
      single(i32.const(IW));
    };
    const eachRow = (taps: number, quads: readonly (readonly number[])[]): void => {
      start(oz!, tz!, 0);
      loop(f, z!, 0, ID, 1, () => {
        start(oy!, ty!, 1);
        loop(f, y!, 0, IH, 1, () => {
          f.iff(i32.and(i32.ltu(oz!, OD), i32.ltu(oy!, OH)), () => {
            f.set(row!, i32.add(out, i32.mul(i32.add(i32.mul(oz!, OH), oy!), 4 * OW)));
            f.set(at!, columns);
            intoRow(taps, quads);
          });
          f.inc(columns, 4 * IW);
          f.inc(oy!, s.strides[1]);
        });
        f.inc(oz!, s.strides[0]);
      });
      f.inc(columns, (taps - 1) * tap);
    };
    const paired = SW === 2 && DW === 1 ? KW - (KW % 2) : 0;
    loop(f, tz!, 0, s.kernel[0], 1, () =>
      loop(f, ty!, 0, s.kernel[1], 1, () => {
        if (paired > 0) loop(f, tx!, 0, paired, 2, () => eachRow(2, PAIRS));
        if (paired < KW) loop(f, tx!, paired, KW, 1, () => eachRow(1, SW === 1 && DW === 1 ? [[0, 1, 2, 3]] : []));
      }),
    );
  });
}

/**
 * run(x, w, bias, out, columns, N, groups, blocks, channels, wStep): wStep: bytes of one channel's weights; `blocks`
 * times `together` filters in a group.
 */
const transposeModule: WasmEmitter<Spec> = {
  name: 'conv_transpose',
  build: (s, caps: WasmCaps) =>
    kernelModule('conv_transpose', i32s(10), caps, (f, m) => {
      const p = params(f, 'x', 'w', 'bias', 'out', 'columns', 'N', 'groups', 'blocks', 'channels', 'wStep');
      const multiply = gemm2d(m, caps, s.gemm);
      const add = scatter(m, s);
      const image = sizeOf(s.input);
      const plane = sizeOf(s.output);
      const taps = sizeOf(s.kernel);
      const rows = s.together * taps;
      const [w, bias, column, end] = locals(f, 'i32', 4) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
      const value = f.local('v128');
      f.times(p.N, () => {
        f.set(w, p.w);
        f.set(bias, p.bias);
        f.times(p.groups, () => {
          f.times(p.blocks, () => {
            f.call(
              multiply,
              w,
              i32.const(4),
              p.wStep,
              p.x,
              i32.const(4 * image),
              p.columns,
              i32.const(4 * image),
              i32.const(rows),
              i32.const(image),
              p.channels,
            );
            f.inc(w, 4 * rows);
            f.set(column, p.columns);
            f.times(s.together, () => {
              f.set(value, s.bias ? v128.load32splat(bias) : v128.zero());
              f.set(end, i32.add(p.out, 4 * plane));
              const at = f.let(p.out);
              f.times(Math.floor(plane / 4), () => {
                f.emit(v128.store(at, value));
                f.inc(at, 16);
              });
              f.whileLoop(
                () => i32.ltu(at, end),
                () => {
                  f.emit(f32.store(at, f32x4.lane(value, 0)));
                  f.inc(at, 4);
                },
              );
              f.call(add, column, p.out);
              f.inc(column, 4 * taps * image);
              f.set(p.out, end);
              if (s.bias) f.inc(bias, 4);
            });
          });
          f.inc(p.x, i32.mul(p.channels, 4 * image));
          f.inc(w, i32.mul(i32.sub(p.channels, 1), p.wStep));
        });
      });
    }),
};

/** Floats of scratch that the contributions may take, if one filter's fit. */
const ROOM = 1 << 18;
function resolved(
  call: Call,
  { threads }: WasmCaps,
): { spec: Omit<Spec, 'gemm'>; groups: number; channels: number; filters: number } {
  const [x, w] = call.inputs;
  const window = windowOfTranspose(call.attrs, x!.shape, w!.shape.slice(2));
  const rank = x!.shape.length - 2;
  const filters = w!.shape[1]!;
  const one = sizeOf(window.kernel) * sizeOf(x!.shape.slice(2));
  let together = Math.max(
    1,
    Math.min(threads > 1 ? Math.ceil(filters / (2 * threads)) : filters, Math.floor(ROOM / Math.max(1, one))),
  );
  while (filters % together) together--;
  return {
    spec: {
      bias: !!call.inputs[2],
      input: three(x!.shape.slice(2), 1),
      output: three(window.output, 1),
      kernel: three(window.kernel, 1),
      strides: three(window.strides, 1),
      dilations: three(window.dilations, 1),
      pads: three(window.pads.slice(0, rank), 0),
      together,
    },
    groups: window.group,
    channels: x!.shape[1]! / window.group,
    filters,
  };
}
/** Bytes of the contributions of the filters that are done together; per thread. */
const columnBytes = (s: Omit<Spec, 'gemm'>): number =>
  16 * Math.ceil((s.together * sizeOf(s.kernel) * sizeOf(s.input)) / 4 + 1);
export const convTransposeWasm: WasmKernel = {
  name: 'conv_transpose.scatter',
  accepts: (call) =>
    call.inputs[0]!.dtype === 'float32' &&
    call.inputs[0]!.shape.length <= 5 &&
    call.inputs[1]!.shape[1]! > 0 &&
    finishes(finishOf(call), call.outputs[0]!),
  scratch: (call, caps) => [caps.threads * columnBytes(resolved(call, caps).spec)],
  launch: (call, caps) => {
    const { spec: s, groups, channels, filters } = resolved(call, caps);
    const spec: Spec = { ...s, gemm: gemmSpec(caps, s.together * sizeOf(s.kernel), sizeOf(s.input), true) };
    const N = call.inputs[0]!.shape[0]!;
    const taps = sizeOf(s.kernel);
    const image = sizeOf(s.input);
    const plane = 4 * sizeOf(s.output);
    const own: Split['own'] = [[4, columnBytes(s)]];
    const cost = (channels * taps * image) / MACS + taps * image + plane / 16;
    const all = groups * filters;
    const bias = (n: number): (readonly [number, number])[] => (s.bias ? [[2, 4 * n]] : []);
    const split: Split =
      N > 1
        ? {
            items: 5,
            grain: 1,
            moves: [
              [0, 4 * groups * channels * image],
              [3, all * plane],
            ],
            own,
            cost: all * cost,
          }
        : groups > 1
          ? {
              items: 6,
              grain: 1,
              moves: [
                [0, 4 * channels * image],
                [1, 4 * channels * filters * taps],
                [3, filters * plane],
                ...bias(filters),
              ],
              own,
              cost: filters * cost,
            }
          : {
              items: 7,
              grain: 1,
              moves: [[1, 4 * s.together * taps], [3, s.together * plane], ...bias(s.together)],
              own,
              cost: s.together * cost,
            };
    return [
      {
        emit: transposeModule,
        spec,
        args: [
          { input: 0 },
          { input: 1 },
          s.bias ? { input: 2 } : 0,
          { output: 0 },
          { scratch: 0 },
          call.inputs[0]!.shape[0]!,
          groups,
          filters / s.together,
          channels,
          4 * filters * taps,
        ],
        split,
      },
      ...finishLaunch(finishOf(call), call.outputs[0]!),
    ];
  },
};
