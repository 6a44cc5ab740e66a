/** sardonyx.ConvSum as a product whose rows of b come from two images. */
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Call } from '../define.ts';
import { convSumShape } from '../conv-sum.ts';
import { elemOf } from './elem.ts';
import { finishFits } from './finish.ts';
import { matrixOf, type Product, productKind, type Source } from './product.ts';
import { productKernels } from './product-kernels.ts';

function productOf(call: Call, caps: GpuCaps): Product | null {
  const [x, z, w, bias] = call.inputs;
  const s = convSumShape(x!.shape, z!.shape, w!.shape, call.attrs.strides);
  const {
    images,
    filters,
    channels: [c0, c1],
    out: [h, wide],
    size: [h1, w1],
  } = s;
  const elem = elemOf(x!.dtype)!;
  const addends = bias ? [{ input: 3, shape: [filters, 1, 1], times: 1 }] : [];
  if (productKind(elem) !== 'f32' || !finishFits(call, caps, 4, addends)) return null;
  const area = h * wide;
  const k = c0 + c1;
  const [sy, sx] = call.attrs.strides as [number, number];
  const whole = area % 4 === 0 && elem === 'f32';
  const plain = whole
    ? 'return b[(o + k * u.b_row + n) >> 2u];'
    : `let at = o + k * u.b_row; return vec4f(load_b(at + n), load_b(at + min(n + 1u, last)), load_b(at + min(n + 2u, last)), load_b(at + min(n + 3u, last)));`;
  const readB = (): Source => ({
    ref: { input: 0 },
    types: { ...(whole ? {} : { b: elem }), second: elem },
    extra: [{ name: 'second', bind: { input: 1 } }],
    text: `${whole ? 'alias BStore = vec4f;\n' : ''}fn strided(base: u32, position: u32) -> f32 { let row = position / extra.across; return load_second(base + row * extra.down + (position - row * extra.across) * ${sx}u); }
fn take_b(o: u32, k: u32, n: u32) -> vec4f { let last = u.n - 1u; if (k < ${c0}u) { ${plain} } let base = (o / extra.image * ${c1}u + k - ${c0}u) * extra.area; return vec4f(strided(base, n), strided(base, min(n + 1u, last)), strided(base, min(n + 2u, last)), strided(base, min(n + 3u, last))); }`,
    extraUniforms: [
      { name: 'across', type: 'u32', value: wide },
      { name: 'down', type: 'u32', value: sy * w1 },
      { name: 'image', type: 'u32', value: c0 * area },
      { name: 'area', type: 'u32', value: h1 * w1 },
    ],
  });
  return {
    call,
    batch: [images],
    m: filters,
    n: area,
    k,
    a: matrixOf(call, 2, filters, k, k, 1, [0], false),
    b: { ref: { input: 0 }, elem, row: area, col: 1, batch: [c0 * area] },
    fixedDepth: w!.constant !== undefined,
    kind: 'f32',
    alpha: 1,
    addends,
    readB,
  };
}

export const convSumKernels = productKernels('conv-sum', productOf);
