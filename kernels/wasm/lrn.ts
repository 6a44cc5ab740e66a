/**
 * Normalisation of each element by its neighbours in other channels: four places of a plane at once, over the channels
 * of the window.
 */
import { sizeOf } from '../../src/core/tensor.ts';
import type { WasmEmitter, WasmKernel } from '../define.ts';
import { f32x4, i32, type V } from './asm.ts';
import { type Ctx, context, madd, pow } from './float.ts';
import { i32s, loadLanes, loop, params, storeLanes } from './gemm-core.ts';
import { withHalf } from './half.ts';
import { kernelModule } from './module.ts';

interface Spec {
  readonly scale: number;
  readonly beta: number;
  readonly bias: number;
  readonly before: number;
  readonly after: number;
}

/** x / t^beta; by square roots where beta is the usual one. */
function divided(c: Ctx, x: V, t: V, beta: number): V {
  if (beta !== 0.75) return f32x4.div(x, pow(c, t, f32x4.const(beta)));
  const root = c.f.let(f32x4.sqrt(t));
  return f32x4.div(x, f32x4.mul(root, f32x4.sqrt(root)));
}

/** run(x, y, N, C, plane): planes of `plane` bytes. */
const lrnModule: WasmEmitter<Spec> = {
  name: 'lrn',
  build: (s, caps) =>
    kernelModule('lrn', i32s(5), caps, (f, m) => {
      const p = params(f, 'x', 'y', 'N', 'C', 'plane');
      const ctx = context(f, m, caps.fma);
      const [c, at, from, to, vectors] = [
        f.local('i32'),
        f.local('i32'),
        f.local('i32'),
        f.local('i32'),
        f.local('i32'),
      ];
      const squares = f.local('v128');
      const place = (lanes: number): void => {
        f.set(squares, f32x4.const(0));
        f.set(at, i32.add(p.x, i32.mul(from, p.plane)));
        f.times(i32.sub(to, from), () => {
          const v = f.let(loadLanes(at, lanes));
          f.set(squares, madd(ctx, v, v, squares));
          f.inc(at, p.plane);
        });
        const t = madd(ctx, squares, f32x4.const(s.scale), f32x4.const(s.bias));
        f.set(at, i32.mul(c, p.plane));
        const y = f.local('v128');
        f.set(y, divided(ctx, loadLanes(i32.add(p.x, at), lanes), f.let(t), s.beta));
        f.set(at, i32.add(p.y, at));
        storeLanes(f, at, y, lanes);
        f.inc(p.x, 4 * lanes);
        f.inc(p.y, 4 * lanes);
      };
      f.set(vectors, i32.shru(p.plane, 4));
      f.times(p.N, () => {
        loop(f, c, 0, p.C, 1, () => {
          f.set(from, i32.select(i32.gtu(c, s.before), i32.sub(c, s.before), 0));
          f.set(to, i32.add(c, s.after + 1));
          f.iff(i32.gtu(to, p.C), () => f.set(to, p.C));
          f.times(vectors, () => place(4));
          f.times(i32.and(i32.shru(p.plane, 2), 3), () => place(1));
          f.inc(p.x, i32.sub(0, p.plane));
          f.inc(p.y, i32.sub(0, p.plane));
        });
        f.inc(p.x, i32.mul(p.plane, p.C));
        f.inc(p.y, i32.mul(p.plane, p.C));
      });
    }),
};

/** LRN of planes, channels first. */
export const lrnWasm: readonly WasmKernel[] = withHalf([
  {
    name: 'lrn',
    accepts: (call) => call.inputs[0]!.dtype === 'float32',
    launch: (call) => {
      const { shape } = call.inputs[0]!;
      const { alpha, beta, bias, size } = call.attrs;
      return {
        emit: lrnModule,
        spec: { scale: alpha / size, beta, bias, before: Math.floor((size - 1) / 2), after: Math.ceil((size - 1) / 2) },
        args: [{ input: 0 }, { output: 0 }, shape[0]!, shape[1]!, 4 * sizeOf(shape.slice(2))],
      };
    },
  },
]);
