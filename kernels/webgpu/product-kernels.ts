/** The variants of a matrix product, whatever operator asks for it. */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import { matmulAny, matmulDirect, matmulReduce, matmulSmall, matmulTile } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { finishFits, finishOf, putOf, valueAlias } from './finish.ts';
import { grid } from './grid.ts';
import {
  dotsB,
  flattened,
  type Product,
  PRODUCT_BINDINGS,
  productLaunch,
  putRows,
  sourceA,
  sourceB,
  storable,
  uniformsOf,
  wholeB,
} from './product.ts';
import { directTile, sharedTile, smallTile, tileBytes, type TileShape, tileThreads } from './product-tiles.ts';

/** What an operator says of a call: the product that it is; null where it is none that shaders can form. */
export type ProductOf = (call: Call, caps: GpuCaps) => Product | null;

const MAX_RANK = 4;
export const MAX_GROUPS = 65535;
export const batches = (p: Product): number => sizeOf(p.batch);

/** The call that was last asked about, since all kernels of an operator ask the same of it. */
let last:
  | { readonly of: ProductOf; readonly call: Call; readonly caps: GpuCaps; readonly p: Product | null }
  | undefined;
/** The product that a call is, with as few batch dims as may be; null where shaders cannot form and finish it. */
export function product(of: ProductOf, call: Call, caps: GpuCaps): Product | null {
  if (last === undefined || last.call !== call || last.of !== of || last.caps !== caps)
    last = { of, call, caps, p: productAnew(of, call, caps) };
  return last.p;
}
function productAnew(of: ProductOf, call: Call, caps: GpuCaps): Product | null {
  const p = of(call, caps);
  if (p === null || !finishFits(call, caps, PRODUCT_BINDINGS, p.addends, p.kind)) return null;
  // Software adapters compile slowly: there, fewer shaders count for more than a constant bound.
  const flat = flattened({ ...p, fixedDepth: p.fixedDepth && !caps.software });
  return flat.batch.length <= MAX_RANK ? flat : null;
}

const SMALL_TILE: TileShape = { BM: 32, BN: 32, BK: 16, TX: 8, TY: 8 };
/** GPUs with so many cores that few tiles leave most of them idle: there the depth is split, in a second dispatch. */
const isWide = (caps: GpuCaps): boolean => /nvidia|amd/.test(caps.vendor);
const FEW = 32;

/**
 * With what shape a product is tiled: 128 x 128 where that leaves work for every core, else 64 x 64, or 32 x 32 where
 * the depth is not split for few tiles.
 */
function shapeOf(p: Product, caps: GpuCaps, tuned: Readonly<Record<string, number>>): TileShape {
  const big = Math.ceil(p.m / 128) * Math.ceil(p.n / 128) * batches(p) >= 256;
  const few = !isWide(caps) && Math.ceil(p.m / 64) * Math.ceil(p.n / 64) * batches(p) < FEW;
  const base: TileShape = big
    ? { BM: 128, BN: 128, BK: 8, TX: 16, TY: 16 }
    : few
      ? SMALL_TILE
      : { BM: 64, BN: 64, BK: 16, TX: 16, TY: 16 };
  const asked: TileShape = {
    BM: tuned.BM ?? base.BM,
    BN: tuned.BN ?? base.BN,
    BK: tuned.BK ?? base.BK,
    TX: tuned.TX ?? base.TX,
    TY: tuned.TY ?? base.TY,
  };
  return fits(asked, caps) ? asked : fits(base, caps) ? base : SMALL_TILE;
}
function fits(s: TileShape, caps: GpuCaps): boolean {
  const T = tileThreads(s);
  const whole = [s.BM / s.TY, s.BN / (4 * s.TX), s.BK / 4, (s.BM * s.BK) / 4 / T, (s.BK * s.BN) / 4 / T].every(
    (v) => v >= 1 && Number.isInteger(v),
  );
  return (
    whole &&
    T <= caps.limits.maxComputeInvocationsPerWorkgroup &&
    tileBytes(s) <= caps.limits.maxComputeWorkgroupStorageSize
  );
}
const tilesOf = (p: Product, s: TileShape): number => Math.ceil(p.m / s.BM) * Math.ceil(p.n / s.BN);

