// A tensor as pixels of a canvas, one an invocation: rgba = the sum over its channels of channel c * weights[c], + bias.

override WIDE: u32 = 8;

struct Uniforms { width: u32, height: u32, channels: u32, planar: u32, offset: u32, weights: array<vec4f, 4>, bias: vec4f }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;
@group(1) @binding(0) var canvas: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(WIDE, WIDE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= u.width || id.y >= u.height) { return; }
  let p = id.y * u.width + id.x;
  var v = u.bias;
  for (var c = 0u; c < u.channels; c++) {
    let i = u.offset + select(p * u.channels + c, c * u.width * u.height + p, u.planar != 0u);
    v += f32(load_x(i)) * u.weights[c];
  }
  textureStore(canvas, id.xy, v);
}
