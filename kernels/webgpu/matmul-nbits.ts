/**
 * com.microsoft.MatMulNBits: weights of 2, 4 or 8 bits, widened as they are multiplied. Within a block the zero point
 * is kept out of the inner product: the sum of s (q - z) a is s (sum of q a - z sum of a).
 */
import type { GpuCaps } from '../../src/core/plan.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Elem } from '../../wgsl/assemble.ts';
import { matmulNbits, matmulNbitsAny, matmulNbitsGroup } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel, Launch } from '../define.ts';
import { nbitsLayout, type NBitsAttrs } from '../quantize-nbits.ts';
import { elemOf } from './elem.ts';
import { type Addend, finishFits, finishOf, type Parts, putOf, storesOne } from './finish.ts';
import { grid } from './grid.ts';
import { type Product, productKind } from './product.ts';
import { productKernels } from './product-kernels.ts';

type NBits = Call<NBitsAttrs>;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
export const rowsOf = (call: NBits): number => sizeOf(call.inputs[0]!.shape) / call.attrs.K;
export const biasOf = (call: NBits): Addend[] =>
  call.inputs[5] ? [{ input: 5, shape: [call.attrs.N], times: 1 }] : [];
const computes = (call: NBits, caps: GpuCaps): boolean =>
  productKind(elemOf(call.inputs[0]!.dtype)) === 'f32' && finishFits(call, caps, 6, biasOf(call));

interface Weights {
  readonly types: Readonly<Record<string, Elem>>;
  readonly extra: NonNullable<Launch['extra']>;
  readonly text: string;
}
/**
 * `bits4(n, k)`: the numbers k .. k+3 of row n; `scale(n, block)`, `zero(n, block)`; `weight(n, k)`: one, widened. Rows of blocks lie one after
 * the other, so a row is a run of bits.
 */
export function weightsOf({ inputs, attrs }: NBits): Weights {
  const { blocks, blob, zeroBytes } = nbitsLayout(attrs);
  const { bits, block_size } = attrs;
  const words = (blocks * blob) / 4;
  const per = 32 / bits;
  const mask = 2 ** bits - 1;
  const zeros = inputs[3] ?? null;
  const groups = inputs[4] ?? null;
  const packed = zeros?.dtype === 'uint8';
  const zero =
    zeros === null
      ? `${2 ** (bits - 1)}.0`
      : packed
        ? `f32((load_zeros(n * ${zeroBytes}u + block / ${8 / bits}u) >> ((block % ${8 / bits}u) * ${bits}u)) & ${mask}u)`
        : `load_zeros(n * ${blocks}u + block)`;
  return {
    types: {
      scales: elemOf(inputs[2]!.dtype)!,
      ...(zeros === null ? {} : { zeros: elemOf(zeros.dtype)! }),
      ...(groups === null ? {} : { groups: 'i32' as const }),
    },
    extra: [
      { name: 'scales', bind: { input: 2 } },
      ...(zeros === null ? [] : [{ name: 'zeros', bind: { input: 3 } }]),
      ...(groups === null ? [] : [{ name: 'groups', bind: { input: 4 } }]),
    ],
    text: [
      `fn bits4(n: u32, k: u32) -> vec4f { let w = b[n * ${words}u + k / ${per}u] >> ((k % ${per}u) * ${bits}u); return vec4f(vec4u(w, w >> ${bits}u, w >> ${2 * bits}u, w >> ${3 * bits}u) & vec4u(${mask}u)); }`,
      `fn scale(n: u32, block: u32) -> f32 { return load_scales(n * ${blocks}u + block); }`,
      `fn zero(n: u32, block: u32) -> f32 { return ${zero}; }`,
      `fn weight(n: u32, k: u32) -> f32 { let block = ${groups === null ? `k / ${block_size}u` : `min(u32(load_groups(k)), ${blocks - 1}u)`}; let q = (b[n * ${words}u + k / ${per}u] >> ((k % ${per}u) * ${bits}u)) & ${mask}u; return (f32(q) - zero(n, block)) * scale(n, block); }`,
    ].join('\n'),
  };
}

/**
 * The sum over a workgroup by subgroups: each leaves its own at its first lane, all other cells being 0, so that which
 * invocations share one does not matter.
 */
const LANES = `fn lanes_sum(v: vec4f, lid: u32) -> vec4f {
  workgroupBarrier();
  let own = subgroupAdd(v);
  sums[lid] = select(vec4f(0.0), own, subgroupExclusiveAdd(1u) == 0u);
  workgroupBarrier();
  let lanes = subgroupAdd(1u);
  var t = vec4f(0.0);
  for (var i = subgroupExclusiveAdd(1u); i < WG; i += lanes) { t += sums[i]; }
  return subgroupAdd(t);
}
`;
/**
 * TM rows by four columns; with `group` invocations share the blocks and add up what they have, by subgroups if
 * `lanes`.
 */
