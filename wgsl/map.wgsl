// y[4q .. 4q+3] = four elements of an expression of broadcast operands, an invocation: any storage type is written by whole words.
// Operands are extra bindings; the slot loads, computes and stores.
//
// slot: fn quad(q: u32, last: u32)

override WG: u32 = 64;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<YStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * 4u >= u.count) { return; }
  quad(q, u.count - 1u);
}
