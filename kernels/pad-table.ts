/** Which element along an axis of `dim` each of the padded axis's elements is; -1: the constant. */
export function padTable(dim: number, before: number, after: number, mode: string): Int32Array {
  const first = Math.max(0, -before);
  const n = dim - first + Math.min(0, after);
  const lead = Math.max(0, before);
  const period = Math.max(1, 2 * (n - 1));
  return Int32Array.from({ length: dim + before + after }, (_, j) => {
    const i = j - lead;
    if (i >= 0 && i < n) return first + i;
    if (mode === 'constant') return -1;
    if (mode === 'edge') return first + (i < 0 ? 0 : n - 1);
    if (mode === 'wrap') return first + (((i % n) + n) % n);
    const back = ((i % period) + period) % period;
    return first + (n === 1 ? 0 : back < n ? back : period - back);
  });
}
