// y[i] = value(i) for every element; each invocation makes four neighbours, so that any storage type is written by whole words.
//
// slot: fn value(i: u32) -> Y

override WG: u32 = 64;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<YStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let quad = id.y * groups.x * WG + id.x;
  let i = quad * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  store4_y(quad, value(i), value(min(i + 1u, last)), value(min(i + 2u, last)), value(min(i + 3u, last)));
}
