/** Shapes of rotary embeddings, and the rotation of one head. */
import { fail } from '../src/core/errors.ts';
import type { Fact } from '../src/core/graph.ts';

type Shape = readonly number[];
type Shaped = Pick<Fact, 'shape'> | null | undefined;
export interface RotaryAttrs {
  readonly interleaved: number;
  readonly num_heads: number;
  readonly rotary_embedding_dim: number;
  readonly scale?: number;
  readonly is_packed_batching?: number;
}
/** A rotation at known shapes: `turned` elements of each head of `size` are rotated in pairs. */
export interface RotaryShape {
  readonly batch: number;
  readonly steps: number;
  readonly heads: number;
  readonly size: number;
  readonly turned: number;
  readonly headsFirst: boolean;
  readonly perPosition: boolean;
}

/**
 * Inputs as RotaryEmbedding-23 orders them: X, cos_cache, sin_cache, position_ids. @throws attribute_invalid,
 * shape_mismatch
 */
export function rotaryShape(inputs: readonly Shaped[], a: RotaryAttrs): RotaryShape {
  const x = inputs[0]!.shape;
  const cos = inputs[1]!.shape;
  const sin = inputs[2]!.shape;
  const ids = inputs[3]?.shape ?? null;
  if (x.length !== 3 && x.length !== 4) fail('shape_mismatch', `the input has shape [${x}]; it must be of rank 3 or 4`);
  const headsFirst = x.length === 4;
  // Without num_heads the caches tell the size of a head, which is then rotated whole.
  const heads = headsFirst ? x[1]! : a.num_heads > 0 ? a.num_heads : x[2]! / (2 * cos[cos.length - 1]!);
  const size = headsFirst ? x[3]! : x[2]! / heads;
  const batch = x[0]!;
  const steps = headsFirst ? x[2]! : x[1]!;
  if (!Number.isInteger(heads) || heads < 1 || !Number.isInteger(size))
    fail('shape_mismatch', `an input of shape [${x}] does not divide into ${heads} heads`);
  const turned = a.rotary_embedding_dim || size;
  if (turned < 0 || turned > size || turned % 2 !== 0)
    fail('attribute_invalid', `rotary_embedding_dim ${turned} must be even and at most ${size}`);
  if (a.is_packed_batching) fail('attribute_invalid', 'is_packed_batching is not supported');
  if (String(cos) !== String(sin)) fail('shape_mismatch', `cos_cache [${cos}] and sin_cache [${sin}] differ`);
  const need: Shape = ids === null ? [batch, steps, turned / 2] : [cos[0]!, turned / 2];
  if (String(cos) !== String(need)) fail('shape_mismatch', `the caches have shape [${cos}], not [${need}]`);
  const perPosition = ids !== null && ids.length === 2;
  if (
    ids !== null &&
    (perPosition ? String(ids) !== String([batch, steps]) : ids.length > 1 || (ids.length === 1 && ids[0] !== 1))
  )
    fail('shape_mismatch', `position_ids have shape [${ids}], not [${[batch, steps]}] or [1]`);
  return { batch, steps, heads, size, turned, headsFirst, perPosition };
}

/**
 * Rotates in place the first `turned` elements of a head at `at` by the angles whose cosines and sines start at
 * `angle`.
 */
export function rotate(
  x: Float64Array,
  at: number,
  turned: number,
  cos: ArrayLike<number>,
  sin: ArrayLike<number>,
  angle: number,
  interleaved: boolean,
): void {
  const half = turned / 2;
  for (let i = 0; i < half; i++) {
    const p = interleaved ? at + 2 * i : at + i;
    const q = interleaved ? p + 1 : p + half;
    const a = x[p]!;
    const b = x[q]!;
    const c = cos[angle + i]!;
    const s = sin[angle + i]!;
    x[p] = c * a - s * b;
    x[q] = s * a + c * b;
  }
}

/** A position that the caches have. @throws value_invalid */
export const positionIn = (position: number, rows: number): number =>
  position >= 0 && position < rows
    ? position
    : fail('value_invalid', `position ${position} is outside a cache of ${rows} positions`);
