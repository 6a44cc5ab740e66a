// y[batch][tuple][inner] = x[batch][indices of the tuple ...][inner]: DEPTH indices a tuple, into dims with these strides (in runs of
// `inner` elements).
//
// slot: fn write(q: u32, last: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override PER: u32 = 1;
override DEPTH: u32 = 1;

struct Uniforms { count: u32, inner: u32, tuples: u32, whole: u32, dims: array<vec4u, 2>, strides: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let tuple = i / u.inner;
  var at = tuple / u.tuples * u.whole;
  for (var k = 0u; k < DEPTH; k++) { at += index(tuple * DEPTH + k, u.dims[k >> 2u][k & 3u]) * u.strides[k >> 2u][k & 3u]; }
  return load_x(at * u.inner + i - tuple * u.inner);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
