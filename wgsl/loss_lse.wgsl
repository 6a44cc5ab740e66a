// y[n][i] = the logarithm of the sum of exponentials of x[n][·][i]: an invocation a position.

override WG: u32 = 64;

struct Uniforms { count: u32, classes: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  let n = q / u.inner;
  let at = n * u.classes * u.inner + q - n * u.inner;
  var top = LOWEST_F32;
  for (var c = 0u; c < u.classes; c++) { top = max(top, load_x(at + c * u.inner)); }
  var sum = 0.0;
  for (var c = 0u; c < u.classes; c++) { sum += exp(load_x(at + c * u.inner) - top); }
  y[q] = top + log(sum);
}
