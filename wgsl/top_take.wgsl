// y[line][r] = x[line][places[line][r]].
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, n: u32, inner: u32, k: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> places: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let row = i / u.inner;
  let line = row / u.k;
  return load_x((line * u.n + min(places[i].x, u.n - 1u)) * u.inner + i - row * u.inner);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
