/** MaxUnpool. */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import type { Call, WasmKernel } from '../define.ts';
import { i32, memory } from './asm.ts';
import { widthOf } from './elem.ts';
import { indexAt, loopEmitter, type Loops } from './loops.ts';
import { copyOne } from './move.ts';

interface UnpoolSpec {
  readonly width: number;
  /** Dims whose coordinates are moved; 0: indices are those of the output. */
  readonly rank: number;
}
/**
 * run(x, indices, y, count, limit, bytes, then for each dim: the natural size, the output's stride): status 1 for an
 * index outside.
 */
const unpoolEmitter = loopEmitter(
  'unpool',
  (s: UnpoolSpec): string[] => [
    'x',
    'indices',
    'y',
    'count',
    'limit',
    'bytes',
    ...Array.from({ length: s.rank }, (_, d) => [`n${d}`, `step${d}`]).flat(),
  ],
  (k: Loops<string>, s: UnpoolSpec) => {
    const { f, p } = k;
    f.emit(memory.fill(p.y!, 0, p.bytes!));
    k.each(p.count!, (e) => {
      const to = indexAt(f, 'int64', p.indices!, e);
      f.iff(i32.geu(to, p.limit!), () => f.returnNow(i32.const(1)));
      if (s.rank > 0) {
        const moved = k.int(0);
        for (let d = s.rank - 1; d >= 0; d--) {
          f.inc(moved, i32.mul(i32.remu(to, p[`n${d}`]!), p[`step${d}`]!));
          f.set(to, i32.divu(to, p[`n${d}`]!));
        }
        f.set(to, moved);
      }
      f.emit(copyOne(s.width, i32.add(p.y!, i32.mul(to, s.width)), i32.add(p.x!, i32.mul(e, s.width))));
    });
  },
  true,
);
/** `shapesOf`: the natural output and the one that is made. */
export const maxUnpoolWasm = (
  shapesOf: (call: Call) => { readonly natural: readonly number[]; readonly shape: readonly number[] },
): WasmKernel => ({
  name: 'unpool.indices',
  accepts: (call) => !call.inputs[2] || call.inputs[2].constant?.peek() != null,
  launch: (call) => {
    const { natural, shape } = shapesOf(call);
    const width = widthOf(call.inputs[0]!.dtype);
    const strides = stridesOf(shape);
    const same = String(natural) === String(shape);
    return {
      emit: unpoolEmitter,
      spec: { width, rank: same ? 0 : natural.length },
      args: [
        { input: 0 },
        { input: 1 },
        { output: 0 },
        sizeOf(call.inputs[0]!.shape),
        sizeOf(natural),
        sizeOf(shape) * width,
        ...(same ? [] : natural.flatMap((n, d) => [n, strides[d]!])),
      ],
    };
  },
});
