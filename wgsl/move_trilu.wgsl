// The upper or lower triangle of each of x's matrices, from diagonal `diagonal()` on; elements outside it are 0.
//
// slot: fn write(q: u32, last: u32)
// slot: fn diagonal() -> i32

override WG: u32 = 64;
override PER: u32 = 1;
override UPPER: bool = true;

struct Uniforms { count: u32, rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let line = i / u.columns;
  let edge = bitcast<i32>(line % u.rows) + clamp(diagonal(), -1073741824, 1073741823);
  let column = bitcast<i32>(i - line * u.columns);
  if (select(column > edge, column < edge, UPPER)) { return Y(); }
  return load_x(i);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
