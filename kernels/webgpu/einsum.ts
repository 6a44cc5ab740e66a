/** Einsum: as a stack of matrix products where its labels allow it, else element by element. */
import { sizeOf, stridesOf } from '../../src/core/tensor.ts';
import { VALUE_TYPE } from '../../wgsl/assemble.ts';
import { make } from '../../wgsl/index.gen.ts';
import type { Call, GpuKernel } from '../define.ts';
import { type Contraction, contractionOf } from '../einsum-contraction.ts';
import { mergeDims } from '../merge.ts';
import { elemOf, isPacked } from './elem.ts';
import { grid } from './grid.ts';
import { type Matrix, productKind } from './product.ts';
import { productKernels } from './product-kernels.ts';
import type { Member } from './operands.ts';
import { writeSlot } from './unit.ts';

type EinsumCall = Call<{ readonly equation: string }>;
const contraction = (call: EinsumCall): Contraction =>
  contractionOf(
    call.attrs.equation,
    call.inputs.map((f) => f!.shape),
  );

/**
 * The stride of each label in operand `o`; 0 where it has none. Repeated labels walk the diagonal, dims of 1 stand
 * still.
 */
function stridesIn(c: Contraction, call: EinsumCall, o: number): (label: string) => number {
  const { shape } = call.inputs[o]!;
  const strides = stridesOf(shape);
  const of = new Map<string, number>();
  c.operands[o]!.forEach((l, i) => of.set(l, (of.get(l) ?? 0) + (shape[i] === 1 ? 0 : strides[i]!)));
  return (l) => of.get(l) ?? 0;
}

/** The one stride of labels that lie as one; null where they do not. */
function oneStride(
  labels: readonly string[],
  dims: Contraction['dims'],
  strides: readonly ((l: string) => number)[],
): readonly number[] | null {
  const merged = mergeDims(
    labels.map((l) => dims[l]!),
    strides.map((s) => labels.map(s)),
  );
  return merged.dims.length > 1 ? null : strides.map((_, i) => merged.strides[i]![0] ?? 0);
}

/** Rows from the operand `left`, columns from the other: the last labels of the output that only one of them has. */
function stack(
  call: EinsumCall,
  left: 0 | 1,
): {
  m: number;
  n: number;
  k: number;
  batch: readonly number[];
  a: Omit<Matrix, 'ref' | 'elem'>;
  b: Omit<Matrix, 'ref' | 'elem'>;
} | null {
  const c = contraction(call);
  const a = stridesIn(c, call, left);
  const b = stridesIn(c, call, 1 - left);
  const count = (ls: readonly string[]): number => sizeOf(ls.map((l) => c.dims[l]!));
  const rest = [...c.output];
  const take = (own: (l: string) => number, other: (l: string) => number): string[] => {
    const taken: string[] = [];
    while (rest.length > 0 && other(rest.at(-1)!) === 0 && oneStride([rest.at(-1)!, ...taken], c.dims, [own]) !== null)
      taken.unshift(rest.pop()!);
    return taken;
  };
  const columns = take(b, a);
  const rows = take(a, b);
  const inner = Object.keys(c.dims).filter((l) => !c.output.includes(l));
  const deep = oneStride(inner, c.dims, [a, b]);
  const across = oneStride(columns, c.dims, [b]);
  const down = oneStride(rows, c.dims, [a]);
  if (deep === null || across === null || down === null) return null;
  return {
    m: count(rows),
    n: count(columns),
    k: count(inner),
    batch: rest.map((l) => c.dims[l]!),
    a: { row: down[0]!, col: deep[0]!, batch: rest.map(a) },
    b: { row: deep[1]!, col: across[0]!, batch: rest.map(b) },
  };
}

const products = productKernels('einsum', (call: EinsumCall) => {
  const kind = productKind(elemOf(call.inputs[0]!.dtype));
  if (call.inputs.length !== 2 || kind === null) return null;
  const found = ([0, 1] as const)
    .map((left) => ({ left, s: stack(call, left) }))
    .filter((x) => x.s !== null)
    .sort((x, y) => y.s!.n - x.s!.n)[0];
  if (found === undefined) return null;
  const { left, s } = found;
  const matrix = (input: number, m: Omit<Matrix, 'ref' | 'elem'>): Matrix => ({
    ref: { input },
    elem: elemOf(call.inputs[input]!.dtype)!,
    ...m,
  });
  return {
    call,
    batch: s!.batch,
    m: s!.m,
    n: s!.n,
    k: s!.k,
    a: matrix(left, s!.a),
    b: matrix(1 - left, s!.b),
    fixedDepth: false,
    kind,
    alpha: 1,
    addends: [],
  };
});

/** Most labels, and most operands, of an element's loops. */
const MAX_LABELS = 12;

/** Each element sums over all labels that the output lacks. */
const element: GpuKernel<{ readonly equation: string }> = {
  name: 'einsum.element',
  accepts: (call, caps) => {
    const elem = elemOf(call.inputs[0]!.dtype);
    return (
      elem !== undefined &&
      /^(f32|i32|u32)$/.test(VALUE_TYPE[elem]) &&
      1 + call.inputs.length <= caps.limits.maxStorageBuffersPerShaderStage &&
      Object.keys(contraction(call).dims).length <= MAX_LABELS
    );
  },
  launch: (call, caps) => {
    const c = contraction(call);
    const elem = elemOf(call.inputs[0]!.dtype)!;
    const PER = isPacked(elem, caps) ? 4 : 1;
    const labels = Object.keys(c.dims);
    const inner = labels.filter((l) => !c.output.includes(l));
    const name = new Map(labels.map((l, n) => [l, `l${n}`]));
    const uniforms: Member[] = labels.map((l) => ({ name: name.get(l)!, type: 'u32', value: c.dims[l]! }));
    const at = call.inputs.map((_, o) => {
      const of = stridesIn(c, call, o);
      const parts = [...new Set(c.operands[o]!)]
        .filter((l) => of(l) !== 0)
        .map((l) => {
          uniforms.push({ name: `s${o}_${name.get(l)}`, type: 'u32', value: of(l) });
          return `${name.get(l)} * extra.s${o}_${name.get(l)}`;
        });
      return parts.join(' + ') || '0u';
    });
    const outer = [...c.output]
      .reverse()
      .map((l) => `let ${name.get(l)} = rest % extra.${name.get(l)}; rest = rest / extra.${name.get(l)};`)
      .join(' ');
    const loops = inner
      .map((l) => `for (var ${name.get(l)} = 0u; ${name.get(l)} < extra.${name.get(l)}; ${name.get(l)}++) {`)
      .join(' ');
    const count = sizeOf(c.shape);
    return {
      module: make,
      types: { y: elem, ...Object.fromEntries(call.inputs.map((_, o) => [`in${o}`, elem])) },
      params: { WG: 64, PER },
      uniforms: { count },
      slots: {
        write: writeSlot({ types: {}, text: '', PER }),
        value: `fn value(i: u32) -> Y { var rest = i; ${outer} var sum = Y(0); ${loops} sum += ${at.map((t, o) => `load_in${o}(${t})`).join(' * ')}; ${'}'.repeat(inner.length)} return sum; }`,
      },
      workgroups: grid(Math.ceil(count / PER), 64),
      bind: [{ output: 0 }],
      extra: call.inputs.map((_, o) => ({ name: `in${o}`, bind: { input: o } })),
      extraUniforms: uniforms,
    };
  },
};

export const einsumKernels: readonly GpuKernel[] = [...products.filter((k) => !k.name.endsWith('.any')), element];
