// y = for each pixel the sum of the columns' elements that lie on it. Axes are innermost first.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 2;

struct Uniforms { count: u32, taps: u32, blocks: u32, image: vec4u, block: vec4u, along: vec4u, begins: vec4u, dilations: vec4u, strides: vec4u }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  var spot: vec4u;
  var rest = i;
  for (var d = 0u; d < RANK; d++) {
    let next = rest / u.image[d];
    spot[d] = rest - next * u.image[d];
    rest = next;
  }
  var sum: Y;
  for (var t = 0u; t < u.taps; t++) {
    var left = t;
    var column = 0u;
    var scale = 1u;
    var fits = true;
    for (var d = 0u; d < RANK; d++) {
      let next = left / u.block[d];
      let p = i32(spot[d] + u.begins[d]) - i32((left - next * u.block[d]) * u.dilations[d]);
      left = next;
      let b = u32(max(p, 0)) / u.strides[d];
      fits = fits && p >= 0 && b * u.strides[d] == u32(max(p, 0)) && b < u.along[d];
      column += b * scale;
      scale *= u.along[d];
    }
    if (fits) { sum += load_x((rest * u.taps + t) * u.blocks + column); }
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
