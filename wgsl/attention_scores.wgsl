// y[b][h][i][j]: the scaled product of query i and key j, then capped (from STAGE 1 on) and adjusted (2). Four keys an invocation.
// A tensor of heads is described by where it begins and the strides of batch, head and row.
//
// slot: fn take_q(at: u32, d: u32) -> vec4f
// slot: fn take_k(at: u32, d: u32) -> vec4f
// slot: fn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32

override WG: u32 = 64;
override STAGE: u32 = 2;

struct Uniforms { count: u32, heads: u32, share: u32, queries: u32, keys: u32, size: u32, scale: f32, softcap: f32, q_lies: vec4u, k_lies: vec4u }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn score(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {
  var v = s * u.scale;
  if (STAGE > 0u && u.softcap != 0.0) { v = u.softcap * safe_tanh(v / u.softcap); }
  if (STAGE > 1u) { v = adjust(v, b, h, i, j); }
  return v;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let e = id.y * groups.x * WG + id.x;
  if (e >= u.count) { return; }
  let across = (u.keys + 3u) / 4u;
  let row = e / across;
  let j = (e - row * across) * 4u;
  let who = query_at(row);
  let b = who.x;
  let h = who.y;
  let i = who.z;
  let last = u.keys - 1u;
  let query = row_at(u.q_lies, b, h, i);
  let start = row_at(u.k_lies, b, h / u.share, 0u);
  let at = vec4u(start) + min(vec4u(j) + vec4u(0u, 1u, 2u, 3u), vec4u(last)) * u.k_lies.w;
  var s = vec4f(0.0);
  for (var d = 0u; d < u.size; d += 4u) {
    let a = take_q(query, d);
    s += vec4f(dot(a, take_k(at.x, d)), dot(a, take_k(at.y, d)), dot(a, take_k(at.z, d)), dot(a, take_k(at.w, d)));
  }
  let to = row * u.keys + j;
  y[to] = score(s.x, b, h, i, j);
  if (j + 1u < u.keys) { y[to + 1u] = score(s.y, b, h, i, j + 1u); }
  if (j + 2u < u.keys) { y[to + 2u] = score(s.z, b, h, i, j + 2u); }
  if (j + 3u < u.keys) { y[to + 3u] = score(s.w, b, h, i, j + 3u); }
}
