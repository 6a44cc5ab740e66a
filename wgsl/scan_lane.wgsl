// Running merge along rows of n elements that are `inner` apart: an invocation a chunk of a row. `carried` gives what the row's earlier
// chunks come to. EXCLUSIVE leaves an element itself out; REVERSE runs from the end.
//
// slot: fn carried(row: u32, part: u32) -> A
// slot: fn first() -> A
// slot: fn merge(a: A, b: A) -> A

override WG: u32 = 64;
override EXCLUSIVE: bool = false;
override REVERSE: bool = false;

struct Uniforms { count: u32, n: u32, inner: u32, parts: u32, chunk: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  let row = q / u.parts;
  let part = q - row * u.parts;
  let start = row / u.inner * u.n * u.inner + row % u.inner;
  var a = carried(row, part);
  let end = min((part + 1u) * u.chunk, u.n);
  for (var k = part * u.chunk; k < end; k++) {
    let at = start + select(k, u.n - 1u - k, REVERSE) * u.inner;
    let next = merge(a, load_x(at));
    store_y(at, select(next, a, EXCLUSIVE));
    a = next;
  }
}
