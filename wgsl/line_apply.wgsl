// y = 1 at the measured place of each line and 0 elsewhere (MODE 0), or x divided by the measured norm, 0 where that is 0.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override MODE: u32 = 0;

struct Uniforms { count: u32, n: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> measures: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let row = i / u.inner;
  let line = row / u.n;
  let m = measures[line * u.inner + i - row * u.inner];
  if (MODE == 0u) { return select(0.0, 1.0, row - line * u.n == m); }
  let norm = bitcast<f32>(m);
  return select(load_x(i) / norm, 0.0, norm == 0.0);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
