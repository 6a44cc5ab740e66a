// Mean and 1 / standard deviation of rows, an invocation a row: the statistics that a normalisation also gives when asked.
//
// slot: fn again(row: u32, k: u32) -> vec4f

override WG: u32 = 64;
override CENTRED: bool = true;

struct Uniforms { rows: u32, n: u32, inner: u32, epsilon: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> means: array<f32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y * groups.x * WG + id.x;
  if (row >= u.rows) { return; }
  var mean = 0.0;
  if (CENTRED) {
    var total = vec4f(0.0);
    for (var k = 0u; k < u.n; k += 4u) { total += within_row(again(row, k), k, u.n, 0.0); }
    mean = sum4(total) / f32(u.n);
  }
  var square = vec4f(0.0);
  for (var k = 0u; k < u.n; k += 4u) {
    let d = within_row(again(row, k) - mean, k, u.n, 0.0);
    square += d * d;
  }
  means[row] = mean;
  scales[row] = inverseSqrt(sum4(square) / f32(u.n) + u.epsilon);
}
