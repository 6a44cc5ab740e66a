/** A walk over the elements of operands at once: how many along each dim, and each operand's strides, in any unit. */
interface Walk {
  readonly dims: number[];
  readonly strides: number[][];
}

/**
 * The same walk in as few dims as can be: dims of 1 are dropped, and neighbours over which every operand moves evenly
 * become one. Of a single element, none is left. `batch`: the first dim counts images or rows, and is kept where it is
 * 1 as it would be where it is more, if an operand moves with it.
 */
export function mergeDims(shape: readonly number[], strides: readonly (readonly number[])[], batch = false): Walk {
  const dims: number[] = [];
  const out: number[][] = strides.map(() => []);
  shape.forEach((n, d) => {
    if (n === 1 && !(batch && d === 0 && strides.some((s) => s[0] !== 0))) return;
    const top = dims.length - 1;
    if (top >= 0 && strides.every((s, i) => out[i]![top] === s[d]! * n)) {
      dims[top]! *= n;
      strides.forEach((s, i) => {
        out[i]![top] = s[d]!;
      });
    } else {
      dims.push(n);
      strides.forEach((s, i) => out[i]!.push(s[d]!));
    }
  });
  return { dims, strides: out };
}

/** `mergeDims` for loops, of which there is at least one. */
export function mergeLoops(shape: readonly number[], strides: readonly (readonly number[])[]): Walk {
  const merged = mergeDims(shape, strides);
  return merged.dims.length > 0 ? merged : { dims: [1], strides: strides.map(() => [1]) };
}
