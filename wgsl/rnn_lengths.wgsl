// Refuses numbers of steps that a recurrent layer does not have.

override WG: u32 = 64;

struct Uniforms { count: u32, steps: i32 }

@group(0) @binding(0) var<storage, read> lengths: array<i32>;
@group(0) @binding(1) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= u.count) { return; }
  if (lengths[id.x] < 0 || lengths[id.x] > u.steps) { atomicOr(&fault[0], 1u); }
}
