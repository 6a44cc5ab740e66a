// y = x in another type, of which at least one is a float of 8 or 4 bits or an integer below a byte; a whole word of y an invocation.
//
// slot: fn write(q: u32, last: u32)
// slot: fn taken(i: u32) -> From
// slot: fn converted(v: From) -> To

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> To { return converted(taken(i)); }

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
