// Attention of few queries: workgroups share the keys, WG each, and every workgroup serves ROWS rows (heads of a group times queries), so that
// keys and values are read once for all of them. y[workgroup][row] holds an unnormalised sum of `quads` fours and (greatest score, sum of weights).
//
// slot: fn take_q(at: u32, d: u32) -> vec4f
// slot: fn take_k(at: u32, d: u32) -> vec4f
// slot: fn take_v(at: u32, d: u32) -> vec4f
// slot: fn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32
// slot: fn part(b: u32, g: u32, row0: u32, j0: u32, to: u32, lid: u32)

override WG: u32 = 128;
override ROWS: u32 = 4;
override QUADS: u32 = 16;

struct Uniforms { heads: u32, share: u32, queries: u32, keys: u32, size: u32, value_size: u32, scale: f32, softcap: f32, q_lies: vec4u, k_lies: vec4u, v_lies: vec4u, y_lies: vec4u, blocks: u32, chunks: u32 }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read> v: array<VStore>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(4) var<uniform> u: Uniforms;

var<workgroup> queries: array<vec4f, ROWS * QUADS>;
var<workgroup> weights: array<f32, ROWS * WG>;
var<workgroup> sums: array<vec4f, WG>;

fn score(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {
  var w = s * u.scale;
  if (u.softcap != 0.0) { w = u.softcap * safe_tanh(w / u.softcap); }
  return select(LOWEST_F32, adjust(w, b, h, i, min(j, u.keys - 1u)), j < u.keys);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let g = wg.y / u.blocks;
  let block = wg.y - g * u.blocks;
  part(wg.z, g, block * ROWS, wg.x * WG, ((wg.z * u.heads / u.share * u.blocks + wg.y) * u.chunks + wg.x) * ROWS * (QUADS + 1u), lid);
}
