// y[i] = x[start + sum of index * stride]: transposes, slices, splits, broadcasts, tiles and plain copies. Dims are innermost first.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 1;

struct Uniforms { count: u32, start: i32, dims: array<vec4u, 3>, strides: array<vec4i, 3> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  var rest = i;
  var at = u.start;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let next = rest / dim;
    at += bitcast<i32>(rest - next * dim) * u.strides[k >> 2u][k & 3u];
    rest = next;
  }
  return load_x(bitcast<u32>(at));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
