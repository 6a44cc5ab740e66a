// Samples of an image of one to three dims at places that a grid gives in [-1, 1]: an element an invocation. MODE: 0 nearest, 1 linear,
// 2 cubic; PADDING: 0 zeros, 1 border, 2 reflection. Sizes are innermost first, as coordinates are.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 2;
override MODE: u32 = 1;
override PADDING: u32 = 0;
override ALIGN: bool = false;

struct Uniforms { count: u32, points: u32, channels: u32, image: vec4u }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> places: array<PlacesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

const TAPS = array<u32, 3>(1u, 2u, 4u)[MODE];

fn padded(v: f32, n: f32) -> f32 {
  if (PADDING == 0u) { return v; }
  if (PADDING == 1u) { return clamp(v, 0.0, n - 1.0); }
  let low = select(-0.5, 0.0, ALIGN);
  let range = select(n, n - 1.0, ALIGN);
  if (range <= 0.0) { return low; }
  let far = abs(v - low) % (2.0 * range);
  return clamp(low + select(far, 2.0 * range - far, far > range), 0.0, n - 1.0);
}

// Cubic convolution with PyTorch's coefficient.
fn cubic(d: f32) -> f32 {
  let a = -0.75;
  let t = abs(d);
  return select(select(0.0, ((t - 5.0) * t + 8.0) * t * a - 4.0 * a, t < 2.0), ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0, t <= 1.0);
}

// Tap k along a dim of n: where it is, and its weight, 0 for those outside.
fn tap(v: f32, k: u32, n: u32) -> vec2f {
  var at = padded(v, f32(n));
  var w = 1.0;
  if (MODE == 0u) { at = floor(padded(round(v), f32(n)) + 0.5); }
  if (MODE == 1u) {
    let part = at - floor(at);
    w = select(1.0 - part, part, k == 1u);
    at = floor(at) + f32(k);
  }
  if (MODE == 2u) {
    let i = floor(v) - 1.0 + f32(k);
    w = cubic(i - v);
    at = floor(padded(i, f32(n)) + 0.5);
  }
  return select(vec2f(0.0), vec2f(at, w), at >= 0.0 && at < f32(n));
}

fn element(e: u32) -> f32 {
  let plane = e / u.points;
  let first = (plane / u.channels * u.points + e - plane * u.points) * RANK;
  var taps: array<vec2f, RANK * TAPS>;
  var all = 1u;
  var area = 1u;
  for (var d = 0u; d < RANK; d++) {
    let n = u.image[d];
    let g = load_places(first + d);
    let raw = select(((g + 1.0) * f32(n) - 1.0) * 0.5, (g + 1.0) * 0.5 * (f32(n) - 1.0), ALIGN);
    let v = select(clamp(raw, -1e9, 1e9), -2.0, is_nan(raw));
    for (var k = 0u; k < TAPS; k++) { taps[d * TAPS + k] = tap(v, k, n); }
    all *= TAPS;
    area *= n;
  }
  var sum = 0.0;
  for (var t = 0u; t < all; t++) {
    var rest = t;
    var at = plane * area;
    var stride = 1u;
    var w = 1.0;
    for (var d = 0u; d < RANK; d++) {
      let own = taps[d * TAPS + rest % TAPS];
      rest /= TAPS;
      at += u32(own.x) * stride;
      stride *= u.image[d];
      w *= own.y;
    }
    if (w != 0.0) { sum += w * load_x(at); }
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
