// Draws one of n elements of each row by the softmax of what they hold: a workgroup a row. Only the `most` greatest are drawn from, and of those
// the fewest that together have `share` of the probability. Where the bound lies is found bit by bit; ties with it are drawn from, too.

override WG: u32 = 256;
// Words of an answer: 2 for integers of 64 bits.
override STEP: u32 = 1;

struct Uniforms { n: u32, stride: u32, offset: u32, most: u32, share: f32, scale: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> draws: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> u: Uniforms;

var<workgroup> parts: array<f32, WG>;

// Unsigned integers in the order of the floats, NaN being least.
fn rank_of(v: f32) -> u32 {
  let w = bitcast<u32>(v);
  return select(select(w | 0x80000000u, ~w, (w & 0x80000000u) != 0u), 0u, is_nan(v));
}

fn weight(v: f32, top: f32) -> f32 {
  return select(exp2((v - top) * u.scale), 0.0, is_nan(v));
}

// Of the elements from `bound` on: how many there are, or (`mass`) what they weigh.
fn above(start: u32, bound: u32, top: f32, mass: bool, lid: u32) -> f32 {
  var all = 0.0;
  for (var i = lid; i < u.n; i += WG) {
    let v = load_x(start + i);
    if (rank_of(v) >= bound) { all += select(1.0, weight(v, top), mass); }
  }
  return group_sum(all, lid);
}

// The greatest bound with at least `wanted` above it that is not below `least`.
fn bound_of(start: u32, least: u32, wanted: f32, top: f32, mass: bool, lid: u32) -> u32 {
  var bound = 0u;
  for (var bit = 0u; bit < 32u; bit++) {
    let next = bound | (0x80000000u >> bit);
    if (above(start, max(next, least), top, mass, lid) >= wanted) { bound = next; }
  }
  return max(bound, least);
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u) {
  let start = u.offset + wg.x * u.stride;
  var greatest = LOWEST_F32;
  for (var i = lid; i < u.n; i += WG) {
    let v = load_x(start + i);
    greatest = max(greatest, select(v, LOWEST_F32, is_nan(v)));
  }
  let top = group_max(greatest, lid);
  var bound = 1u;
  if (u.most < u.n) { bound = bound_of(start, bound, f32(u.most), top, false, lid); }
  if (u.share < 1.0) { bound = bound_of(start, bound, u.share * above(start, bound, top, true, lid), top, true, lid); }
  // Invocations take elements next to each other, so that they are drawn in their order.
  let chunk = (u.n + WG - 1u) / WG;
  let first = min(lid * chunk, u.n);
  let end = min(first + chunk, u.n);
  var own = 0.0;
  for (var i = first; i < end; i++) {
    let v = load_x(start + i);
    if (rank_of(v) >= bound) { own += weight(v, top); }
  }
  parts[lid] = own;
  workgroupBarrier();
  var total = 0.0;
  for (var j = 0u; j < WG; j++) { total += parts[j]; }
  let goal = draws[wg.x] * total;
  var owner = 0u;
  var reached = 0.0;
  var before = 0.0;
  for (var j = 0u; j < WG; j++) {
    if (parts[j] > 0.0 && reached <= goal) {
      owner = j;
      before = reached;
    }
    reached += parts[j];
  }
  if (lid != owner) { return; }
  var chosen = 0u;
  for (var i = first; i < end; i++) {
    let v = load_x(start + i);
    let w = weight(v, top);
    if (rank_of(v) >= bound && w > 0.0) {
      if (before <= goal) { chosen = i; }
      before += w;
    }
  }
  y[wg.x * STEP] = chosen;
  if (STEP == 2u) { y[wg.x * STEP + 1u] = 0u; }
}
