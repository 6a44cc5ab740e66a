/**
 * Kernels that the planner takes only where a tuning table names them: they need a feature, or win on some hardware and
 * lose on other. They stand behind an operator's other kernels, one of which takes all that they take. Loaded with a
 * table that asks for them, and with the tuner.
 */
import type { Call, GpuKernel, KernelTable, Launch } from '../define.ts';
import { matmulLanes, matmulMatrix } from '../../wgsl/index.gen.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import { formed } from './index.ts';
import { nbitsGemv } from './matmul-nbits.ts';
import { nbitsDotKernel } from './nbits-dot.ts';
import { batches, MAX_GROUPS, product, type ProductOf, tileable } from './product-kernels.ts';
import { productLaunch, putRows, sourceA, sourceB } from './product.ts';
import { matrixShape, matrixTile } from './product-matrix.ts';
import { lanesTile } from './product-tiles.ts';
import { convWinograd } from './winograd.ts';

/** Do subgroups fill workgroups of WG, whatever size the driver takes? */
const filled = (caps: GpuCaps, WG: number): boolean =>
  caps.subgroups && caps.subgroupSizes !== undefined && WG % caps.subgroupSizes[1] === 0;

/** A product whose left operand goes from lane to lane of a subgroup. */
const lanesKernel = (family: string, of: ProductOf): GpuKernel => ({
  name: `${family}.lanes`,
  accepts: (call, caps) => {
    const p = product(of, call, caps);
    return filled(caps, 64) && tileable(p, caps) && p.k >= 4 && batches(p) <= MAX_GROUPS && p.m <= MAX_GROUPS;
  },
  tunables: { WG: [32, 64, 128], TM: [2, 4, 8] },
  launch: (call, caps, tuned) => {
    const p = product(of, call, caps)!;
    const TM = tuned.TM ?? (p.m >= 8 ? 8 : p.m >= 3 ? 4 : p.m);
    const WG = filled(caps, tuned.WG ?? 64) ? (tuned.WG ?? 64) : 64;
    return productLaunch(
      p,
      matmulLanes,
      { WG, TM },
      [Math.ceil(p.n / (4 * WG)), Math.ceil(p.m / TM), batches(p)],
      sourceA(p, caps, false),
      sourceB(p, caps, false),
      lanesTile(p, TM),
      putRows(p)(caps),
    );
  },
});

/** A product by subgroup matrices. */
const matrixKernel = (family: string, of: ProductOf): GpuKernel => ({
  name: `${family}.matrix`,
  accepts: (call, caps) => {
    const p = product(of, call, caps);
    return tileable(p, caps) && p.k >= 4 && batches(p) <= MAX_GROUPS && matrixShape(p, caps, {}) !== null;
  },
  tunables: { STRIPS: [1, 2, 4, 8], DOWN: [1, 2], ACROSS: [2, 4], BK: [16, 32] },
  launch: (call, caps, tuned) => {
    const p = { ...product(of, call, caps)!, fixedDepth: false };
    const s = matrixShape(p, caps, tuned) ?? matrixShape(p, caps, {})!;
    const tiles = Math.ceil(p.m / s.BM) * Math.ceil(p.n / s.BN);
    const a = sourceA(p, caps, true);
    const half = s.of === 'f16' ? { half: 'f16' as const } : {};
    return productLaunch(
      p,
      matmulMatrix,
      { WG: s.WG, BM: s.BM, BN: s.BN },
      [tiles, 1, batches(p)],
      { ...a, types: { ...a.types, ...half } },
      sourceB(p, caps, false),
      matrixTile(s),
      putRows(p)(caps),
    );
  },
});

// The sum over a subgroup is that of its first lane's cell, all other cells being neutral: which invocations share a
// subgroup does not matter.
const group = (name: string, merge: string, neutral: string): string => {
  const all = `subgroup${name === 'sum' ? 'Add' : 'Max'}`;
  return `fn group_${name}(v: f32, lid: u32) -> f32 {
  workgroupBarrier();
  let whole = ${all}(v);
  shared_f32[lid] = select(${neutral}, whole, subgroupExclusiveAdd(1u) == 0u);
  workgroupBarrier();
  let lanes = subgroupAdd(1u);
  var t = ${neutral};
  for (var i = subgroupExclusiveAdd(1u); i < WG; i += lanes) { ${merge} }
  return ${all}(t);
}`;
};
const GROUPS = `var<workgroup> shared_f32: array<f32, WG>;\n${group('sum', 't += shared_f32[i];', '0.0')}\n${group('max', 't = max(t, shared_f32[i]);', 'LOWEST_F32')}`;

