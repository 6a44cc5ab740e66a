// y at a place that indices[i] moves along one axis takes in updates[i]. An invocation does `steps` updates one after another, `step`
// apart: all of a line along the axis where they must not race, one where they may. Dims are those of the invocations, innermost first.
//
// slot: fn put(at: u32, i: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override RANK: u32 = 1;

struct Uniforms { count: u32, steps: u32, step: u32, dim: u32, along: u32, dims: array<vec4u, 2>, sources: array<vec4u, 2>, strides: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(1) var<storage, read> updates: array<UpdatesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  var rest = q;
  var i = 0u;
  var at = 0u;
  for (var k = 0u; k < RANK; k++) {
    let dim = u.dims[k >> 2u][k & 3u];
    let next = rest / dim;
    let c = rest - next * dim;
    i += c * u.sources[k >> 2u][k & 3u];
    at += c * u.strides[k >> 2u][k & 3u];
    rest = next;
  }
  for (var s = 0u; s < u.steps; s++) {
    put(at + index(i, u.dim) * u.along, i);
    i += u.step;
  }
}
