// Attention, a query of a head a workgroup, for few queries and at most HELD keys: their weights are held in workgroup memory.
//
// slot: fn take_q(at: u32, d: u32) -> vec4f
// slot: fn take_k(at: u32, d: u32) -> vec4f
// slot: fn take_v(at: u32, d: u32) -> vec4f
// slot: fn put(at: u32, d: u32, v: vec4f)
// slot: fn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32
// slot: fn sink(h: u32) -> f32

override WG: u32 = 64;
override HELD: u32 = 1024;
override LANES: u32 = 16;

struct Uniforms { heads: u32, share: u32, queries: u32, keys: u32, size: u32, value_size: u32, scale: f32, softcap: f32, q_lies: vec4u, k_lies: vec4u, v_lies: vec4u, y_lies: vec4u }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read> v: array<VStore>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<uniform> u: Uniforms;

var<workgroup> weights: array<f32, HELD>;
var<workgroup> sums: array<vec4f, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = wg.x;
  let h = wg.y;
  let b = wg.z;
  let g = h / u.share;
  let query = row_at(u.q_lies, b, h, i);
  let keys = row_at(u.k_lies, b, g, 0u);
  let extra_logit = sink(h);
  var top = extra_logit;
  for (var j = lid; j < u.keys; j += WG) {
    var s = 0.0;
    for (var d = 0u; d < u.size; d += 4u) { s += dot(take_q(query, d), take_k(keys + j * u.k_lies.w, d)); }
    s *= u.scale;
    if (u.softcap != 0.0) { s = u.softcap * safe_tanh(s / u.softcap); }
    s = adjust(s, b, h, i, j);
    weights[j] = s;
    top = max(top, s);
  }
  top = group_max(top, lid);
  var sum = 0.0;
  for (var j = lid; j < u.keys; j += WG) {
    let s = weights[j];
    let p = select(0.0, exp(s - top), s > LOWEST_F32);
    weights[j] = p;
    sum += p;
  }
  sum = group_sum(sum, lid) + select(0.0, exp(extra_logit - top), extra_logit > LOWEST_F32);
  let by = select(0.0, 1.0 / sum, sum > 0.0);
  let lane = lid % LANES;
  let values = row_at(u.v_lies, b, g, 0u);
  let to = row_at(u.y_lies, b, h, i);
  for (var d0 = 0u; d0 < u.value_size; d0 += LANES * 4u) {
    let d = d0 + lane * 4u;
    var o = vec4f(0.0);
    if (d < u.value_size) {
      for (var j = lid / LANES; j < u.keys; j += WG / LANES) {
        let p = weights[j];
        if (p != 0.0) { o += p * take_v(values + j * u.v_lies.w, d); }
      }
    }
    sums[lid] = o;
    workgroupBarrier();
    if (lid < LANES && d < u.value_size) {
      for (var t = lid + LANES; t < WG; t += LANES) { o += sums[t]; }
      put(to, d, o * by);
    }
    workgroupBarrier();
  }
}
