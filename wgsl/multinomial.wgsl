// y[b][s]: a class drawn by its unnormalised log-probability x[b][class], from words of Philox under a key; a sample an invocation.
//
// slot: fn store(i: u32, chosen: u32)

override WG: u32 = 64;

struct Uniforms { count: u32, classes: u32, samples: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> key: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= u.count) { return; }
  let row = i / u.samples * u.classes;
  var top = load_x(row);
  for (var c = 1u; c < u.classes; c++) { top = max(top, load_x(row + c)); }
  var total = 0.0;
  for (var c = 0u; c < u.classes; c++) { total += exp(load_x(row + c) - top); }
  let bits = philox(i >> 2u, 0u, vec2u(key[0], key[1]));
  var left = unit_floats(bits)[i & 3u] * total;
  var chosen = u.classes - 1u;
  for (var c = 0u; c + 1u < u.classes; c++) {
    left -= exp(load_x(row + c) - top);
    if (left < 0.0) { chosen = c; break; }
  }
  store(i, chosen);
}
