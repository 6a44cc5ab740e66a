// Random numbers from a counter: four words for each four elements, of Philox 4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011),
// under a key of two words. Slot `drawn` makes elements i .. i+3 of four words.
//
// slot: fn drawn(i: u32, bits: vec4u) -> vec4f
// slot: fn put(i: u32, v: vec4f, left: u32)

override WG: u32 = 64;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> key: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  put(i, drawn(i, philox(i >> 2u, 0u, vec2u(key[0], key[1]))), u.count - i);
}
