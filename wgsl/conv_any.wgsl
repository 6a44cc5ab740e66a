// Convolution of up to three spatial dims, or transposed, for any storage: four neighbours in memory an invocation, each by itself.
//
// slot: fn put(i: u32, v: vec4f, left: u32)

override WG: u32 = 64;
override TRANSPOSED: bool = false;

struct Uniforms { count: u32, channels: u32, filters: u32, groups: u32, size: vec4i, out: vec4u, kernel: vec4u, strides: vec4i, dilations: vec4i, pads: vec4i }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> weights: array<WeightsStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

// Where tap k of the window at o reads along dim d; out of range where it reads nothing.
fn reach(o: u32, k: u32, d: u32) -> i32 {
  if (!TRANSPOSED) { return i32(o) * u.strides[d] - u.pads[d] + i32(k) * u.dilations[d]; }
  let t = i32(o) + u.pads[d] - i32(k) * u.dilations[d];
  let i = t / u.strides[d];
  return select(-1, i, t >= 0 && i * u.strides[d] == t);
}

fn element(i: u32) -> f32 {
  var rest = i;
  let ox = rest % u.out.z; rest /= u.out.z;
  let oy = rest % u.out.y; rest /= u.out.y;
  let od = rest % u.out.x; rest /= u.out.x;
  let first = rest % u.filters;
  let z = rest / u.filters;
  let g = z % u.groups;
  let image = u32(u.size.x * u.size.y * u.size.z);
  let taps = u.kernel.x * u.kernel.y * u.kernel.z;
  let w_channel = select(taps, u.filters * taps, TRANSPOSED);
  let w0 = select((g * u.filters + first) * u.channels * taps, (g * u.channels * u.filters + first) * taps, TRANSPOSED);
  var sum = 0.0;
  for (var kd = 0u; kd < u.kernel.x; kd++) {
    let id = reach(od, kd, 0u);
    if (id < 0 || id >= u.size.x) { continue; }
    for (var ky = 0u; ky < u.kernel.y; ky++) {
      let iy = reach(oy, ky, 1u);
      if (iy < 0 || iy >= u.size.y) { continue; }
      for (var kx = 0u; kx < u.kernel.z; kx++) {
        let ix = reach(ox, kx, 2u);
        if (ix < 0 || ix >= u.size.z) { continue; }
        var at = z * u.channels * image + u32((id * u.size.y + iy) * u.size.z + ix);
        var wt = w0 + (kd * u.kernel.y + ky) * u.kernel.z + kx;
        for (var c = 0u; c < u.channels; c++) {
          sum += load_x(at) * load_weights(wt);
          at += image;
          wt += w_channel;
        }
      }
    }
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4f(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
