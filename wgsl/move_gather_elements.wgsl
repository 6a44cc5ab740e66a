// y[i] = x at i's own place, but along one axis at indices[i]. Dims are those of the indices, innermost first; the axis has stride 0.
//
// slot: fn write(q: u32, last: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 1;

struct Uniforms { count: u32, dim: u32, along: u32, dims: array<vec4u, 2>, strides: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  var rest = i;
  var at = index(i, u.dim) * u.along;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let next = rest / dim;
    at += (rest - next * dim) * u.strides[k >> 2u][k & 3u];
    rest = next;
  }
  return load_x(at);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
