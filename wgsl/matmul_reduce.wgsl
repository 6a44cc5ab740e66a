// y = the sum of the slices of a product, in their order; four elements an invocation.
//
// slot: fn put(i: u32, v: vec4f, left: u32)

override WG: u32 = 64;
override SLICES: u32 = 2;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  var v = vec4f(0.0);
  for (var s = 0u; s < SLICES; s++) {
    let o = s * u.count;
    let last = u.count - 1u;
    v += vec4f(a[o + i], a[o + min(i + 1u, last)], a[o + min(i + 2u, last)], a[o + min(i + 3u, last)]);
  }
  put(i, v, u.count - i);
}
