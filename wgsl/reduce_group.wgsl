// As reduce_lane, a workgroup an element (or part of one) of y: for rows.
//
// slot: fn first() -> A
// slot: fn pre(v: X, k: u32) -> A
// slot: fn merge(a: A, b: A) -> A
// slot: fn post(a: A) -> Y

override WG: u32 = 64;
override RANK: u32 = 1;
override DEPTH: u32 = 1;

struct Uniforms { count: u32, n: u32, parts: u32, chunk: u32, dims: array<vec4u, 2>, strides: array<vec4u, 2>, depths: array<vec4u, 2>, steps: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = wg.y * groups.x + wg.x;
  if (i >= u.count) { return; }
  let owner = i / u.parts;
  let start = reduce_base(owner);
  let begin = (i - owner * u.parts) * u.chunk;
  let end = min(begin + u.chunk, u.n);
  var a = first();
  for (var k = begin + lid; k < end; k += WG) { a = merge(a, pre(load_x(start + reduce_offset(k)), k)); }
  let all = group_merged(a, lid);
  if (lid == 0u) { store_y(i, post(all)); }
}
