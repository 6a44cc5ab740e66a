// The greatest element of each window; four outputs an invocation.
//
// slot: fn put(i: u32, v: vec4<Value>, left: u32)

override WG: u32 = 64;
override K0: u32 = 1;
override K1: u32 = 1;
override K2: u32 = 1;

struct Uniforms { count: u32, size: vec4i, out: vec4u, strides: vec4i, dilations: vec4i, pads: vec4i, ends: vec4i }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(o: u32) -> Value {
  let at = window_at(o);
  let base = i32(at.plane) * u.size.x * u.size.y * u.size.z;
  var best = lowest();
  var found = false;
  for (var k0 = 0u; k0 < K0; k0++) {
    let i0 = at.start.x + i32(k0) * u.dilations.x;
    if (outside(i0, u.size.x)) { continue; }
    for (var k1 = 0u; k1 < K1; k1++) {
      let i1 = at.start.y + i32(k1) * u.dilations.y;
      if (outside(i1, u.size.y)) { continue; }
      for (var k2 = 0u; k2 < K2; k2++) {
        let i2 = at.start.z + i32(k2) * u.dilations.z;
        if (outside(i2, u.size.z)) { continue; }
        let v = load_x(bitcast<u32>(base + (i0 * u.size.y + i1) * u.size.z + i2));
        if (!found || v > best) { best = v; }
        found = true;
      }
    }
  }
  return best;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4<Value>(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
