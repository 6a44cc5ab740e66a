/** Dispatch sizes. */

const MAX = 65535;

/**
 * Workgroups for `invocations` invocations of `WG` each, in two dimensions where one does not reach. A shader finds its
 * number by
 * `id.y * groups.x * WG + id.x` (`num_workgroups`, `global_invocation_id`), and must leave those beyond the end alone.
 */
export const grid = (invocations: number, WG: number): [number, number, number] => groups(Math.ceil(invocations / WG));

/** `count` workgroups, in two dimensions where one does not reach; a shader's own is `wg.y * groups.x + wg.x`. */
export function groups(count: number): [number, number, number] {
  if (count <= MAX) return [Math.max(count, 1), 1, 1];
  const y = Math.ceil(count / MAX);
  return [Math.ceil(count / y), y, 1];
}
