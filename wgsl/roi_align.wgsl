// The mean (or MAX) of bilinear samples of an image in each bin of a region: an invocation a bin of a channel. A region of no image, or of
// too many samples, sets `fault`.
//
// slot: fn write(q: u32, last: u32)
// slot: fn image_of(r: u32) -> i32

override WG: u32 = 64;
override PER: u32 = 1;
override MAX: bool = false;
override HALF: bool = true;

struct Uniforms { count: u32, batch: u32, channels: u32, height: u32, width: u32, rows: u32, columns: u32, ratio: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> rois: array<RoisStore>;
@group(0) @binding(2) var<storage, read> images: array<ImagesStore>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> u: Uniforms;

// The lower and upper neighbour of a coordinate and the weight of the upper; w is 0 outside.
fn neighbours(v: f32, n: u32) -> vec4f {
  if (!(v >= -1.0 && v <= f32(n))) { return vec4f(0.0); }
  let last = f32(n) - 1.0;
  let low = min(last, floor(max(0.0, v)));
  return select(vec4f(low, low + 1.0, max(0.0, v) - low, 1.0), vec4f(low, low, 0.0, 1.0), low == last);
}

fn element(e: u32) -> f32 {
  let bins = u.rows * u.columns;
  let plane = e / bins;
  let bin = e - plane * bins;
  let r = plane / u.channels;
  let image = image_of(r);
  if (image < 0 || image >= i32(u.batch)) { atomicOr(&fault[0], 1u); return 0.0; }
  let shift = select(0.0, 0.5, HALF);
  let x0 = load_rois(r * 4u) * u.scale - shift;
  let y0 = load_rois(r * 4u + 1u) * u.scale - shift;
  let wide = load_rois(r * 4u + 2u) * u.scale - shift - x0;
  let high = load_rois(r * 4u + 3u) * u.scale - shift - y0;
  let step_x = select(max(1.0, wide), wide, HALF) / f32(u.columns);
  let step_y = select(max(1.0, high), high, HALF) / f32(u.rows);
  let wanted_x = select(ceil(step_x), f32(u.ratio), u.ratio > 0u);
  let wanted_y = select(ceil(step_y), f32(u.ratio), u.ratio > 0u);
  if (!(max(wanted_x, 0.0) * max(wanted_y, 0.0) <= 1048576.0)) { atomicOr(&fault[0], 1u); return 0.0; }
  let count_x = u32(max(wanted_x, 0.0));
  let count_y = u32(max(wanted_y, 0.0));
  let start = (u32(image) * u.channels + plane - r * u.channels) * u.height * u.width;
  let left = x0 + f32(bin % u.columns) * step_x;
  let top = y0 + f32(bin / u.columns) * step_y;
  var sum = 0.0;
  var best = LOWEST_F32;
  for (var i = 0u; i < count_y; i++) {
    let v = neighbours(top + (f32(i) + 0.5) * step_y / f32(count_y), u.height);
    for (var j = 0u; j < count_x; j++) {
      let h = neighbours(left + (f32(j) + 0.5) * step_x / f32(count_x), u.width);
      if (v.w == 0.0 || h.w == 0.0) { best = max(best, 0.0); continue; }
      let upper = start + u32(v.x) * u.width;
      let lower = start + u32(v.y) * u.width;
      let parts = vec4f(
        (1.0 - v.z) * (1.0 - h.z) * load_x(upper + u32(h.x)), (1.0 - v.z) * h.z * load_x(upper + u32(h.y)),
        v.z * (1.0 - h.z) * load_x(lower + u32(h.x)), v.z * h.z * load_x(lower + u32(h.y)));
      sum += sum4(parts);
      best = max(best, max4(parts));
    }
  }
  if (MAX) { return select(best, 0.0, best == LOWEST_F32); }
  return sum / max(1.0, wanted_x * wanted_y);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
