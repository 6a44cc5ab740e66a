// Mean (OP 0), greatest (1) or p-norm (2) of rows of n elements, four rows an invocation.
//
// slot: fn put(i: u32, v: vec4f, left: u32)

override WG: u32 = 64;
override OP: u32 = 0;
override P: f32 = 2;

struct Uniforms { rows: u32, n: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn row(r: u32) -> f32 {
  let start = r * u.n;
  var total = select(0.0, from_bits(0xff800000u), OP == 1u);
  for (var k = 0u; k < u.n; k++) {
    let v = load_x(start + k);
    if (OP == 0u) { total += v; } else if (OP == 1u) { total = max(total, v); } else { total += power_of(v, P); }
  }
  if (OP == 0u) { return total / f32(u.n); }
  if (OP == 1u) { return total; }
  return root_of(total, P);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.rows) { return; }
  let last = u.rows - 1u;
  put(i, vec4f(row(i), row(min(i + 1u, last)), row(min(i + 2u, last)), row(min(i + 3u, last))), u.rows - i);
}
