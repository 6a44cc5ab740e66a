/** Convolutions on the CPU. */
import type { Fact } from '../../src/core/graph.ts';
import type { WasmCaps } from '../../src/core/plan.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { convShape } from '../conv-shape.ts';
import { i32, type Local, type Mod, type Fn } from './asm.ts';
import { asItLies, clear, convImage, type ConvSpec, convSpec, type Geometry, geometryOf, IMAGE_ARGS, imageArgs, padArgCount, padArgs, padCopy, paddedBytes, strideFits, TABLE_ARGS, tableArgs, tapOffsets, tapsOf } from './conv-core.ts';
import { convDepthwise } from './conv-depthwise.ts';
import { storeSpec } from './conv-finish.ts';
import { type Finish, finishes, finishLaunch, finishOf } from './epilogue.ts';
import { i32s, locals } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

interface Spec extends ConvSpec { readonly packs: boolean; readonly groups: boolean }
const HEAD = 14;

/**
 * run(x, w, packed, bias, out, padded, table, N, groups, xGroup, wGroup, outGroup, padBytes, channels, …imageArgs, …tableArgs, …padArgs, …operands):
 * a convolution. xGroup, wGroup, outGroup: bytes of one group's image, weights and output.
 */
export const convModule: WasmEmitter<Spec> = {
  name: 'conv',
  build: (s, caps) => kernelModule('conv', i32s(HEAD + IMAGE_ARGS + TABLE_ARGS + (s.direct ? 0 : padArgCount(s.stride)) + (s.store?.operands.length ?? 0)), caps, (f, m) => {
    const names = ['x', 'w', 'packed', 'bias', 'out', 'padded', 'table', 'N', 'groups', 'xGroup', 'wGroup', 'outGroup', 'padBytes', 'channels'] as const;
    const p = Object.fromEntries(names.map((n, i) => [n, f.arg('i32', i)])) as Record<(typeof names)[number], Local<'i32'>>;
    const rest = (from: number, n: number): Local<'i32'>[] => Array.from({ length: n }, (_, i) => f.arg('i32', from + i));
    const image = rest(HEAD, IMAGE_ARGS), taps = rest(HEAD + IMAGE_ARGS, TABLE_ARGS), pads = s.direct ? [] : rest(HEAD + IMAGE_ARGS + TABLE_ARGS, padArgCount(s.stride));
    const ops = s.store?.operands ?? [], given = rest(HEAD + IMAGE_ARGS + TABLE_ARGS + pads.length, ops.length), at = locals(f, 'i32', ops.length);
    const copy = s.direct ? null : padCopy(m, s.stride, s.source);
    const conv = convImage(m, caps, s);
    const [w, bias] = locals(f, 'i32', 2) as [Local<'i32'>, Local<'i32'>];
    if (s.packs) { f.call(packTiles(m, s), p.w, p.packed, p.groups, image[1]!, image[0]!); f.set(p.w, p.packed); }
    f.call(tapOffsets(m, s.stride), p.table, ...taps);
    if (copy) clear(f, p.padded, p.padBytes);
    ops.forEach((o, i) => f.set(at[i]!, o === 'element' ? i32.sub(given[i]!, p.out) : given[i]!));
    f.times(p.N, () => {
      ops.forEach((o, i) => { if (o === 'channel') f.set(at[i]!, given[i]!); });
      f.set(w, p.w);
      f.set(bias, p.bias);
      const one = (): void => {
        if (copy) f.call(copy, p.x, p.padded, p.channels, i32.const(0), ...pads);
        f.call(conv, copy ? p.padded : p.x, w, p.out, p.table, bias, ...image, ...at);
        f.inc(p.x, p.xGroup);
        f.inc(p.out, p.outGroup);
        f.inc(w, p.wGroup);
        f.iff(bias, () => f.inc(bias, i32.shl(image[1]!, 2)));
        ops.forEach((o, i) => { if (o === 'channel' || o === 'plane') f.inc(at[i]!, i32.shl(image[1]!, 2)); });
      };
      if (s.groups) f.times(p.groups, one); else one();
    });
  }),
};

