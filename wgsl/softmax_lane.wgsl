// Softmax of rows, an invocation a row, without workgroup memory: for short rows, rows that lie across memory, and software adapters.
//
// slot: fn take(row: u32, k: u32) -> vec4f
// slot: fn again(row: u32, k: u32) -> vec4f
// slot: fn put(row: u32, k: u32, v: vec4f)

override WG: u32 = 64;
override LOG: bool = false;

struct Uniforms { rows: u32, n: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y * groups.x * WG + id.x;
  if (row >= u.rows) { return; }
  let n = u.n;
  var top = vec4f(LOWEST_F32);
  for (var k = 0u; k < n; k += 4u) { top = max(top, within_row(take(row, k), k, n, LOWEST_F32)); }
  let m = max4(top);
  var total = vec4f(0.0);
  for (var k = 0u; k < n; k += 4u) { total += within_row(exp4(again(row, k) - m), k, n, 0.0); }
  let sum = sum4(total);
  let scale = 1.0 / sum;
  let less = log(sum);
  for (var k = 0u; k < n; k += 4u) {
    let v = again(row, k) - m;
    if (LOG) { put(row, k, v - less); } else { put(row, k, exp4(v) * scale); }
  }
}
