// The least and greatest of x and 0: each of `lanes` invocations leaves those of the elements that it visits.

override WG: u32 = 64;

struct Uniforms { count: u32, lanes: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<vec2f>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= u.lanes) { return; }
  var extent = vec2f(0.0);
  for (var i = id.x; i < u.count; i += u.lanes) {
    let v = load_x(i);
    extent = vec2f(min(extent.x, v), max(extent.y, v));
  }
  y[id.x] = extent;
}
