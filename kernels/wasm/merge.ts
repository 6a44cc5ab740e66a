/**
 * The same walk over elements in as few loops as can be: dims of 1 are dropped, and neighbours over which every operand moves evenly become one.
 * At least one dim is left. Strides are per operand and dim, in any unit.
 */
export function mergeDims(shape: readonly number[], strides: readonly (readonly number[])[]): { dims: number[]; strides: number[][] } {
  const dims: number[] = [];
  const out: number[][] = strides.map(() => []);
  shape.forEach((n, d) => {
    if (n === 1) return;
    const top = dims.length - 1;
    if (top >= 0 && strides.every((s, i) => out[i]![top] === s[d]! * n)) {
      dims[top]! *= n;
      strides.forEach((s, i) => { out[i]![top] = s[d]!; });
    } else {
      dims.push(n);
      strides.forEach((s, i) => out[i]!.push(s[d]!));
    }
  });
  if (dims.length === 0) { dims.push(1); for (const s of out) s.push(1); }
  return { dims, strides: out };
}
