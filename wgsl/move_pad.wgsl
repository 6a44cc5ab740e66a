// y[i] = x at the place that padding maps i to, or the fill. Dims are innermost first; of each, `kept` elements from `first` on are
// kept, after `lead` new ones. An index outside is mapped by MODE: 0 constant, 1 edge, 2 reflect, 3 wrap.
//
// slot: fn write(q: u32, last: u32)
// slot: fn fill() -> Y

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 1;
override MODE: u32 = 0;

struct Uniforms { count: u32, dims: array<vec4u, 2>, kept: array<vec4i, 2>, lead: array<vec4i, 2>, first: array<vec4i, 2>, strides: array<vec4i, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn inside(j: i32, n: i32) -> i32 {
  if (MODE == 1u) { return clamp(j, 0, n - 1); }
  if (MODE == 2u) {
    let period = max(1, 2 * (n - 1));
    let back = ((j % period) + period) % period;
    return select(period - back, back, back < n);
  }
  return ((j % n) + n) % n;
}

fn element(i: u32) -> Y {
  var rest = i;
  var at = 0;
  var outside = false;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let next = rest / dim;
    let n = u.kept[k >> 2u][k & 3u];
    var j = bitcast<i32>(rest - next * dim) - u.lead[k >> 2u][k & 3u];
    if (j < 0 || j >= n) {
      if (MODE == 0u) { outside = true; j = 0; } else { j = inside(j, n); }
    }
    at += (u.first[k >> 2u][k & 3u] + j) * u.strides[k >> 2u][k & 3u];
    rest = next;
  }
  if (outside) { return fill(); }
  return load_x(bitcast<u32>(at));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
