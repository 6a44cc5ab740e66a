// y[indices of the tuple ...][inner] takes in updates[tuple][inner]. An invocation does `steps` tuples one after another: all of them
// where they must not race, one where they may.
//
// slot: fn put(at: u32, i: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override DEPTH: u32 = 1;

struct Uniforms { count: u32, steps: u32, inner: u32, dims: array<vec4u, 2>, strides: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(1) var<storage, read> updates: array<UpdatesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  let inner = q % u.inner;
  let first = q / u.inner;
  for (var s = 0u; s < u.steps; s++) {
    let tuple = first + s;
    var at = 0u;
    for (var k = 0u; k < DEPTH; k++) { at += index(tuple * DEPTH + k, u.dims[k >> 2u][k & 3u]) * u.strides[k >> 2u][k & 3u]; }
    put(at * u.inner + inner, tuple * u.inner + inner);
  }
}
