// Attention by tiles of queries and keys that never leave workgroup memory: after FlashAttention-2 (Dao, 2023). 8 invocations share the
// rows of R queries; scores are formed C keys each, and kept unnormalised, relative to the greatest so far, until the end.
//
// slot: fn take_q(at: u32, d: u32) -> vec4f
// slot: fn take_k(at: u32, d: u32) -> vec4f
// slot: fn take_v(at: u32, d: u32) -> vec4f
// slot: fn put(at: u32, d: u32, v: vec4f)
// slot: fn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32
// slot: fn sink(h: u32) -> f32
// slot: fn attend(b: u32, h: u32, first: u32, lid: u32)

override BQ: u32 = 64;
override BC: u32 = 32;
override QUADS: u32 = 16;

struct Uniforms { heads: u32, share: u32, queries: u32, keys: u32, size: u32, value_size: u32, scale: f32, softcap: f32, q_lies: vec4u, k_lies: vec4u, v_lies: vec4u, y_lies: vec4u }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read> v: array<VStore>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<uniform> u: Uniforms;

var<workgroup> held: array<vec4f, BC * QUADS>;
var<workgroup> weights: array<f32, BQ * BC>;
var<workgroup> tops: array<f32, BQ * 8>;

fn score(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32 {
  var w = s * u.scale;
  if (u.softcap != 0.0) { w = u.softcap * safe_tanh(w / u.softcap); }
  return select(LOWEST_F32, adjust(w, b, h, min(i, u.queries - 1u), min(j, u.keys - 1u)), j < u.keys);
}

// What a key weighs, relative to the greatest score; a masked one nothing.
fn weigh(s: f32, top: f32) -> f32 { return select(0.0, exp2((s - top) * 1.4426950408889634), s > LOWEST_F32); }

fn hold_k(b: u32, h: u32, j0: u32, lid: u32) {
  let quads = u.size >> 2u;
  for (var e = lid; e < BC * quads; e += 128u) {
    let r = e / quads;
    held[r * QUADS + e - r * quads] = take_k(row_at(u.k_lies, b, h, min(j0 + r, u.keys - 1u)), (e - r * quads) * 4u);
  }
}

fn hold_v(b: u32, h: u32, j0: u32, lid: u32) {
  let quads = u.value_size >> 2u;
  for (var e = lid; e < BC * quads; e += 128u) {
    let r = e / quads;
    held[r * QUADS + e - r * quads] = take_v(row_at(u.v_lies, b, h, min(j0 + r, u.keys - 1u)), (e - r * quads) * 4u);
  }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32) {
  attend(wg.z, wg.y, wg.x * BQ, lid);
}
