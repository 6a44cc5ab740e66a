// Mean (OP 0), greatest (1) or p-norm (2) of rows of n elements, a workgroup a row.
//
// slot: fn finish(i: u32, v: f32)

override WG: u32 = 64;
override OP: u32 = 0;
override P: f32 = 2;

struct Uniforms { rows: u32, n: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = wg.y * groups.x + wg.x;
  if (row >= u.rows) { return; }
  let start = row * u.n;
  var total = select(0.0, from_bits(0xff800000u), OP == 1u);
  for (var k = lid; k < u.n; k += WG) {
    let v = load_x(start + k);
    if (OP == 0u) { total += v; } else if (OP == 1u) { total = max(total, v); } else { total += power_of(v, P); }
  }
  var all = 0.0;
  if (OP == 1u) { all = group_max(total, lid); } else { all = group_sum(total, lid); }
  if (lid == 0u) { finish(row, select(select(all, root_of(all, P), OP == 2u), all / f32(u.n), OP == 0u)); }
}
