// The greatest element of each window, and where it lies in x, -1 for a window in the padding; four outputs an invocation.
// COLUMNS counts the first spatial dim fastest.
//
// slot: fn put(i: u32, v: vec4<Value>, left: u32)

override WG: u32 = 64;
override K0: u32 = 1;
override K1: u32 = 1;
override K2: u32 = 1;
override COLUMNS: bool = false;

struct Uniforms { count: u32, size: vec4i, out: vec4u, strides: vec4i, dilations: vec4i, pads: vec4i, ends: vec4i }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<storage, read_write> indices: array<IndicesStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(o: u32) -> Value {
  let best = greatest_in(o);
  let within = select((best.at.x * u.size.y + best.at.y) * u.size.z + best.at.z, best.at.x + u.size.x * (best.at.y + u.size.y * best.at.z), COLUMNS);
  let index = select(-1, best.base + within, best.found);
  store_indices(o, vec2u(bitcast<u32>(index), bitcast<u32>(index >> 31u)));
  return best.value;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4<Value>(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