function tile({ attrs: { K, N, block_size } }: NBits, TM: number, group: number, lanes = false): string {
  const blocks = Math.ceil(K / block_size);
  const quads = block_size / 4;
  const each = (f: (i: number) => string): string => range(TM).map(f).join('\n');
  const columns = [0, 1, 2, 3].map((j) => (j === 0 ? 'n' : `n${j}`));
  const rest = K % block_size;
  const inBlock = rest === 0 ? `${quads}u` : `select(${quads}u, ${Math.ceil(rest / 4)}u, block == ${blocks - 1}u)`;
  const load = K % 4 === 0 ? (i: number) => `take_a(m${i} * ${K}u + k)` : (i: number) => `within4(m${i} * ${K}u, k)`;
  return `${group > 1 ? `var<workgroup> sums: array<vec4f, ${group}>;\n` : ''}${lanes ? LANES : ''}fn tile(row: u32, n: u32, lane: u32) {
  ${columns
    .slice(1)
    .map((c, j) => `let ${c} = min(n + ${j + 1}u, ${N - 1}u);`)
    .join(' ')}
${each((i) => `  let m${i} = min(row + ${i}u, u.m - 1u); var c${i} = vec4f(0.0);`)}
  for (var block = ${group > 1 ? 'lane' : '0u'}; block < ${blocks}u; block += ${group}u) {
${each((i) => `    var p${i} = vec4f(0.0); var t${i} = 0.0;`)}
    let count = ${inBlock};
    for (var q = 0u; q < count; q++) {
      let k = block * ${block_size}u + q * 4u;
      ${columns.map((c, j) => `let w${j} = bits4(${c}, k);`).join(' ')}
${each((i) => `      { let v = ${load(i)}; p${i} += vec4f(dot(v, w0), dot(v, w1), dot(v, w2), dot(v, w3)); t${i} += (v.x + v.y) + (v.z + v.w); }`)}
    }
    let s = vec4f(${columns.map((c) => `scale(${c}, block)`).join(', ')});
    let z = vec4f(${columns.map((c) => `zero(${c}, block)`).join(', ')});
${each((i) => `    c${i} += s * (p${i} - z * t${i});`)}
  }
${each((i) =>
  lanes
    ? `  { let all = lanes_sum(c${i}, lane); if (lane == 0u && row + ${i}u < u.m) { put((row + ${i}u) * ${N}u + n, all, ${N}u - n); } }`
    : group > 1
      ? `  sums[lane] = c${i};
  for (var half = ${group / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { sums[lane] += sums[lane + half]; }
  }
  if (lane == 0u && row + ${i}u < u.m) { put((row + ${i}u) * ${N}u + n, sums[0], ${N}u - n); }
  workgroupBarrier();`
      : `  ${i > 0 ? `if (row + ${i}u < u.m) ` : ''}{ put((row + ${i}u) * ${N}u + n, c${i}, ${N}u - n); }`,
)}
}`;
}

/** `take_a(i)`: four neighbours from an index that four divides; `within4(o, k)`: from any, 0 beyond K. */
export function rowsText(call: NBits, caps: GpuCaps): Parts {
  const elem = elemOf(call.inputs[0]!.dtype)!;
  const { K } = call.attrs;
  if (K % 4 === 0 && elem === 'f32')
    return {
      types: {},
      text: 'alias AStore = vec4f;\nfn take_a(i: u32) -> vec4f { return a[i >> 2u]; }',
      extra: [],
      extraUniforms: [],
    };
  if (K % 4 === 0 && elem === 'f16' && caps.f16)
    return {
      types: { half: 'f16' },
      text: 'alias AStore = vec4<f16>;\nfn take_a(i: u32) -> vec4f { return vec4f(a[i >> 2u]); }',
      extra: [],
      extraUniforms: [],
    };
  const text =
    K % 4 === 0
      ? 'fn take_a(i: u32) -> vec4f { return load4_a(i >> 2u); }'
      : `fn within4(o: u32, k: u32) -> vec4f { let at = vec4u(o) + min(vec4u(k) + vec4u(0u, 1u, 2u, 3u), vec4u(${K - 1}u)); return select(vec4f(0.0), vec4f(load_a(at.x), load_a(at.y), load_a(at.z), load_a(at.w)), before(k, ${K}u)); }`;
  return { types: { a: elem }, text, extra: [], extraUniforms: [] };
}

function launchOf(
  call: NBits,
  caps: GpuCaps,
  module: Launch['module'],
  params: Record<string, number>,
  workgroups: Launch['workgroups'],
  text: string,
): Launch {
  const weights = weightsOf(call);
  const rows = rowsText(call, caps);
  const put = putOf(call, caps, call.attrs.N % 4 === 0, finishOf(call, biasOf(call)));
  return {
    module,
    params,
    workgroups,
    types: { ...rows.types, ...weights.types, ...put.types },
    slots: { tile: [rows.text, weights.text, put.text, text].join('\n') },
    uniforms: { m: rowsOf(call) },
    bind: [{ input: 0 }, { input: 1 }, { output: 0 }],
    extra: [...put.extra, ...weights.extra],
    extraUniforms: put.extraUniforms,
  };
}
/** Weights in their order, of an output that can be stored as it comes. */
export const plainNBits = (call: NBits, caps: GpuCaps): boolean =>
  computes(call, caps) &&
  (call.inputs[4] ?? null) === null &&
  (call.attrs.N % 4 === 0 || storesOne(call, caps)) &&
  call.attrs.N <= 4 * 65535;

/** The product with b widened as tiles are staged. */
function staged(call: NBits, caps: GpuCaps): Product | null {
  if (!computes(call, caps)) return null;
  const { K, N } = call.attrs;
  const weights = weightsOf(call);
  const last = `${N - 1}u`;
  return {
    call,
    batch: [],
    m: rowsOf(call),
    n: N,
    k: K,
    a: { ref: { input: 0 }, elem: elemOf(call.inputs[0]!.dtype)!, row: K, col: 1, batch: [] },
    b: { ref: { input: 1 }, elem: 'f32', row: 1, col: K, batch: [] },
    fixedDepth: true,
    kind: 'f32',
    alpha: 1,
    addends: biasOf(call),
    readB: () => ({
      ref: { input: 1 },
      types: weights.types,
      extra: weights.extra,
      text: `alias BStore = u32;\n${weights.text}\nfn take_b(o: u32, k: u32, n: u32) -> vec4f { return vec4f(weight(n, k), weight(min(n + 1u, ${last}), k), weight(min(n + 2u, ${last}), k), weight(min(n + 3u, ${last}), k)); }`,
    }),
  };
}

/** Few rows; with `lanes` what invocations have is added up by subgroups. */
export const nbitsGemv = (lanes: boolean): GpuKernel<NBitsAttrs> => ({
  name: lanes ? 'nbits.lanes' : 'nbits.gemv',
  accepts: (call, caps) => (lanes ? caps.subgroups : !caps.software) && plainNBits(call, caps) && rowsOf(call) <= 8,
  tunables: { WG: [32, 64, 128] },
  launch: (call, caps, tuned) => {
    const m = rowsOf(call);
    const TM = m >= 4 ? 4 : m;
    const blocks = Math.ceil(call.attrs.K / call.attrs.block_size);
    const WG = tuned.WG ?? (blocks >= 64 ? 64 : 32);
    return launchOf(
      call,
      caps,
      matmulNbitsGroup,
      { WG, TM },
      [Math.ceil(call.attrs.N / 4), Math.ceil(m / TM), 1],
      tile(call, TM, WG, lanes),
    );
  },
});

export const nbitsKernels: readonly GpuKernel<NBitsAttrs>[] = [
  nbitsGemv(false),
  ...(productKernels('nbits', (call, caps) => staged(call as NBits, caps)).filter(
    (k) => k.name === 'nbits.tile',
  ) as readonly GpuKernel<NBitsAttrs>[]),
  {
    name: 'nbits.direct',
    accepts: (call, caps) => plainNBits(call, caps) && rowsOf(call) <= 4 * 65535,
    tunables: { TM: [1, 2, 4, 8] },
    launch: (call, caps, tuned) => {
      const m = rowsOf(call);
      const TM = tuned.TM ?? (m < 3 ? m : m < 5 ? 4 : 8);
      const WY = TM === 8 ? 4 : 1;
      const WX = 64 / WY;
      return launchOf(
        call,
        caps,
        matmulNbits,
        { WX, WY, TM, N: call.attrs.N },
        [Math.ceil(call.attrs.N / 4 / WX), Math.ceil(m / TM / WY), 1],
        tile(call, TM, 1),
      );
    },
  },
  {
    name: 'nbits.any',
    accepts: computes,
    launch: (call, caps) => {
      const weights = weightsOf(call);
      const put = putOf(call, caps, true, finishOf(call, biasOf(call)));
      const count = rowsOf(call) * call.attrs.N;
      return {
        module: matmulNbitsAny,
        params: { N: call.attrs.N, K: call.attrs.K },
        workgroups: grid(Math.ceil(count / 4), 64),
        types: { a: elemOf(call.inputs[0]!.dtype)!, ...weights.types, ...put.types },
        uniforms: { count },
        slots: { put: put.text, weight: weights.text },
        bind: [{ input: 0 }, { input: 1 }, { output: 0 }],
        extra: [...put.extra, ...weights.extra],
        extraUniforms: put.extraUniforms,
      };
    },
  },
];
