// Convolution whose taps are moved by offsets, in two dims: an invocation an element of the output.
//
// slot: fn write(q: u32, last: u32)
// slot: fn weight_of(at: u32) -> f32
// slot: fn shift(m: u32) -> f32

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, channels: u32, filters: u32, offset_groups: u32, groups: u32, kernel: vec2u, image: vec2u, out: vec2u, strides: vec2u, begins: vec2u, dilations: vec2u }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> w: array<WStore>;
@group(0) @binding(2) var<storage, read> offset: array<OffsetStore>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn pixel(plane: u32, r: i32, c: i32) -> f32 {
  if (r < 0 || c < 0 || r >= i32(u.image.x) || c >= i32(u.image.y)) { return 0.0; }
  return load_x((plane * u.image.x + u32(r)) * u.image.y + u32(c));
}

fn bilinear(plane: u32, at: vec2f) -> f32 {
  let far = clamp(at, vec2f(-2.0), vec2f(u.image) + 1.0);
  let low = floor(far);
  let rest = far - low;
  let p = vec2i(low);
  return (1.0 - rest.x) * ((1.0 - rest.y) * pixel(plane, p.x, p.y) + rest.y * pixel(plane, p.x, p.y + 1)) + rest.x * ((1.0 - rest.y) * pixel(plane, p.x + 1, p.y) + rest.y * pixel(plane, p.x + 1, p.y + 1));
}

fn element(e: u32) -> f32 {
  let spots = u.out.x * u.out.y;
  let plane = e / spots;
  let spot = e - plane * spots;
  let b = plane / u.filters;
  let m = plane - b * u.filters;
  let share = u.channels / u.groups;
  let first = m / (u.filters / u.groups) * share;
  let taps = u.kernel.x * u.kernel.y;
  let place = vec2u(spot / u.out.y, spot % u.out.y);
  var sum = shift(m);
  for (var c = 0u; c < share; c++) {
    let channel = first + c;
    let group = (b * u.offset_groups + channel / (u.channels / u.offset_groups)) * taps;
    for (var t = 0u; t < taps; t++) {
      let tap = vec2u(t / u.kernel.y, t % u.kernel.y);
      let moved = vec2f(load_offset((group + t) * 2u * spots + spot), load_offset(((group + t) * 2u + 1u) * spots + spot));
      let at = vec2f(vec2i(place * u.strides + tap * u.dilations) - vec2i(u.begins)) + moved;
      sum += load_w((m * share + c) * taps + t) * weight_of((group + t) * spots + spot) * bilinear(b * u.channels + channel, at);
    }
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
