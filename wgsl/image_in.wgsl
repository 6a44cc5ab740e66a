// y = an image as a tensor, four elements an invocation: channel c is weights[c] . rgba + bias[c]. Pixels of the tensor lie at `origin` and on,
// `stride` apart in the image, and are interpolated from the four texels around; those outside of `place` see black.
//
// slot: fn texel(p: vec2i) -> vec4f
// slot: fn result(v: f32) -> Y

override WG: u32 = 64;
override NEAREST: bool = false;

struct Uniforms { width: u32, height: u32, channels: u32, planar: u32, place: vec4f, origin: vec2f, stride: vec2f, low: vec2i, high: vec2i, weights: array<vec4f, 4>, bias: vec4f }

@group(0) @binding(0) var<storage, read_write> y: array<YStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;

fn near(p: vec2i) -> vec4f { return texel(clamp(p, u.low, u.high)); }

fn element(i: u32) -> Y {
  var c = i / (u.width * u.height);
  var p = i % (u.width * u.height);
  if (u.planar == 0u) {
    c = i % u.channels;
    p = i / u.channels;
  }
  let at = vec2f(f32(p % u.width), f32(p / u.width));
  var v = vec4f(0.0, 0.0, 0.0, 1.0);
  if (all(at >= u.place.xy) && all(at < u.place.zw)) {
    let s = u.origin + (at - u.place.xy + 0.5) * u.stride;
    if (NEAREST) {
      v = near(vec2i(floor(s)));
    } else {
      let f = floor(s - 0.5);
      let t = s - 0.5 - f;
      let k = vec2i(f);
      let top = near(k) * (1.0 - t.x) + near(k + vec2i(1, 0)) * t.x;
      let bottom = near(k + vec2i(0, 1)) * (1.0 - t.x) + near(k + 1) * t.x;
      v = top * (1.0 - t.y) + bottom * t.y;
    }
  }
  return result(dot(v, u.weights[c]) + u.bias[c]);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  let count = u.width * u.height * u.channels;
  if (q * 4u >= count) { return; }
  let last = count - 1u;
  store4_y(q, element(q * 4u), element(min(q * 4u + 1u, last)), element(min(q * 4u + 2u, last)), element(min(q * 4u + 3u, last)));
}
