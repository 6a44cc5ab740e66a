// y = x / scale, rounded to even, plus the zero point, saturated to LOW .. HIGH; four elements an invocation. Not WHOLE: the quotient itself.
//
// slot: fn put(i: u32, v: vec4<Quantised>, left: u32)
// slot: fn scale_at(i: u32) -> u32
// slot: fn zero(j: u32) -> f32

override WG: u32 = 64;
override LOW: f32 = -128;
override HIGH: f32 = 127;
override WHOLE: bool = true;

struct Uniforms { count: u32, inner: u32, n: u32, size: u32, blocks: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> scale: array<ScaleStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> Quantised {
  let j = scale_at(i);
  let q = divided(f32(load_x(i)), load_scale(j));
  if (!WHOLE) { return Quantised(q); }
  return Quantised(clamp(round(q) + zero(j), LOW, HIGH));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4<Quantised>(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
