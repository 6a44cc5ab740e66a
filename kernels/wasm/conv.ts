/** Convolutions on the CPU. */
import type { Fact } from '../../src/core/graph.ts';
import type { Split, WasmCaps } from '../../src/core/plan.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { i32, type Local, type Mod, type Fn } from './asm.ts';
import {
  asItLies,
  clear,
  type Geometry,
  padArgCount,
  padArgs,
  padCopy,
  paddedBytes,
  strideFits,
  TABLE_ARGS,
  tableArgs,
  tapOffsets,
  tapsOf,
} from './conv-geometry.ts';
import { blockOf, convImage, type ConvSpec, convSpec, IMAGE_ARGS, imageArgs } from './conv-tile.ts';
import { convDepthwise, convGeometry } from './conv-depthwise.ts';
import { storeSpec } from './conv-finish.ts';
import { type Finish, finishes, finishLaunch, finishOf } from './epilogue.ts';
import { i32s, locals } from './gemm-core.ts';
import { MACS } from './gemm.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

interface Spec extends ConvSpec {
  readonly packs: boolean;
  readonly groups: boolean;
  /** Another launch has copied the image into padded rows. */
  readonly padded: boolean;
}
const HEAD = 14;

/**
 * run(x, w, packed, bias, out, padded, table, N, groups, xGroup, wGroup, outGroup, padBytes, channels, …imageArgs,
 * …tableArgs, …padArgs, …operands): a convolution. xGroup, wGroup, outGroup: bytes of one group's image, weights and
 * output.
 */
export const convModule: WasmEmitter<Spec> = {
  name: 'conv',
  build: (s, caps) =>
    kernelModule(
      'conv',
      i32s(
        HEAD +
          IMAGE_ARGS +
          TABLE_ARGS +
          (s.direct || s.padded ? 0 : padArgCount(s.stride)) +
          (s.store?.operands.length ?? 0),
      ),
      caps,
      (f, m) => {
        const names = [
          'x',
          'w',
          'packed',
          'bias',
          'out',
          'padded',
          'table',
          'N',
          'groups',
          'xGroup',
          'wGroup',
          'outGroup',
          'padBytes',
          'channels',
        ] as const;
        const p = Object.fromEntries(names.map((n, i) => [n, f.arg('i32', i)])) as Record<
          (typeof names)[number],
          Local<'i32'>
        >;
        const rest = (from: number, n: number): Local<'i32'>[] =>
          Array.from({ length: n }, (_, i) => f.arg('i32', from + i));
        const image = rest(HEAD, IMAGE_ARGS);
        const taps = rest(HEAD + IMAGE_ARGS, TABLE_ARGS);
        const pads = s.direct || s.padded ? [] : rest(HEAD + IMAGE_ARGS + TABLE_ARGS, padArgCount(s.stride));
        const ops = s.store?.operands ?? [];
        const given = rest(HEAD + IMAGE_ARGS + TABLE_ARGS + pads.length, ops.length);
        const at = locals(f, 'i32', ops.length);
        const copy = s.direct || s.padded ? null : padCopy(m, s.stride, s.source);
        const conv = convImage(m, caps, s);
        const [w, bias] = locals(f, 'i32', 2) as [Local<'i32'>, Local<'i32'>];
        if (s.packs) {
          f.call(packTiles(m, s), p.w, p.packed, p.groups, image[1]!, image[0]!);
          f.set(p.w, p.packed);
        }
        f.call(tapOffsets(m, s.stride), p.table, ...taps);
        if (copy) clear(f, p.padded, p.padBytes);
        ops.forEach((o, i) => f.set(at[i]!, o === 'element' ? i32.sub(given[i]!, p.out) : given[i]!));
        f.times(p.N, () => {
          ops.forEach((o, i) => {
            if (o === 'channel') f.set(at[i]!, given[i]!);
          });
          f.set(w, p.w);
          f.set(bias, p.bias);
          const one = (): void => {
            if (copy) f.call(copy, p.x, p.padded, p.channels, i32.const(0), ...pads);
            f.call(conv, copy ? p.padded : p.x, w, p.out, p.table, bias, ...image, ...at);
            f.inc(p.x, p.xGroup);
            f.inc(p.out, p.outGroup);
            f.inc(w, p.wGroup);
            f.iff(bias, () => f.inc(bias, i32.shl(image[1]!, 2)));
            ops.forEach((o, i) => {
              if (o === 'channel' || o === 'plane') f.inc(at[i]!, i32.shl(image[1]!, 2));
            });
          };
          if (s.groups) f.times(p.groups, one);
          else one();
        });
      },
    ),
};

