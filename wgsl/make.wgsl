// y[i] = value(i): tensors made from numbers alone.
//
// slot: fn write(q: u32, last: u32)
// slot: fn value(i: u32) -> Y

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<YStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;

fn element(i: u32) -> Y { return value(i); }

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