/** (src, dst, groups, filters, K): the packer "conv.tiles" for weights that are not constant. */
function packTiles(m: Mod, s: ConvSpec): Fn {
  return m.fn('pack', i32s(5), [], false, (f) => {
    const [src, dst, groups, filters, K] = Array.from({ length: 5 }, (_, i) => f.arg('i32', i)) as [Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>, Local<'i32'>];
    const at = f.local('i32');
    const tile = (rows: number): void => {
      f.times(K, () => {
        f.set(at, src);
        for (let i = 0; i < rows; i++) { f.emit(i32.store(dst, i32.load(at), 4 * i)); f.inc(at, i32.shl(K, 2)); }
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
export interface ConvParts { readonly x: Ref; readonly w: { readonly input: number; readonly constant: boolean }; readonly bias: Ref | 0; readonly out: Ref }
/** Bytes of scratch 0…: the offset table, padded planes, packed weights. */
export function convScratch(g: Geometry, caps: WasmCaps, constant: boolean): number[] {
  const s = convSpec(g, caps);
  return [4 * g.channels * tapsOf(g), s.direct ? 0 : paddedBytes(g, g.channels), constant ? 0 : 4 * g.groups * g.filters * g.channels * tapsOf(g)].map((n) => Math.max(n, 16));
}
/** The launches of a convolution and its epilogue. */
export function convLaunches(g: Geometry, caps: WasmCaps, p: ConvParts, out: Fact, finish: Finish | null): WasmLaunch[] {
  const store = storeSpec(finish, out);
  const s = convSpec(g, caps, 'float32', store?.spec ?? null);
  const laid = s.direct ? asItLies(g) : g;
  const K = g.channels * tapsOf(g), size = (t: readonly number[]): number => t[0]! * t[1]! * t[2]!;
  const w: Ref = p.w.constant ? { input: p.w.input, pack: { name: 'conv.tiles', args: [s.tile[0], g.groups, g.filters, K], bytes: 4 * g.groups * g.filters * K } } : { input: p.w.input };
  const launch: WasmLaunch<Spec> = {
    emit: convModule, spec: { ...s, packs: !p.w.constant, groups: g.groups > 1 },
    args: [
      p.x, w, p.w.constant ? 0 : { scratch: 2 }, p.bias, p.out, s.direct ? 0 : { scratch: 1 }, { scratch: 0 }, g.batch, g.groups,
      4 * g.channels * size(g.input), 4 * g.filters * K, 4 * g.filters * size(g.output), s.direct ? 0 : paddedBytes(g, g.channels), g.channels,
      ...imageArgs(laid), ...tableArgs(laid), ...(s.direct ? [] : padArgs(g)), ...(store?.args ?? []),
    ],
  };
  return store ? [launch] : [launch, ...finishLaunch(finish, out)];
}

const ofConv = (call: Call): Geometry => {
  const [x, w, b] = call.inputs;
  return geometryOf(x!.shape, w!.shape[0]!, convShape(x!.shape, w!.shape, b?.shape ?? null, call.attrs).window);
};
const isConstant = (call: Call): boolean => call.inputs[1]!.constant !== undefined;

/** Any convolution of up to three spatial dims. */
export const convDirect: WasmKernel = {
  name: 'conv.direct',
  accepts: (call) => call.inputs[0]!.dtype === 'float32' && call.inputs[0]!.shape.length <= 5 && strideFits(call.attrs) && !call.attrs.activation && finishes(finishOf(call), call.outputs[0]!),
  scratch: (call, caps) => convScratch(ofConv(call), caps, isConstant(call)),
  launch: (call, caps) => convLaunches(ofConv(call), caps, { x: { input: 0 }, w: { input: 1, constant: isConstant(call) }, bias: call.inputs[2] ? { input: 2 } : 0, out: { output: 0 } }, call.outputs[0]!, finishOf(call)),
};
export const convWasm: readonly WasmKernel[] = withHalf([convDepthwise, convDirect]);