/** The depth is a uniform: it bounds the outer loop alone, and layers of all depths share a pipeline. */
function tileLaunch(product: Product, caps: GpuCaps, s: TileShape, slices: number): Launch {
  const params = { WG: tileThreads(s), BM: s.BM, BN: s.BN, SLICES: slices };
  const p = { ...product, fixedDepth: false };
  const a = sourceA(p, caps, true);
  const b = sourceB(p, caps, false);
  const workgroups = [tilesOf(p, s), 1, batches(p) * slices] as const;
  if (slices === 1)
    return productLaunch(p, matmulTile, params, workgroups, a, b, sharedTile(p, s, 1), putRows(p)(caps));
  const raw = {
    types: {},
    text:
      p.n % 4 === 0
        ? 'alias YStore = vec4f;\nfn put(i: u32, v: vec4f, left: u32) { y[i >> 2u] = v; }'
        : 'alias YStore = f32;\nfn put(i: u32, v: vec4f, left: u32) { y[i] = v.x; if (left > 1u) { y[i + 1u] = v.y; } if (left > 2u) { y[i + 2u] = v.z; } if (left > 3u) { y[i + 3u] = v.w; } }',
    extra: [],
    extraUniforms: [],
  };
  return productLaunch(p, matmulTile, params, workgroups, a, b, sharedTile(p, s, slices), raw, { scratch: 0 });
}

/** How many workgroups share a depth: enough to keep a large GPU busy, and none with less than 256 of it. */
const slicesOf = (p: Product, s: TileShape): number => {
  const tiles = tilesOf(p, s) * batches(p);
  return Math.max(2, Math.min(16, Math.floor(p.k / 256), Math.ceil(256 / tiles)));
};

/** Shared by the variants that only float products have. */
export const tileable = (p: Product | null, caps: GpuCaps): p is Product =>
  p !== null && p.kind === 'f32' && p.k > 0 && storable(p, caps);

/**
 * Workgroups of 64 invocations, TM rows by four columns each, as wide or as tall as the product: `wide` of them across.
 */
export function directGroups(
  p: Product,
  TM: number,
): { readonly wide: number; readonly workgroups: Launch['workgroups'] } {
  const down = Math.ceil(p.m / TM);
  const across = Math.ceil(p.n / 4);
  const power = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));
  const wide = Math.min(64 / Math.min(power(down), across >= 8 ? 8 : 64 / power(across)), power(across));
  return { wide, workgroups: [Math.ceil(across / wide), Math.ceil((down * wide) / 64), batches(p)] };
}

/**
 * Rows an invocation. Two values, since each is a shader that a new batch may bring: eight rows cost less than three
 * one by one, which read the weights again each.
 */
export const rowsAtOnce = (m: number): number => (m < 3 ? 1 : 8);

