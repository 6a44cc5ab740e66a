// y[k][c] = (x[indices[k]][c] - zero) scale, of a matrix whose rows have a scale for each block of columns; a row that is not there is 0. Four
// elements an invocation.
//
// slot: fn put(i: u32, v: vec4f, left: u32)
// slot: fn row_of(k: u32) -> i32
// slot: fn beyond_zero(row: u32, column: u32) -> f32

override WG: u32 = 64;

struct Uniforms { count: u32, rows: u32, columns: u32, block: u32, blocks: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> scale: array<ScaleStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let k = i / u.columns;
  let column = i - k * u.columns;
  let given = row_of(k);
  let row = select(given, given + i32(u.rows), given < 0);
  if (row < 0 || row >= i32(u.rows)) { return 0.0; }
  return beyond_zero(u32(row), column) * load_scale(u32(row) * u.blocks + column / u.block);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4f(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
