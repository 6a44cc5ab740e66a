// y[b][h][n][d] = value(b, h, n, d): heads moved to where attention reads them, behind those that a cache holds.
//
// slot: fn write(q: u32, last: u32)
// slot: fn value(b: u32, h: u32, n: u32, d: u32) -> f32

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, heads: u32, rows: u32, size: u32, past: u32, x_lies: vec4u }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
