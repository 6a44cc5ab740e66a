// y[z] = the determinant of matrix z of n rows, by elimination with row pivots in `work`: an invocation a matrix.

override WG: u32 = 64;

struct Uniforms { count: u32, n: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> work: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn determinant(start: u32) -> f32 {
  for (var k = 0u; k < u.n * u.n; k++) { work[start + k] = load_x(start + k); }
  var det = 1.0;
  for (var k = 0u; k < u.n; k++) {
    var pivot = k;
    for (var r = k + 1u; r < u.n; r++) { if (abs(work[start + r * u.n + k]) > abs(work[start + pivot * u.n + k])) { pivot = r; } }
    let top = work[start + pivot * u.n + k];
    if (top == 0.0) { return 0.0; }
    if (pivot != k) {
      det = -det;
      for (var c = 0u; c < u.n; c++) {
        let v = work[start + k * u.n + c];
        work[start + k * u.n + c] = work[start + pivot * u.n + c];
        work[start + pivot * u.n + c] = v;
      }
    }
    det *= top;
    for (var r = k + 1u; r < u.n; r++) {
      let factor = work[start + r * u.n + k] / top;
      for (var c = k + 1u; c < u.n; c++) { work[start + r * u.n + c] -= factor * work[start + k * u.n + c]; }
    }
  }
  return det;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  y[q] = determinant(q * u.n * u.n);
}
