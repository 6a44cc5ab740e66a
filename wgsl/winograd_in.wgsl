// Patches of 4 x 4 pixels, 2 apart, as Winograd's F(2 x 2, 3 x 3) multiplies them: B^T d B (Lavin and Gray, "Fast Algorithms for Convolutional
// Neural Networks", 2016). An invocation a patch of a channel; y is [16][channel][patch], `wide` patches a row.

override WG: u32 = 64;

struct Uniforms { count: u32, patches: u32, wide: u32, across: u32, down: u32, channels: u32, h: u32, w: u32, top: u32, left: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn pixel(plane: u32, row: u32, column: u32) -> f32 {
  let inside = row < u.h && column < u.w;
  return select(0.0, load_x(plane + select(0u, row * u.w + column, inside)), inside);
}

fn turned(a: vec4f, b: vec4f, c: vec4f, d: vec4f) -> mat4x4f {
  return mat4x4f(a - c, b + c, c - b, b - d);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= u.count) { return; }
  let channel = i / u.patches;
  let p = i - channel * u.patches;
  let image = p / (u.across * u.down);
  let tile = p - image * u.across * u.down;
  // Rows and columns before the first wrap around, and so lie outside, too.
  let row = tile / u.across * 2u - u.top;
  let column = tile % u.across * 2u - u.left;
  let plane = (image * u.channels + channel) * u.h * u.w;
  var d: mat4x4f;
  for (var r = 0u; r < 4u; r++) {
    d[r] = vec4f(pixel(plane, row + r, column), pixel(plane, row + r, column + 1u), pixel(plane, row + r, column + 2u), pixel(plane, row + r, column + 3u));
  }
  let half = transpose(turned(d[0], d[1], d[2], d[3]));
  let all = transpose(turned(half[0], half[1], half[2], half[3]));
  let step = u.channels * u.wide;
  for (var r = 0u; r < 4u; r++) {
    for (var c = 0u; c < 4u; c++) { y[(r * 4u + c) * step + channel * u.wide + p] = all[r][c]; }
  }
}
