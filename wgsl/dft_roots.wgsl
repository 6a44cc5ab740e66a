// y[j] = the j-th of n roots of unity, turning by SIGN.

override WG: u32 = 64;
override SIGN: f32 = -1;

struct Uniforms { count: u32, n: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<vec2f>;
@group(0) @binding(1) var<uniform> u: Uniforms;



@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  let turn = 6.283185307179586 * (f32(q) / f32(u.n));
  y[q] = vec2f(safe_cos(turn), SIGN * safe_sin(turn));
}
