/**
 * com.microsoft.MatMulNBits by products of bytes (dp4a): rows of a are rounded to 8 bits, a block at a time, which
 * `accuracy_level` 4 allows. Weights of 4 bits become bytes as they are read; those of 8 are shifted by 128 to have a
 * sign. Zero points stay outside of the products, as in matmul-nbits.ts.
 */
import { matmulNbitsDot, nbitsBytes } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { nbitsLayout, type NBitsAttrs } from '../quantize-nbits.ts';
import { finishOf, putOf } from './finish.ts';
import { grid } from './grid.ts';
import { biasOf, plainNBits, rowsOf, rowsText, weightsOf } from './matmul-nbits.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** TM rows by four columns. */
function tile({ attrs: { K, N, bits, block_size } }: Call<NBitsAttrs>, TM: number): string {
  const blocks = K / block_size;
  const row = (K * bits) / 32;
  const words = (block_size * bits) / 32;
  const per = bits === 4 ? 2 : 1;
  const quads = K / 4;
  const each = (f: (i: number) => string): string => range(TM).map(f).join('\n');
  const columns = range(4).map((j) => (j === 0 ? 'n' : `n${j}`));
  const parts = bits === 4 ? ['spread(w)', 'spread(w >> 16u)'] : ['w ^ 0x80808080u'];
  return `fn spread(w: u32) -> u32 { return (w & 0xfu) | ((w & 0xf0u) << 4u) | ((w & 0xf00u) << 8u) | ((w & 0xf000u) << 12u); }
fn tile(row: u32, n: u32) {
  ${columns
    .slice(1)
    .map((c, j) => `let ${c} = min(n + ${j + 1}u, ${N - 1}u);`)
    .join(' ')}
${each((i) => `  let m${i} = min(row + ${i}u, u.m - 1u); var c${i} = vec4f(0.0);`)}
  for (var block = 0u; block < ${blocks}u; block++) {
${each((i) => `    var p${i} = vec4i(0);`)}
    for (var j = 0u; j < ${words}u; j++) {
      let at = block * ${words}u + j;
${columns.map((c, k) => parts.map((part, h) => `      let w${k}_${h} = ${part.replace('w', `b[${c} * ${row}u + at]`)};`).join('\n')).join('\n')}
${each((i) =>
  range(per)
    .map(
      (h) =>
        `      { let v = a[m${i} * ${quads}u + at * ${per}u + ${h}u]; p${i} += vec4i(${columns.map((_, k) => `dot4I8Packed(v, w${k}_${h})`).join(', ')}); }`,
    )
    .join('\n'),
)}
    }
    let s = vec4f(${columns.map((c) => `scale(${c}, block)`).join(', ')});
    let z = vec4f(${columns.map((c) => `zero(${c}, block)`).join(', ')})${bits === 8 ? ' - 128.0' : ''};
${each((i) => `    { let r = units[m${i} * ${blocks}u + block]; c${i} += r.x * s * (vec4f(p${i}) - z * r.y); }`)}
  }
${each((i) => `  ${i > 0 ? `if (row + ${i}u < u.m) ` : ''}{ put((row + ${i}u) * ${N}u + n, c${i}, ${N}u - n); }`)}
}`;
}

export const nbitsDotKernel: GpuKernel<NBitsAttrs & { readonly accuracy_level: number }> = {
  name: 'nbits.dot4',
  accepts: (call, caps) => {
    const { accuracy_level, bits, K, block_size } = call.attrs;
    return (
      caps.dot4 === true &&
      accuracy_level === 4 &&
      bits >= 4 &&
      K % block_size === 0 &&
      caps.limits.maxStorageBuffersPerShaderStage >= 8 &&
      plainNBits(call, caps) &&
      rowsOf(call) <= 4 * 65535
    );
  },
  tunables: { TM: [1, 2, 4, 8] },
  scratch: (call) => {
    const { blocks } = nbitsLayout(call.attrs);
    return [rowsOf(call) * call.attrs.K, rowsOf(call) * blocks * 8];
  },
  launch: (call, caps, tuned) => {
    const m = rowsOf(call);
    const { N, block_size } = call.attrs;
    const { blocks } = nbitsLayout(call.attrs);
    const rows = rowsText(call, caps);
    const weights = weightsOf(call);
    const TM = tuned.TM ?? (m >= 8 ? 8 : m >= 4 ? 4 : m);
    const WY = m > TM ? 4 : 1;
    const WX = 64 / WY;
    const put = putOf(call, caps, N % 4 === 0, finishOf(call, biasOf(call)));
    return [
      {
        module: nbitsBytes,
        types: rows.types,
        params: { WG: 64, QUADS: block_size / 4 },
        slots: { take_a: rows.text },
        uniforms: { count: m * blocks },
        workgroups: grid(m * blocks, 64),
        bind: [{ input: 0 }, { scratch: 0 }, { scratch: 1 }],
      },
      {
        module: matmulNbitsDot,
        params: { WX, WY, TM, N },
        workgroups: [Math.ceil(N / 4 / WX), Math.ceil(m / TM / WY), 1],
        types: { ...weights.types, ...put.types },
        uniforms: { m },
        slots: { tile: [weights.text, put.text, tile(call, TM)].join('\n') },
        bind: [{ scratch: 0 }, { scratch: 1 }, { input: 1 }, { output: 0 }],
        extra: [...put.extra, ...weights.extra],
        extraUniforms: put.extraUniforms,
      },
    ];
  },
};
