// y = (x - zero point) scale; four elements an invocation.
//
// slot: fn put(i: u32, v: vec4f, left: u32)
// slot: fn scale_at(i: u32) -> u32
// slot: fn beyond_zero(i: u32, j: u32) -> f32

override WG: u32 = 64;

struct Uniforms { count: u32, inner: u32, n: u32, size: u32, blocks: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> scale: array<ScaleStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let j = scale_at(i);
  return beyond_zero(i, j) * load_scale(j);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4f(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
