// As norm_group, of a sum that `take` also stores in `sum`.
//
// slot: fn take(row: u32, k: u32) -> vec4f
// slot: fn again(row: u32, k: u32) -> vec4f
// slot: fn put(row: u32, k: u32, v: vec4f)

override WG: u32 = 64;
override HELD: u32 = 1;
override CENTRED: bool = true;

struct Uniforms { rows: u32, n: u32, inner: u32, epsilon: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<storage, read_write> sum: array<SumStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = wg.y * groups.x + wg.x;
  if (row >= u.rows) { return; }
  normalise_group(row, lid);
}
