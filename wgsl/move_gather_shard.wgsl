// y[k][inner] = x[indices[k] - first][inner], for those rows of a table of `dim` that x holds; the others stay as they are. Slot `index` keeps indices
// inside the table, and sets `fault` where it had to.
//
// slot: fn write(q: u32, last: u32)
// slot: fn index(k: u32, dim: u32) -> u32

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, dim: u32, inner: u32, first: u32, rows: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> indices: array<IndicesStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let k = i / u.inner;
  let row = index(k, u.dim) - u.first;
  if (row >= u.rows) { return load_y(i); }
  return load_x(row * u.inner + i - k * u.inner);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
