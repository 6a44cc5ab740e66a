/**
 * Tiles of products by subgroup matrices, an experimental feature of Chromium:
 * https://dawn.googlesource.com/dawn/+/refs/heads/main/docs/dawn/features/subgroup_matrix.md. Sums are in f32; f16
 * operands are multiplied as they are stored, f32 ones only where a configuration takes f32. No software adapter runs
 * it: tests compile it on Dawn's null backend, and run it with its matrices written out; on hardware the tuner compares
 * its results with the reference before it takes any time.
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Product } from './product.ts';

/**
 * A workgroup of STRIPS subgroups of `size`, each with DOWN by ACROSS matrices of m x n; BK of the depth at a time, k
 * of it at once.
 */
interface MatrixShape {
  readonly of: 'f16' | 'f32';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly STRIPS: number;
  readonly DOWN: number;
  readonly ACROSS: number;
  readonly BM: number;
  readonly BN: number;
  readonly BK: number;
  readonly WG: number;
}

/** Elements between rows of staged tiles beyond what they hold, so that rows begin in different banks. */
const PAD = 8;

/**
 * The shape for a product on a device, with what was tuned; null where it has no matrices of the operands' type, or no
 * room.
 */
export function matrixShape(p: Product, caps: GpuCaps, tuned: Readonly<Record<string, number>>): MatrixShape | null {
  const of =
    p.a.elem === 'f16' && p.b.elem === 'f16' && caps.f16
      ? 'f16'
      : p.a.elem === 'f32' && p.b.elem === 'f32'
        ? 'f32'
        : null;
  const [least, size = 0] = caps.subgroupSizes ?? [];
  const config = (caps.matrices ?? []).find((c) => c.of === of);
  if (p.readA || p.readB || config === undefined || least !== size || size === 0) return null;
  const { m, n, k } = config;
  const STRIPS = tuned.STRIPS ?? Math.max(1, Math.min(4, Math.floor(256 / size)));
  const DOWN = tuned.DOWN ?? 1;
  const ACROSS = tuned.ACROSS ?? 4;
  const BK = tuned.BK ?? Math.max(16, k);
  const WG = STRIPS * size;
  const s: MatrixShape = {
    of: config.of,
    m,
    n,
    k,
    STRIPS,
    DOWN,
    ACROSS,
    BM: STRIPS * DOWN * m,
    BN: ACROSS * n,
    BK,
    WG,
  };
  const bytes = (s.BM * (BK + PAD) + BK * (s.BN + PAD)) * (of === 'f16' ? 2 : 4) + STRIPS * m * n * 4;
  return BK % k === 0 &&
    n % 4 === 0 &&
    WG <= caps.limits.maxComputeInvocationsPerWorkgroup &&
    bytes <= caps.limits.maxComputeWorkgroupStorageSize
    ? s
    : null;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Slot `tile` of matmul_matrix. */
export function matrixTile({ of, m, n, k, STRIPS, DOWN, ACROSS, BM, BN, BK, WG }: MatrixShape): string {
  const AS = BK + PAD;
  const BS = BN + PAD;
  const cells = range(DOWN).flatMap((i) => range(ACROSS).map((j) => ({ i, j, c: `c${i}_${j}` })));
  const staged = (name: string, at: string): string =>
    ['x', 'y', 'z', 'w'].map((c, d) => `${name}[${at} + ${d}u] = Cell(v.${c});`).join(' ');
  return `alias Cell = ${of};
alias Left = subgroup_matrix_left<Cell, ${k}, ${m}>;
alias Right = subgroup_matrix_right<Cell, ${n}, ${k}>;
alias Sum = subgroup_matrix_result<f32, ${n}, ${m}>;
var<workgroup> as_: array<Cell, ${BM * AS}>;
var<workgroup> bs: array<Cell, ${BK * BS}>;
var<workgroup> sums: array<f32, ${STRIPS * m * n}>;
fn tile(a0: u32, b0: u32, y0: u32, row0: u32, column: u32, lid: u32, strip: u32, lane: u32, lanes: u32) {
  let first = strip * ${DOWN * m}u;
${cells.map(({ c }) => `  var ${c} = Sum();`).join('\n')}
  for (var k0 = 0u; k0 < u.k; k0 += ${BK}u) {
    for (var e = lid; e < ${(BM * BK) / 4}u; e += ${WG}u) {
      let r = e / ${BK / 4}u; let q = (e % ${BK / 4}u) * 4u; let k = k0 + q; let row = min(row0 + r, u.m - 1u);
      let v = select(vec4f(0.0), take_a(a0 + row * u.a_row, min(k, (u.k - 1u) & ~3u), row), before(k, u.k));
      let o = r * ${AS}u + q; ${staged('as_', 'o')}
    }
    for (var e = lid; e < ${(BK * BN) / 4}u; e += ${WG}u) {
      let d = e / ${BN / 4}u; let q = (e % ${BN / 4}u) * 4u; let k = k0 + d;
      let v = select(vec4f(0.0), take_b(b0, min(k, u.k - 1u), min(column + q, (u.n - 1u) & ~3u)), k < u.k);
      let o = d * ${BS}u + q; ${staged('bs', 'o')}
    }
    workgroupBarrier();
${range(BK / k)
  .map(
    (s) => `    {\n${range(DOWN)
      .map(
        (i) =>
          `      let l${i} = subgroupMatrixLoad<Left, row_major>(&as_, (first + ${i * m}u) * ${AS}u + ${s * k}u, ${AS}u);`,
      )
      .join('\n')}
${range(ACROSS)
  .map(
    (j) =>
      `      let r${j} = subgroupMatrixLoad<Right, row_major>(&bs, ${s * k * BS + j * n}u, ${BS}u);\n${range(DOWN)
        .map((i) => `      c${i}_${j} = subgroupMatrixMultiplyAccumulate(l${i}, r${j}, c${i}_${j});`)
        .join('\n')}`,
  )
  .join('\n')}\n    }`,
  )
  .join('\n')}
    workgroupBarrier();
  }
${cells
  .map(
    ({ i, j, c }) => `  subgroupMatrixStore<row_major>(&sums, strip * ${m * n}u, ${c}, ${n}u);
  workgroupBarrier();
  for (var e = lane; e < ${(m * n) / 4}u; e += lanes) {
    let row = row0 + first + ${i * m}u + e / ${n / 4}u; let at = column + ${j * n}u + (e % ${n / 4}u) * 4u; let o = strip * ${m * n}u + e * 4u;
    if (row < u.m && at < u.n) { put(y0 + row * u.n + at, vec4f(sums[o], sums[o + 1u], sums[o + 2u], sums[o + 3u]), u.n - at); }
  }
  workgroupBarrier();`,
  )
  .join('\n')}
}`;
}
