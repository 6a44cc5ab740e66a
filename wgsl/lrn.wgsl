// Local response normalisation: x / (bias + alpha / size * the sum of squares of neighbouring channels)^beta.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, channels: u32, inner: u32, lower: u32, upper: u32, alpha: f32, beta: f32, bias: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  let row = i / u.inner;
  let first = row / u.channels * u.channels;
  let c = row - first;
  let start = first * u.inner + i - row * u.inner;
  var sum = 0.0;
  for (var k = max(c, u.lower) - u.lower; k <= min(u.channels - 1u, c + u.upper); k++) {
    let v = load_x(start + k * u.inner);
    sum += v * v;
  }
  return load_x(i) / safe_pow(u.bias + u.alpha * sum, u.beta);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
