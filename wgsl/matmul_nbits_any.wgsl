// As matmul_nbits for any storage; four outputs in memory an invocation, each by itself.
//
// slot: fn put(i: u32, v: vec4f, left: u32)
// slot: fn weight(n: u32, k: u32) -> f32

override WG: u32 = 64;
override N: u32 = 4;
override K: u32 = 16;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let row = i / N;
  let n = i - row * N;
  var sum = 0.0;
  for (var k = 0u; k < K; k++) { sum += load_a(row * K + k) * weight(n, k); }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4f(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
