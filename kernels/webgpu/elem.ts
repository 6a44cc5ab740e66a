/** How dtypes lie in GPU memory. */
import { BITS, type DType } from '../../src/core/dtype.ts';
import type { Fact } from '../../src/core/graph.ts';
import type { GpuCaps } from '../../src/core/plan.ts';
import type { Elem } from '../../wgsl/assemble.ts';

const ELEM: Readonly<Partial<Record<DType, Elem>>> = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  int8: 'i8',
  int16: 'i16',
  int32: 'i32',
  int64: 'i64',
  uint8: 'u8',
  uint16: 'u16',
  uint32: 'u32',
  uint64: 'u64',
  bool: 'bool',
  int4: 'i4',
  uint4: 'u4',
};
/**
 * The element type in which a dtype can be computed on the GPU; undefined for those that have none (float64, float8,
 * strings, complex).
 */
export const elemOf = (d: DType): Elem | undefined => ELEM[d];

/** Bytes of an element as movement kernels see it; 0 for types that they cannot move (packed below a byte, strings). */
export const widthOf = (d: DType): number => (BITS[d] >= 8 ? BITS[d] / 8 : 0);

/** Elements of this type share a 32-bit word, so that a shader can only store whole words of them. */
export const isPacked = (e: Elem, caps: GpuCaps): boolean =>
  e !== 'f32' && e !== 'i32' && e !== 'u32' && e !== 'i64' && e !== 'u64' && !(e === 'f16' && caps.f16);

/** Elements in a 32-bit word. */
export const perWord = (e: Elem): number =>
  e === 'i4' || e === 'u4'
    ? 8
    : e === 'i8' || e === 'u8' || e === 'bool'
      ? 4
      : e === 'f16' || e === 'bf16' || e === 'i16' || e === 'u16'
        ? 2
        : 1;

/** A float type that is computed as f32, or an input left out. */
export const isReal = (f: Fact | null | undefined): boolean =>
  !f || f.dtype === 'float32' || f.dtype === 'float16' || f.dtype === 'bfloat16';
export const realElem = (f: Fact): Elem => elemOf(f.dtype)!;
