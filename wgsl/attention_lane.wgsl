// Attention, a query of a head an invocation: scores are kept unnormalised, relative to the greatest so far. No workgroup memory, no barriers.
//
// slot: fn take_q(at: u32, d: u32) -> vec4f
// slot: fn take_k(at: u32, d: u32) -> vec4f
// slot: fn take_v(at: u32, d: u32) -> vec4f
// slot: fn put(at: u32, d: u32, v: vec4f)
// slot: fn adjust(s: f32, b: u32, h: u32, i: u32, j: u32) -> f32
// slot: fn sink(h: u32) -> f32
// slot: fn attend(b: u32, h: u32, i: u32)

override WG: u32 = 64;

struct Uniforms { heads: u32, share: u32, queries: u32, keys: u32, size: u32, value_size: u32, scale: f32, softcap: f32, q_lies: vec4u, k_lies: vec4u, v_lies: vec4u, y_lies: vec4u, count: u32 }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read> v: array<VStore>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y * groups.x * WG + id.x;
  if (row >= u.count) { return; }
  let who = query_at(row);
  attend(who.x, who.y, who.z);
}
