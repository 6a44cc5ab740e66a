// The greatest element of each window; four outputs an invocation.
//
// slot: fn put(i: u32, v: vec4<Value>, left: u32)

override WG: u32 = 64;
override K0: u32 = 1;
override K1: u32 = 1;
override K2: u32 = 1;

struct Uniforms { count: u32, size: vec4i, out: vec4u, strides: vec4i, dilations: vec4i, pads: vec4i, ends: vec4i }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(o: u32) -> Value { return greatest_in(o).value; }

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4<Value>(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
