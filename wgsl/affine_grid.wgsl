// Coordinates in [-1, 1] of every pixel (dims innermost first), through each image's matrix of RANK rows.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 2;
override ALIGN: bool = false;

struct Uniforms { count: u32, dims: vec4u }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let p = i / RANK;
  let r = i - p * RANK;
  var rest = p;
  var at = vec4f(0.0);
  for (var d = 0u; d < RANK; d++) {
    let n = u.dims[d];
    let next = rest / n;
    let k = f32(rest - next * n);
    at[d] = select((2.0 * k + 1.0) / f32(n) - 1.0, select(-1.0, 2.0 * k / f32(max(n, 2u) - 1u) - 1.0, n > 1u), ALIGN);
    rest = next;
  }
  let row = (rest * RANK + r) * (RANK + 1u);
  var sum = load_x(row + RANK);
  for (var d = 0u; d < RANK; d++) { sum += load_x(row + d) * at[d]; }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
