// Scale and zero point with which uint8 covers the extents that `lanes` invocations found.

struct Uniforms { lanes: u32 }

@group(0) @binding(0) var<storage, read> x: array<vec2f>;
@group(0) @binding(1) var<storage, read_write> scale: array<ScaleStore>;
@group(0) @binding(2) var<storage, read_write> zero: array<ZeroStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(1)
fn main() {
  var extent = vec2f(0.0);
  for (var i = 0u; i < u.lanes; i++) { extent = vec2f(min(extent.x, x[i].x), max(extent.y, x[i].y)); }
  var s = divided(extent.y - extent.x, 255.0);
  if (s == 0.0) { s = 1.0; }
  store_scale(0u, s);
  store4_zero(0u, u32(round(clamp(divided(-extent.x, s), 0.0, 255.0))), 0u, 0u, 0u);
}
