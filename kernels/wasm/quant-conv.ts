import { sizeOf } from '../../src/core/tensor.ts';
import type { Window } from '../conv-window.ts';
import type { Call, Ref, WasmKernel, WasmLaunch } from '../define.ts';
import { type Geometry, geometryOf, tableArgs, tapsOf } from './conv-geometry.ts';
import type { Roles } from './contract.ts';
import { type Byte, isByte, zeroPoints } from './quant-conv-parts.ts';
import { MR, NR, type Spec, productModule } from './quant-conv-product.ts';
import { type StageSpec, stageModule } from './quant-conv-stage.ts';

/** Bytes of panels that stay in the second cache, beside a tile of weights. */
const NEAR = 1 << 16;
/** The image as planes of channel pairs: rows of 32-bit words without gaps for strides. */
function pairGeometry(
  x: readonly number[],
  filters: number,
  w: Window,
): { g: Geometry; pairs: number; direct: boolean; N: number } {
  const g = geometryOf(x, filters, w);
  const lead = 3 - w.kernel.length;
  const padded = g.input.map((n, i) => n + g.pads[i]! + (i < lead ? 0 : w.pads[w.kernel.length + i - lead]!));
  const row = 4 * padded[2]!;
  const slice = row * padded[1]!;
  const direct = tapsOf(g) === 1 && g.direct && g.strides.every((s) => s === 1);
  return {
    g: { ...g, row, slice, plane: slice * padded[0]!, phase: row },
    pairs: Math.ceil(g.channels / 2),
    direct,
    N: g.output[0] * g.output[1] * g.output[2],
  };
}
/** Convolutions with constant weights, channels first. */
export const pairConvWasm = (name: string, roles: Roles, windowOf: (call: Call) => Window): WasmKernel => {
  const laid = (call: Call) =>
    pairGeometry(call.inputs[roles.x]!.shape, call.inputs[roles.w]!.shape[0]!, windowOf(call));
  const blockOf = (K2: number, panels: number): number =>
    Math.max(1, Math.min(panels, Math.floor(NEAR / (4 * NR * K2))));
  return {
    name,
    accepts: (call) => {
      const [x, w] = [call.inputs[roles.x]!, call.inputs[roles.w]!];
      return (
        !call.attrs.channels_last &&
        isByte(x.dtype) &&
        isByte(w.dtype) &&
        w.constant?.peek() != null &&
        x.shape.length <= 5 &&
        zeroPoints(call, roles.wZero) !== null &&
        sizeOf(w.shape.slice(1)) > 0 &&
        sizeOf(w.shape.slice(1)) < 1 << 14
      );
    },
    scratch: (call, caps) => {
      const { g, pairs, direct, N } = laid(call);
      const K2 = pairs * tapsOf(g);
      const block = blockOf(K2, Math.ceil(N / NR));
      return [
        caps.threads * block * 4 * NR * K2,
        4 * g.groups * g.filters,
        direct ? 16 : 4 * K2,
        direct ? 16 : g.batch * g.groups * pairs * g.plane + 64,
      ];
    },
    launch: (call) => {
      if (sizeOf(call.outputs[0]!.shape) === 0) return [];
      const { g, pairs, direct, N } = laid(call);
      const K2 = pairs * tapsOf(g);
      const panels = Math.ceil(N / NR);
      const block = blockOf(K2, panels);
      const all = g.groups * g.filters;
      const x = call.inputs[roles.x]!;
      const y = call.outputs[0]!;
      const [xs, ws, ys] = roles.scales ?? [null, null, null];
      const given = (i: number | null | undefined): boolean => i != null && call.inputs[i] != null;
      const ref = (i: number | null | undefined): Ref | 0 => (given(i) ? { input: i! } : 0);
      const w: Ref = {
        input: roles.w,
        pack: {
          name: 'conv.pairs',
          args: [MR, g.groups, g.filters, g.channels, tapsOf(g), ...zeroPoints(call, roles.wZero)!],
          bytes: all * K2 * 4,
        },
      };
      const [xZero, bias] = [given(roles.xZero), given(roles.bias)];
      const scaled = roles.scales !== null;
      const planes = !direct;
      const stage: WasmLaunch<StageSpec> = {
        emit: stageModule,
        spec: { x: x.dtype as Byte, planes, xZero, scaled },
        args: [
          { input: roles.x },
          ref(roles.xZero),
          planes ? { scratch: 3 } : 0,
          g.batch * g.groups * pairs * g.plane,
          planes ? { scratch: 2 } : 0,
          g.batch * g.groups,
          g.channels,
          ...g.input,
          g.row,
          g.slice,
          g.plane,
          g.pads[0] * g.slice + g.pads[1] * g.row + 4 * g.pads[2],
          { scratch: 1 },
          ref(xs),
          ref(ws),
          ws != null && sizeOf(call.inputs[ws]!.shape) > 1 ? 4 : 0,
          ref(ys),
          all,
          ...tableArgs({ ...g, channels: pairs }),
        ],
      };
      const room = block * 4 * NR * K2;
      const product: WasmLaunch<Spec> = {
        emit: productModule,
        spec: {
          x: x.dtype as Byte,
          y: y.dtype as Spec['y'],
          xZero,
          bias,
          direct,
          dense: g.strides[2] === 1,
          tall: g.filters >= MR,
          mTail: g.filters % MR,
        },
        args: [
          0,
          panels,
          direct ? { input: roles.x } : { scratch: 3 },
          ref(roles.xZero),
          direct ? 0 : { scratch: 2 },
          w,
          ref(roles.bias),
          { scratch: 1 },
          ref(roles.yZero),
          { output: 0 },
          { scratch: 0 },
          block,
          g.batch,
          g.groups,
          N,
          K2,
          g.filters,
          direct ? g.channels * N : pairs * g.plane,
          g.filters * K2 * 4,
          N,
          g.channels % 2,
          g.output[2],
          g.output[1],
          g.strides[0] * g.slice,
          g.strides[1] * g.row,
          4 * g.strides[2],
        ],
        split: { items: 1, grain: 1, moves: [[0, 1]], own: [[10, room]], cost: (all * g.batch * K2 * 2 * NR) / 32 },
      };
      return scaled || planes ? [stage, product] : [product];
    },
  };
};