/**
 * A kernel that shares a row among a workgroup, adding up by subgroups what it otherwise adds up in workgroup memory.
 */
const rowsKernel = (kernel: GpuKernel): GpuKernel => ({
  ...kernel,
  name: kernel.name.replace(/group$/, 'lanes'),
  accepts: (call, caps) => caps.subgroups && kernel.accepts!(call, caps),
  launch: (call, caps, tuned) =>
    ([] as Launch[])
      .concat(kernel.launch(call, caps, tuned))
      .map((l) =>
        /^(softmax|norm(_skip)?)_group$/.test(l.module.name) ? { ...l, slots: { ...l.slots, lanes: GROUPS } } : l,
      ),
});

/**
 * A reduction whose workgroups merge by subgroups: pairs that lie a power of two apart, until all lanes have what the
 * subgroup has.
 */
const reduceKernel = (kernel: GpuKernel): GpuKernel => {
  const inGroups = (call: Call, caps: GpuCaps): Launch | undefined =>
    ([] as Launch[]).concat(kernel.launch(call, caps, {})).find((l) => l.module.name === 'reduce_group');
  const whole = (caps: GpuCaps, tuned: Readonly<Record<string, number>>): Readonly<Record<string, number>> =>
    tuned.WG === 1 || filled(caps, tuned.WG ?? 1) ? tuned : {};
  return {
    ...kernel,
    name: `${kernel.name}.lanes`,
    ...(kernel.scratch
      ? {
          scratch: (call: Call, caps: GpuCaps, tuned: Readonly<Record<string, number>>) =>
            kernel.scratch!(call, caps, whole(caps, tuned)),
        }
      : {}),
    accepts: (call, caps) =>
      caps.subgroups && kernel.accepts!(call, caps) && filled(caps, inGroups(call, caps)?.params?.['WG'] ?? 1),
    launch: (call, caps, tuned) =>
      ([] as Launch[])
        .concat(kernel.launch(call, caps, whole(caps, tuned)))
        .map((l) =>
          l.module.name === 'reduce_group'
            ? { ...l, slots: { ...l.slots, lanes: mergedText(l.slots!['first']!.includes('struct Place')) } }
            : l,
        ),
  };
};
const mergedText = (place: boolean): string => `var<workgroup> partial: array<A, WG>;
fn across(own: A, lanes: u32) -> A {
  var a = own;
  for (var d = lanes / 2u; d > 0u; d >>= 1u) { a = merge(a, ${place ? 'Place(subgroupShuffleXor(a.v, d), subgroupShuffleXor(a.k, d))' : 'subgroupShuffleXor(a, d)'}); }
  return a;
}
fn group_merged(own: A, lid: u32) -> A {
  let lanes = subgroupAdd(1u);
  let a = across(own, lanes);
  if (subgroupElect()) { partial[lid] = a; } else { partial[lid] = first(); }
  workgroupBarrier();
  var t = first();
  for (var i = subgroupExclusiveAdd(1u); i < WG; i += lanes) { t = merge(t, partial[i]); }
  return across(t, lanes);
}`;

const products = (family: string, of: ProductOf): GpuKernel[] => [lanesKernel(family, of), matrixKernel(family, of)];
const more: KernelTable<GpuKernel> = {
  MatMul: products('matmul', formed.MatMul),
  'com.microsoft.FusedMatMul': products('matmul', formed.fused),
  'com.microsoft.TransposeMatMul': products('matmul', formed.fused),
  Conv: [convWinograd],
  Gemm: products('gemm', formed.Gemm),
  'com.microsoft.MatMulNBits': [nbitsGemv(true), nbitsDotKernel],
};

/** A table with the variants of its operators. */
export const withVariants = (table: KernelTable<GpuKernel>): KernelTable<GpuKernel> =>
  Object.fromEntries(
    Object.entries(table).map(([op, kernels]) => [
      op,
      [
        ...kernels,
        ...kernels
          .filter((k) => /^(softmax|(skip-)?(layer|rms|instance|group)norm)\.group$/.test(k.name))
          .map(rowsKernel),
        ...kernels.filter((k) => k.name.startsWith('reduce.')).map(reduceKernel),
        ...(more[op] ?? []),
      ],
    ]),
  );
