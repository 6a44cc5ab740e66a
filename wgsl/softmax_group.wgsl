// Softmax of rows, a workgroup a row: greatest, sum of exponentials, result. The first HELD quads of an invocation stay in registers;
// longer rows are read again. A row of nothing but -infinity gives NaN, as ONNX has it.
//
// slot: fn take(row: u32, k: u32) -> vec4f
// slot: fn again(row: u32, k: u32) -> vec4f
// slot: fn put(row: u32, k: u32, v: vec4f)

override WG: u32 = 64;
override HELD: u32 = 1;
override LOG: bool = false;

struct Uniforms { rows: u32, n: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = wg.y * groups.x + wg.x;
  if (row >= u.rows) { return; }
  let n = u.n;
  let rest = (HELD * WG + lid) * 4u;
  var held: array<vec4f, HELD>;

  var top = vec4f(LOWEST_F32);
  for (var j = 0u; j < HELD; j++) {
    let k = (j * WG + lid) * 4u;
    held[j] = vec4f(LOWEST_F32);
    if (k < n) { held[j] = within_row(take(row, k), k, n, LOWEST_F32); }
    top = max(top, held[j]);
  }
  for (var k = rest; k < n; k += WG * 4u) { top = max(top, within_row(take(row, k), k, n, LOWEST_F32)); }
  let m = group_max(max4(top), lid);

  var total = vec4f(0.0);
  for (var j = 0u; j < HELD; j++) {
    let k = (j * WG + lid) * 4u;
    let e = exp4(held[j] - m);
    total += within_row(e, k, n, 0.0);
    held[j] = select(e, held[j] - m, LOG);
  }
  for (var k = rest; k < n; k += WG * 4u) { total += within_row(exp4(again(row, k) - m), k, n, 0.0); }
  let sum = group_sum(sum4(total), lid);

  let scale = 1.0 / sum;
  let less = log(sum);
  for (var j = 0u; j < HELD; j++) {
    let k = (j * WG + lid) * 4u;
    if (k < n) { put(row, k, select(held[j] * scale, held[j] - less, LOG)); }
  }
  for (var k = rest; k < n; k += WG * 4u) {
    let v = again(row, k) - m;
    put(row, k, select(exp4(v) * scale, v - less, LOG));
  }
}