/** (src, dst, groups, filters, K): the packer "conv.tiles" for weights that are not constant. */
function packTiles(m: Mod, s: ConvSpec): Fn {
  return m.fn('pack', i32s(5), [], false, (f) => {
    const [src, dst, groups, filters, K] = Array.from({ length: 5 }, (_, i) => f.arg('i32', i)) as [
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
      Local<'i32'>,
    ];
    const at = f.local('i32');
    const tile = (rows: number): void => {
      f.times(K, () => {
        f.set(at, src);
        for (let i = 0; i < rows; i++) {
          f.emit(i32.store(dst, i32.load(at), 4 * i));
          f.inc(at, i32.shl(K, 2));
        }
        f.inc(src, 4);
        f.inc(dst, 4 * rows);
      });
      f.inc(src, i32.mul(K, 4 * (rows - 1)));
    };
    f.times(groups, () => {
      if (s.tall) f.times(i32.divu(filters, s.tile[0]), () => tile(s.tile[0]));
      if (s.mTail) tile(s.mTail);
    });
  });
}

/** What of a convolution a launch is made of: where its parts are, and which of them need scratch. */
export interface ConvParts {
  readonly x: Ref;
  readonly w: { readonly input: number; readonly constant: boolean };
  readonly bias: Ref | 0;
  readonly out: Ref;
}
const up16 = (n: number): number => Math.max(16, Math.ceil(n / 16) * 16);
const tableBytes = (g: Geometry): number => up16(4 * g.channels * tapsOf(g));
/**
 * Bytes of scratch 0…: the offset table, padded planes, packed weights. Threads that work on images or groups of their
 * own pad them in memory of their own.
 */
export function convScratch(g: Geometry, caps: WasmCaps, constant: boolean): number[] {
  const s = convSpec(g);
  const { threads } = caps;
  return [
    threads * tableBytes(g),
    s.direct ? 16 : (isOne(g) ? 1 : threads) * up16(paddedBytes(g, g.channels)),
    constant ? 16 : up16(4 * g.groups * g.filters * g.channels * tapsOf(g)),
  ];
}
const isOne = (g: Geometry): boolean => g.batch === 1 && g.groups === 1;
const size = (t: readonly number[]): number => t[0]! * t[1]! * t[2]!;

/** run(src, dst, planes, planeBytes, …padArgs): planes into padded rows, the padding zero. */
const padModule: WasmEmitter<{ readonly stride: number }> = {
  name: 'pad planes',
  build: ({ stride }, caps) =>
    kernelModule('pad planes', i32s(4 + padArgCount(stride)), caps, (f, m) => {
      const [src, dst, planes, bytes, ...pads] = Array.from({ length: 4 + padArgCount(stride) }, (_, i) =>
        f.arg('i32', i),
      ) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
      clear(f, dst, i32.mul(planes, bytes));
      f.call(padCopy(m, stride, 'float32'), src, dst, planes, i32.const(0), ...pads);
    }),
};
const padLaunch = (g: Geometry, x: Ref, to: Ref): WasmLaunch => ({
  emit: padModule,
  spec: { stride: g.strides[2] },
  args: [x, to, g.channels, g.plane, ...padArgs(g)],
  split: {
    items: 2,
    grain: 1,
    moves: [
      [0, 4 * size(g.input)],
      [1, g.plane],
    ],
    cost: 0.5 * size(g.input),
  },
});

/**
 * What threads share: images, or groups, each with padded planes of its own; of a single one, filters or rows,
 * whichever there are more of, and where the image is one row its columns. `operands`: the first argument of the
 * epilogue's.
 */
