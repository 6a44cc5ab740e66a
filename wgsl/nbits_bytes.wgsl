// Rows of numbers as bytes, block by block: q = a / s rounded, s being the greatest of the block over 127; four to a word. `units` holds s and the sum of q.
//
// slot: fn take_a(i: u32) -> vec4f

override WG: u32 = 64;
override QUADS: u32 = 8;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read_write> q: array<u32>;
@group(0) @binding(2) var<storage, read_write> units: array<vec2f>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= u.count) { return; }
  var top = vec4f(0.0);
  for (var j = 0u; j < QUADS; j++) { top = max(top, abs(take_a((i * QUADS + j) * 4u))); }
  let s = max4(top) / 127.0;
  let by = select(1.0 / s, 0.0, s == 0.0);
  var sum = vec4i(0);
  for (var j = 0u; j < QUADS; j++) {
    let v = vec4i(round(take_a((i * QUADS + j) * 4u) * by));
    sum += v;
    let w = vec4u(v) & vec4u(0xffu);
    q[i * QUADS + j] = w.x | (w.y << 8u) | (w.z << 16u) | (w.w << 24u);
  }
  units[i] = vec2f(s, f32(sum.x + sum.y + sum.z + sum.w));
}
