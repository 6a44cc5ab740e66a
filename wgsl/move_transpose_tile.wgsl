// y[b][c][r] = x[b][r][c] for words, a 32 x 32 tile a workgroup, through workgroup memory so that both sides are read and written in
// order. The tile's rows are 33 apart, so that a column lies in 32 banks.

struct Uniforms { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> u: Uniforms;

var<workgroup> tile: array<u32, 1056>;

@compute @workgroup_size(32, 8)
fn main(@builtin(local_invocation_id) lid: vec3u, @builtin(workgroup_id) wg: vec3u) {
  let base = wg.z * u.rows * u.columns;
  let column = wg.x * 32u + lid.x;
  for (var k = 0u; k < 4u; k++) {
    let row = wg.y * 32u + lid.y + k * 8u;
    if (row < u.rows && column < u.columns) { tile[(lid.y + k * 8u) * 33u + lid.x] = x[base + row * u.columns + column]; }
  }
  workgroupBarrier();
  let row = wg.y * 32u + lid.x;
  for (var k = 0u; k < 4u; k++) {
    let out = wg.x * 32u + lid.y + k * 8u;
    if (row < u.rows && out < u.columns) { y[base + out * u.rows + row] = tile[lid.x * 33u + lid.y + k * 8u]; }
  }
}
