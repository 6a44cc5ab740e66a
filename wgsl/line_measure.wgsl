// y[line] = what line_apply needs of a line of n elements, inner apart: MODE 0 the place of the first of its greatest, 1 the bits of the sum of
// absolute values, 2 those of the root of the sum of squares. An invocation a line.

override WG: u32 = 64;
override MODE: u32 = 0;

struct Uniforms { count: u32, n: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn measure(at: u32) -> u32 {
  var best = 0u;
  var top = load_x(at);
  var sum = 0.0;
  for (var k = 0u; k < u.n; k++) {
    let v = load_x(at + k * u.inner);
    if (v > top) { top = v; best = k; }
    sum += select(abs(v), v * v, MODE == 2u);
  }
  return select(bitcast<u32>(select(sum, sqrt(sum), MODE == 2u)), best, MODE == 0u);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  y[q] = measure(q / u.inner * u.n * u.inner + q % u.inner);
}
