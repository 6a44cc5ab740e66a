// loss[q] = minus the weighted logarithmic probability of target q, share[q] = its weight; both 0 where the target is ignored. A target that
// is no class sets `fault`.
//
// slot: fn class_of(q: u32) -> i32
// slot: fn weight(c: u32) -> f32
// slot: fn log_probability(at: u32, q: u32) -> f32

override WG: u32 = 64;
override IGNORES: bool = false;

struct Uniforms { count: u32, classes: u32, inner: u32, ignored: i32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> targets: array<TargetsStore>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> share: array<f32>;
@group(0) @binding(4) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  let c = class_of(q);
  loss[q] = 0.0;
  share[q] = 0.0;
  if (IGNORES && c == u.ignored) { return; }
  if (c < 0 || c >= i32(u.classes)) { atomicOr(&fault[0], 1u); return; }
  let n = q / u.inner;
  let w = weight(u32(c));
  loss[q] = -w * log_probability((n * u.classes + u32(c)) * u.inner + q - n * u.inner, q);
  share[q] = w;
}
