// Some of the pieces that lie side by side in the rows of y: those from element `start` of a row on, `span` elements in all.
// Where elements share words, whole rows are rewritten and elements outside the span are kept.
//
// slot: fn write(q: u32, last: u32)
// slot: fn piece(row: u32, r: u32) -> Y

override WG: u32 = 64;
override PER: u32 = 1;

struct Uniforms { count: u32, row: u32, start: u32, span: u32 }

@group(0) @binding(0) var<storage, read_write> y: array<YStore>;
@group(0) @binding(1) var<uniform> u: Uniforms;

fn place(i: u32) -> u32 {
  let row = i / u.span;
  return row * u.row + u.start + i - row * u.span;
}

fn spanned(i: u32) -> Y {
  let row = i / u.span;
  return piece(row, i - row * u.span);
}

fn element(i: u32) -> Y {
  let row = i / u.row;
  let r = i - row * u.row;
  if (r < u.start || r >= u.start + u.span) { return load_y(i); }
  return piece(row, r - u.start);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
