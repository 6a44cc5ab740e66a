/**
 * Half-precision forms of float32 kernels: inputs are widened first, the outputs narrowed last; sums stay in float32
 * all the way.
 */
import type { DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import { sizeOf } from '../../src/core/tensor.ts';
import type { Call, Ref, WasmEmitter, WasmKernel, WasmLaunch } from '../define.ts';
import { i32 } from './asm.ts';
import { load4, loadSplat, store1, store4, widthOf } from './elem.ts';
import { context } from './float.ts';
import { i32s, params } from './gemm-core.ts';
import { kernelModule } from './module.ts';

interface Spec {
  readonly from: DType;
  readonly to: DType;
}
/** run(src, dst, n) */
const convertModule: WasmEmitter<Spec> = {
  name: 'convert',
  build: (s, caps) =>
    kernelModule('convert', i32s(3), caps, (f, m) => {
      const { src, dst, n } = params(f, 'src', 'dst', 'n');
      const c = context(f, m, caps.fma);
      const move = (k: number): void => {
        f.inc(src, k * widthOf(s.from));
        f.inc(dst, k * widthOf(s.to));
      };
      f.times(i32.shru(n, 2), () => {
        f.emit(store4(c, s.to, dst, load4(c, s.from, src)));
        move(4);
      });
      f.times(i32.and(n, 3), () => {
        f.emit(store1(c, s.to, dst, loadSplat(c, s.from, src)));
        move(1);
      });
    }),
};
const convert = (from: Ref, to: Ref, spec: Spec, shape: readonly number[]): WasmLaunch<Spec> => ({
  emit: convertModule,
  spec,
  args: [from, to, sizeOf(shape)],
  split: {
    items: 2,
    grain: 16,
    moves: [
      [0, widthOf(spec.from)],
      [1, widthOf(spec.to)],
    ],
    cost: 0.5,
  },
});

const isHalf = (d: DType | undefined): boolean => d === 'float16' || d === 'bfloat16';
const single = (f: Fact | null): Fact | null => (f && isHalf(f.dtype) ? { ...f, dtype: 'float32' } : f);
const widened = (call: Call): Call => ({ ...call, inputs: call.inputs.map(single), outputs: call.outputs.map(single) });

/**
 * The same kernel for float16 and bfloat16. Weights that it packs are widened by the packer; operands of its epilogue
 * are read as they are.
 */
export const inHalf = (kernel: WasmKernel): WasmKernel => {
  /** Numbers of the scratch areas that hold the kernel's own, then widened inputs, then outputs still wide. */
  const areas = (
    call: Call,
    own: number,
  ): { inputs: (number | null)[]; outputs: (number | null)[]; bytes: number[] } => {
    const bytes: number[] = [];
    const place = (f: Fact | null): number | null =>
      f && isHalf(f.dtype) ? own + bytes.push(4 * sizeOf(f.shape) + 16) - 1 : null;
    return { inputs: call.inputs.map(place), outputs: call.outputs.map(place), bytes };
  };
  return {
    name: `${kernel.name}_half`,
    accepts: (call, caps) =>
      call.inputs.some((f) => isHalf(f?.dtype)) && (kernel.accepts?.(widened(call), caps) ?? true),
    scratch: (call, caps) => {
      const own = kernel.scratch?.(widened(call), caps) ?? [];
      return [...own, ...areas(call, own.length).bytes];
    },
    launch: (call, caps) => {
      const wide = widened(call);
      const a = areas(call, (kernel.scratch?.(wide, caps) ?? []).length);
      const made = kernel.launch(wide, caps);
      const launches: readonly WasmLaunch[] = Array.isArray(made) ? made : [made as WasmLaunch];
      const read = new Set<number>();
      const moved = (arg: Ref | number | { readonly f32: number }): typeof arg => {
        if (typeof arg === 'number') return arg;
        if ('input' in arg && !arg.pack && a.inputs[arg.input] != null) {
          read.add(arg.input);
          return { scratch: a.inputs[arg.input]! };
        }
        return 'output' in arg && a.outputs[arg.output] != null ? { scratch: a.outputs[arg.output]! } : arg;
      };
      const inner = launches.map((l) => ({ ...l, args: l.args.map(moved) }));
      return [
        ...[...read].map((i) =>
          convert(
            { input: i },
            { scratch: a.inputs[i]! },
            { from: call.inputs[i]!.dtype, to: 'float32' },
            call.inputs[i]!.shape,
          ),
        ),
        ...inner,
        ...call.outputs.flatMap((o, i) =>
          a.outputs[i] != null
            ? [convert({ scratch: a.outputs[i]! }, { output: i }, { from: 'float32', to: o!.dtype }, o!.shape)]
            : [],
        ),
      ];
    },
  };
};
/** Kernels and their half-precision forms. */
export const withHalf = (kernels: readonly WasmKernel[]): readonly WasmKernel[] => [...kernels, ...kernels.map(inHalf)];
