// A causal convolution of each channel over its past and its elements (STATE false), or what it leaves as its past.
//
// slot: fn write(q: u32, last: u32)
// slot: fn past(row: u32, i: u32) -> f32
// slot: fn shift(c: u32) -> f32

override WG: u32 = 64;
override PER: u32 = 1;
override STATE: bool = false;
override SILU: bool = false;

struct Uniforms { count: u32, channels: u32, steps: u32, taps: u32, dilation: u32, held: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> w: array<WStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn at(row: u32, i: u32) -> f32 {
  if (i < u.held) { return past(row, i); }
  return load_x(row * u.steps + i - u.held);
}

fn element(e: u32) -> f32 {
  if (STATE) { return at(e / u.held, u.steps + e % u.held); }
  let row = e / u.steps;
  let c = row % u.channels;
  var sum = shift(c);
  for (var j = 0u; j < u.taps; j++) { sum += load_w(c * u.taps + j) * at(row, e - row * u.steps + j * u.dilation); }
  return select(sum, sum * sigmoid(sum), SILU);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
