/**
 * sardonyx.GatedMatMul: products whose quads of columns hold two of each half, so that an invocation that stores a quad
 * has what meets.
 */
import { elemOf } from './elem.ts';
import { wgslBody } from '../expr-to-wgsl.ts';
import { parsed } from '../expr.ts';
import { gatedShape } from '../matmul-gated.ts';
import { matrixOf, productKind } from './product.ts';
import { productKernels } from './product-kernels.ts';

/** Variants that store whole quads. */
const STORING = /\.(small|tile|direct)$/;

export const gatedKernels = productKernels('gated', (call, caps) => {
  const elem = elemOf(call.inputs[0]!.dtype)!;
  const half = elem === 'f16' && caps.f16;
  if (productKind(elem) !== 'f32' || (elem !== 'f32' && !half)) return null;
  const { rows, depth, columns } = gatedShape(call.inputs[0]!.shape, call.inputs[1]!.shape);
  const type = half ? 'vec2<f16>' : 'vec2f';
  return {
    call,
    batch: [],
    m: rows,
    n: 2 * columns,
    k: depth,
    a: matrixOf(call, 0, rows, depth, depth, 1, [], false),
    b: matrixOf(call, 1, depth, 2 * columns, 2 * columns, 1, [], false),
    fixedDepth: call.inputs[1]!.constant !== undefined,
    kind: 'f32',
    alpha: 1,
    addends: [],
    put: () => ({
      types: half ? { half: 'f16' } : {},
      extra: [],
      extraUniforms: [],
      text: `alias YStore = ${type};\nfn gated(a0: f32, a1: f32) -> f32 {\n${wgslBody(parsed(call.attrs.expr), (i) => `a${i}`)}\n}\nfn put(i: u32, v: vec4f, left: u32) { y[i >> 2u] = ${half ? `${type}(vec2f(gated(v.x, v.z), gated(v.y, v.w)))` : `${type}(gated(v.x, v.z), gated(v.y, v.w))`}; }`,
    }),
  };
}).filter((k) => STORING.test(k.name));
