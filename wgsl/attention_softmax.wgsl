// Rows of scores become probabilities, in place, an invocation a row. LOWEST_F32 is masked; a row of nothing else becomes zero.
//
// slot: fn sink(h: u32) -> f32

override WG: u32 = 64;

struct Uniforms { rows: u32, n: u32, queries: u32, heads: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y * groups.x * WG + id.x;
  if (row >= u.rows) { return; }
  let at = row * u.n;
  let extra = sink(row / u.queries % u.heads);
  var top = extra;
  for (var j = 0u; j < u.n; j++) { top = max(top, y[at + j]); }
  var sum = select(0.0, exp(extra - top), extra > LOWEST_F32);
  for (var j = 0u; j < u.n; j++) {
    let s = y[at + j];
    sum += select(0.0, exp(s - top), s > LOWEST_F32);
  }
  let scale = select(0.0, 1.0 / sum, sum > 0.0);
  for (var j = 0u; j < u.n; j++) {
    let s = y[at + j];
    y[at + j] = select(0.0, exp(s - top) * scale, s > LOWEST_F32);
  }
}
