// Convolution over rows of pixels, four neighbouring pixels by FILTERS filters an invocation, in registers: no workgroup memory. Padding is
// read as 0. Also depthwise convolution, where an invocation has one filter, and transposed convolution: the slot knows.
// z counts groups of images.
//
// slot: fn tile(z: u32, first: u32, oy: u32, ox: u32)

override FILTERS: u32 = 4;
override DEPTHWISE: bool = false;

struct Uniforms { channels: u32, filters: u32, groups: u32, h: u32, w: u32, oh: u32, ow: u32, wide: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> weights: array<WeightsStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

// A pixel of the row at `row`, 0 outside of it.
fn pixel(row: u32, at: i32) -> f32 {
  let i = bitcast<u32>(at);
  return select(0.0, load_x(row + min(i, u.w - 1u)), i < u.w);
}

// A workgroup is `wide` invocations across: a uniform, so that images of all sizes share a pipeline.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let id = vec3u(wg.x * u.wide + lid % u.wide, wg.y * (64u / u.wide) + lid / u.wide, wg.z);
  let across = (u.ow + 3u) / 4u;
  let oy = id.x / across;
  let ox = (id.x - oy * across) * 4u;
  if (oy >= u.oh) { return; }
  if (DEPTHWISE) {
    let g = id.y / u.filters;
    if (g < u.groups) { tile(id.z * u.groups + g, id.y - g * u.filters, oy, ox); }
  } else {
    let first = id.y * FILTERS;
    if (first < u.filters) { tile(id.z, first, oy, ox); }
  }
}
