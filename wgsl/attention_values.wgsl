// y = p v: the values of a row's keys, weighted by their probabilities; four elements an invocation. Values of probability zero are not
// touched, whatever they hold.
//
// slot: fn take_v(at: u32, d: u32) -> vec4f
// slot: fn put(at: u32, d: u32, v: vec4f)

override WG: u32 = 64;

struct Uniforms { count: u32, heads: u32, share: u32, queries: u32, keys: u32, size: u32, v_lies: vec4u, y_lies: vec4u }

@group(0) @binding(0) var<storage, read> p: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<VStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let e = id.y * groups.x * WG + id.x;
  if (e >= u.count) { return; }
  let across = (u.size + 3u) / 4u;
  let row = e / across;
  let d = (e - row * across) * 4u;
  let who = query_at(row);
  let b = who.x;
  let h = who.y;
  let i = who.z;
  var at = row_at(u.v_lies, b, h / u.share, 0u);
  var sum = vec4f(0.0);
  for (var j = 0u; j < u.keys; j++) {
    let weight = p[row * u.keys + j];
    if (weight != 0.0) { sum += weight * take_v(at, d); }
    at += u.v_lies.w;
  }
  put(row_at(u.y_lies, b, h, i), d, sum);
}