/** Kernels of one operator, in the order in which they are asked. `family` names them. */
export function productKernels(family: string, of: ProductOf): readonly GpuKernel[] {
  const must = (call: Call, caps: GpuCaps): Product => product(of, call, caps)!;
  const small: GpuKernel = {
    name: `${family}.small`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      return (
        !caps.software &&
        tileable(p, caps) &&
        p.m <= 8 &&
        p.n >= 16 &&
        p.k >= 64 &&
        wholeB(p) &&
        batches(p) <= MAX_GROUPS &&
        caps.limits.maxComputeInvocationsPerWorkgroup >= 256
      );
    },
    tunables: { PARTS: [4, 8, 16] },
    launch: (call, caps, tuned) => {
      const p = must(call, caps);
      const PARTS = tuned.PARTS ?? 16;
      return productLaunch(
        p,
        matmulSmall,
        { PARTS },
        [Math.ceil(p.n / 64), 1, batches(p)],
        sourceA(p, caps, false),
        sourceB(p, caps, false),
        smallTile(p, PARTS),
        putRows(p)(caps),
      );
    },
  };
  const splitk: GpuKernel = {
    name: `${family}.splitk`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      if (caps.software || !tileable(p, caps) || p.k < 2000 || p.m < 16) return false;
      const s = shapeOf(p, caps, {});
      return tilesOf(p, s) * batches(p) <= (isWide(caps) ? 64 : 4) && batches(p) * slicesOf(p, s) <= MAX_GROUPS;
    },
    tunables: { BM: [32, 64, 128], BN: [32, 64, 128], BK: [8, 16, 32], TX: [8, 16], TY: [8, 16] },
    scratch: (call, caps) => {
      const p = must(call, caps);
      return [slicesOf(p, shapeOf(p, caps, {})) * batches(p) * p.m * p.n * 4];
    },
    launch: (call, caps, tuned) => {
      const p = must(call, caps);
      const SLICES = slicesOf(p, shapeOf(p, caps, {}));
      const count = batches(p) * p.m * p.n;
      const put = putOf(call, caps, true, finishOf(call, p.addends, p.alpha));
      return [
        tileLaunch(p, caps, shapeOf(p, caps, tuned), SLICES),
        {
          module: matmulReduce,
          types: put.types,
          params: { SLICES },
          slots: { put: put.text },
          uniforms: { count },
          workgroups: grid(Math.ceil(count / 4), 64),
          bind: [{ scratch: 0 }, { output: 0 }],
          extra: put.extra,
          extraUniforms: put.extraUniforms,
        },
      ];
    },
  };
  const tile: GpuKernel = {
    name: `${family}.tile`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      // Apple's and mobile GPUs read through their caches faster than through workgroup memory.
      if (
        caps.software ||
        /apple|qualcomm|arm|img/.test(caps.vendor) ||
        !tileable(p, caps) ||
        batches(p) > MAX_GROUPS ||
        p.m < 24 ||
        p.n < 24 ||
        p.k < 16
      )
        return false;
      const tiles = tilesOf(p, shapeOf(p, caps, {}));
      return tiles <= MAX_GROUPS && tiles * batches(p) >= 4;
    },
    tunables: { BM: [32, 64, 128], BN: [32, 64, 128], BK: [8, 16, 32], TX: [8, 16], TY: [8, 16] },
    launch: (call, caps, tuned) => {
      const p = must(call, caps);
      return tileLaunch(p, caps, shapeOf(p, caps, tuned), 1);
    },
  };
  const direct: GpuKernel = {
    name: `${family}.direct`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      return (
        p !== null && storable(p, caps) && batches(p) <= MAX_GROUPS && p.m <= 4 * MAX_GROUPS && p.n <= 16 * MAX_GROUPS
      );
    },
    tunables: { TM: [1, 2, 4, 8] },
    launch: (call, caps, tuned) => {
      const p = must(call, caps);
      const TM = tuned.TM ?? rowsAtOnce(p.m);
      const { wide, workgroups } = directGroups(p, TM);
      return productLaunch(
        p,
        matmulDirect,
        { TM },
        workgroups,
        sourceA(p, caps, false),
        sourceB(p, caps, dotsB(p)),
        directTile(p, TM),
        putRows(p)(caps),
        { output: 0 },
        wide,
      );
    },
  };
  const any: GpuKernel = {
    name: `${family}.any`,
    accepts: (call, caps) => {
      const p = product(of, call, caps);
      return p !== null && p.readA === undefined && p.readB === undefined;
    },
    launch: (call, caps) => {
      const p = must(call, caps);
      const count = batches(p) * p.m * p.n;
      const put = putOf(call, caps, true, finishOf(call, p.addends, p.alpha, p.kind), p.kind);
      return {
        module: matmulAny,
        types: { a: p.a.elem, b: p.b.elem, ...put.types },
        params: { RANK: p.batch.length },
        workgroups: grid(Math.ceil(count / 4), 64),
        slots: {
          put: `${valueAlias(p.a.elem)}\n${put.text}`,
          term: 'fn term(ai: u32, row: u32, bi: u32, column: u32) -> Value { return load_a(ai) * load_b(bi); }',
        },
        uniforms: { ...uniformsOf(p), count },
        bind: [p.a.ref, p.b.ref, { output: 0 }],
        extra: put.extra,
        extraUniforms: put.extraUniforms,
      };
    },
  };
  return [small, splitk, tile, direct, any];
}
