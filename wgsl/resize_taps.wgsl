// Separable interpolation by tables: entry o * taps + t of an axis's table is an input index and the bits of its weight, 0xffffffff
// outside of what is sampled. Dims are innermost first; those with 0 taps are as they are. With NEAREST there is one tap an axis, and
// elements are moved, whatever they are.
//
// slot: fn write(q: u32, last: u32)
// slot: fn moved(v: X) -> Y
// slot: fn weighed(v: X, w: f32) -> f32
// slot: fn result(v: f32) -> Y

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 1;
override NEAREST: bool = false;

struct Uniforms { count: u32, combinations: u32, extrapolated: f32, dims: array<vec4u, 2>, strides: array<vec4u, 2>, taps: array<vec4u, 2>, tables: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> tables: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  var rest = i;
  var base = 0u;
  var entries: array<u32, RANK>;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let taps = u.taps[k >> 2u][k & 3u];
    let next = rest / dim;
    let c = rest - next * dim;
    entries[k] = u.tables[k >> 2u][k & 3u] + c * taps;
    if (taps == 0u) { base += c * u.strides[k >> 2u][k & 3u]; }
    rest = next;
  }
  var sum = 0.0;
  for (var t = 0u; t < u.combinations; t++) {
    var left = t;
    var at = base;
    var w = 1.0;
    for (var k = 0u; k < RANK; k++) {
      let taps = u.taps[k >> 2u][k & 3u];
      if (taps > 0u) {
        let more = left / taps;
        let entry = tables[entries[k] + left - more * taps];
        if (entry.x == 0xffffffffu) { return result(u.extrapolated); }
        at += entry.x * u.strides[k >> 2u][k & 3u];
        w *= bitcast<f32>(entry.y);
        left = more;
      }
    }
    if (NEAREST) { return moved(load_x(at)); }
    if (w != 0.0) { sum += weighed(load_x(at), w); }
  }
  return result(sum);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
