// Where output element i's elements begin, and how far its element k is from there; by the uniforms of the reduce modules.
fn reduce_base(i: u32) -> u32 {
  var rest = i;
  var at = 0u;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let next = rest / dim;
    at += (rest - next * dim) * u.strides[k >> 2u][k & 3u];
    rest = next;
  }
  return at;
}

fn reduce_offset(i: u32) -> u32 {
  if (DEPTH == 1u) { return i * u.steps[0].x; }
  var rest = i;
  var at = 0u;
  for (var k = 0u; k < DEPTH; k++) {
    let dim = u.depths[k >> 2u][k & 3u];
    let next = rest / dim;
    at += (rest - next * dim) * u.steps[k >> 2u][k & 3u];
    rest = next;
  }
  return at;
}

// (greatest, sum of exponentials relative to it), of two sets.
fn merge_exponentials(a: vec2f, b: vec2f) -> vec2f {
  let m = nan_max(a.x, b.x);
  return vec2f(m, a.y * exp(select(a.x - m, 0.0, a.x == m)) + b.y * exp(select(b.x - m, 0.0, b.x == m)));
}

// What the invocations of a workgroup have, merged; for the first of them.
var<workgroup> partial: array<A, WG>;
fn group_merged(a: A, lid: u32) -> A {
  partial[lid] = a;
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lid < half) { partial[lid] = merge(partial[lid], partial[lid + half]); }
  }
  return partial[0];
}
