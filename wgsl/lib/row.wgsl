// Rows of n elements, read and written four at a time by the slots take, again and put (of row and first element). Invocations of a
// workgroup share a row, each with quads WG apart, the first HELD of which it keeps; or each has a row of its own.
var<workgroup> shared_f32: array<f32, WG>;
fn group_sum(v: f32, lid: u32) -> f32 {
  shared_f32[lid] = v;
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lid < half) { shared_f32[lid] += shared_f32[lid + half]; }
  }
  let all = workgroupUniformLoad(&shared_f32[0]);
  return all;
}
fn group_max(v: f32, lid: u32) -> f32 {
  shared_f32[lid] = v;
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lid < half) { shared_f32[lid] = max(shared_f32[lid], shared_f32[lid + half]); }
  }
  let all = workgroupUniformLoad(&shared_f32[0]);
  return all;
}

// Components beyond the row's end become `fill`.
fn within_row(v: vec4f, k: u32, n: u32, fill: f32) -> vec4f {
  return select(vec4f(fill), v, vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(n));
}

fn sum4(v: vec4f) -> f32 {
  return (v.x + v.y) + (v.z + v.w);
}

fn max4(v: vec4f) -> f32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn exp4(v: vec4f) -> vec4f {
  return exp2(v * 1.4426950408889634);
}
