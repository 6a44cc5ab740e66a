// y = a b for a stack of matrices of any storage and strides, four neighbours in memory an invocation, each a dot product of its own.
//
// slot: fn put(i: u32, v: vec4<Value>, left: u32)
// slot: fn term(ai: u32, row: u32, bi: u32, column: u32) -> Value

override WG: u32 = 64;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(i: u32) -> Value {
  let matrix = u.m * u.n;
  let z = i / matrix;
  let r = i - z * matrix;
  let row = r / u.n;
  let column = r - row * u.n;
  var at = batch_starts(z) + vec2u(row * u.a_row, column * u.b_col);
  var sum = Value(0);
  for (var k = 0u; k < u.k; k++) {
    sum += term(at.x, row, at.y, column);
    at += vec2u(u.a_col, u.b_row);
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4<Value>(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
