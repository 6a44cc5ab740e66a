// The states before the first step: `given`, or zeros. LAYOUT 1 has the batch before the directions.
//
// slot: fn initial(i: u32) -> f32

override WG: u32 = 64;
override DIRECTIONS: u32 = 1;
override HIDDEN: u32 = 1;
override LAYOUT: u32 = 0;

struct Uniforms { batch: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= DIRECTIONS * u.batch * HIDDEN) { return; }
  let row = i / HIDDEN;
  let d = row / u.batch;
  let b = row - d * u.batch;
  y[i] = initial(select(i, (b * DIRECTIONS + d) * HIDDEN + i - row * HIDDEN, LAYOUT == 1u));
}
