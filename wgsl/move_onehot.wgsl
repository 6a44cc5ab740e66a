// y[outer][k][inner] = values[1] where k is index [outer][inner], which may count from the end, else values[0].
//
// slot: fn write(q: u32, last: u32)
// slot: fn place(k: u32) -> i32

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, depth: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(1) var<storage, read> x: array<XStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let line = i / u.inner;
  let outer = line / u.depth;
  let k = bitcast<i32>(line - outer * u.depth);
  let at = place(outer * u.inner + i - line * u.inner);
  return load_x(select(0u, 1u, at == k || at == k - bitcast<i32>(u.depth)));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
