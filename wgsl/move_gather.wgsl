// y[outer][k][inner] = x[outer][indices[k]][inner]: rows by their numbers. Slot `index` keeps them inside the axis, and sets `fault` where it had to.
//
// slot: fn write(q: u32, last: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, dim: u32, rows: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let row = i / u.inner;
  let outer = row / u.rows;
  return load_x((outer * u.dim + index(row - outer * u.rows, u.dim)) * u.inner + i - row * u.inner);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
