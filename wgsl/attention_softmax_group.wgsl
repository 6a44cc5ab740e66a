// Rows of scores become probabilities, in place, a workgroup a row. LOWEST_F32 is masked; a row of nothing else becomes zero.
//
// slot: fn sink(h: u32) -> f32

override WG: u32 = 128;

struct Uniforms { rows: u32, n: u32, queries: u32, heads: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let row = wg.y * groups.x + wg.x;
  if (row >= u.rows) { return; }
  let at = row * u.n;
  let extra = sink(row / u.queries % u.heads);
  var most = extra;
  for (var j = lid; j < u.n; j += WG) { most = max(most, y[at + j]); }
  let top = group_max(most, lid);
  var part = select(0.0, exp(extra - top), lid == 0u && extra > LOWEST_F32);
  for (var j = lid; j < u.n; j += WG) {
    let s = y[at + j];
    part += select(0.0, exp(s - top), s > LOWEST_F32);
  }
  let sum = group_sum(part, lid);
  let scale = select(0.0, 1.0 / sum, sum > 0.0);
  for (var j = lid; j < u.n; j += WG) {
    let s = y[at + j];
    y[at + j] = select(0.0, exp(s - top) * scale, s > LOWEST_F32);
  }
}