function splitOf(g: Geometry, s: Spec, laid: Geometry, bias: boolean, operands: number): Split | null {
  if (s.packs) return null;
  const K = g.channels * tapsOf(g);
  const [mr, nr] = s.tile;
  const [OD, OH, OW] = g.output;
  const plane = 4 * OD * OH * OW;
  const cost = (K * OD * OH * OW) / MACS;
  const own: Split['own'] = [
    [6, tableBytes(g)],
    ...(s.direct || s.padded ? [] : [[5, up16(paddedBytes(g, g.channels))] as const]),
  ];
  const along = (element: number, channel: number, image: number): [number, number][] =>
    (s.store?.operands ?? []).flatMap((o, i): [number, number][] => {
      const step = o === 'element' ? element : o === 'plane' ? channel + image : o === 'channel' ? channel : 0;
      return step ? [[operands + i, step]] : [];
    });
  const all = g.groups * g.filters;
  const rowsAtOnce = blockOf(g).rows;
  if (g.batch > 1)
    return {
      items: 7,
      grain: 1,
      moves: [[0, 4 * g.groups * g.channels * size(g.input)], [4, all * plane], ...along(all * plane, 0, 4 * all)],
      own,
      cost: all * cost,
    };
  const byFilter = (n: number): [number, number][] => [
    [1, 4 * n * K],
    [4, n * plane],
    ...(bias ? [[3, 4 * n] as [number, number]] : []),
    ...along(n * plane, 4 * n, 0),
  ];
  if (g.groups > 1)
    return {
      items: 8,
      grain: 1,
      moves: [[0, 4 * g.channels * size(g.input)], ...byFilter(g.filters)],
      own,
      cost: g.filters * cost,
    };
  if (OD === 1 && OH === 1 && OW / nr > g.filters / mr)
    return {
      items: HEAD + 4,
      grain: nr,
      moves: [[0, 4], [4, 4], ...along(4, 0, 0)],
      own,
      cost: (K * g.filters) / MACS,
    };
  if (OD === 1 && OH / rowsAtOnce > g.filters / mr)
    return {
      items: HEAD + 3,
      grain: rowsAtOnce,
      moves: [[0, g.strides[1] * laid.row], [4, 4 * OW], ...along(4 * OW, 0, 0)],
      own,
      cost: (K * g.filters * OW) / MACS,
    };
  return { items: HEAD + 1, grain: mr, moves: byFilter(1), own, cost };
}

/** The launches of a convolution and its epilogue. */
export function convLaunches(
  g: Geometry,
  caps: WasmCaps,
  p: ConvParts,
  out: Fact,
  finish: Finish | null,
): WasmLaunch[] {
  const store = storeSpec(finish, out);
  const s = convSpec(g, 'float32', store?.spec ?? null);
  const laid = s.direct ? asItLies(g) : g;
  const K = g.channels * tapsOf(g);
  const w: Ref = p.w.constant
    ? {
        input: p.w.input,
        pack: { name: 'conv.tiles', args: [s.tile[0], g.groups, g.filters, K], bytes: 4 * g.groups * g.filters * K },
      }
    : { input: p.w.input };
  const padded = caps.threads > 1 && !s.direct && isOne(g);
  const pads = s.direct || padded ? [] : padArgs(g);
  const spec: Spec = { ...s, packs: !p.w.constant, groups: g.groups > 1, padded };
  const launch: WasmLaunch<Spec> = {
    emit: convModule,
    spec,
    args: [
      padded ? { scratch: 1 } : p.x,
      w,
      p.w.constant ? 0 : { scratch: 2 },
      p.bias,
      p.out,
      s.direct || padded ? 0 : { scratch: 1 },
      { scratch: 0 },
      g.batch,
      g.groups,
      4 * g.channels * size(g.input),
      4 * g.filters * K,
      4 * g.filters * size(g.output),
      s.direct ? 0 : paddedBytes(g, g.channels),
      g.channels,
      ...imageArgs(laid),
      ...tableArgs(laid),
      ...pads,
      ...(store?.args ?? []),
    ],
    split: splitOf(g, spec, laid, p.bias !== 0, HEAD + IMAGE_ARGS + TABLE_ARGS + pads.length),
  };
  return [...(padded ? [padLaunch(g, p.x, { scratch: 1 })] : []), launch, ...(store ? [] : finishLaunch(finish, out))];
}

const isConstant = (call: Call): boolean => call.inputs[1]!.constant !== undefined;

/** Any convolution of up to three spatial dims. */
export const convDirect: WasmKernel = {
  name: 'conv.direct',
  accepts: (call) =>
    call.inputs[0]!.dtype === 'float32' &&
    call.inputs[0]!.shape.length <= 5 &&
    strideFits(call.attrs) &&
    !call.attrs.activation &&
    finishes(finishOf(call), call.outputs[0]!),
  scratch: (call, caps) => convScratch(convGeometry(call), caps, isConstant(call)),
  launch: (call, caps) =>
    convLaunches(
      convGeometry(call),
      caps,
      {
        x: { input: 0 },
        w: { input: 1, constant: isConstant(call) },
        bias: call.inputs[2] ? { input: 2 } : 0,
        out: { output: 0 },
      },
      call.outputs[0]!,
      finishOf(call),
    ),
};
export const convWasm: readonly WasmKernel[] = withHalf([convDepthwise, convDirect]);
