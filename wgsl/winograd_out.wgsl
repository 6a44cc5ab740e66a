// What winograd_in prepared, multiplied: A^T m A, the 2 x 2 pixels of a tile of a filter an invocation.
//
// slot: fn epilogue(v: f32, i: u32) -> Y

override WG: u32 = 64;

struct Uniforms { count: u32, tiles: u32, wide: u32, across: u32, down: u32, filters: u32, h: u32, w: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= u.count) { return; }
  let f = i / u.tiles;
  let p = i - f * u.tiles;
  let image = p / (u.across * u.down);
  let tile = p - image * u.across * u.down;
  let row = tile / u.across * 2u;
  let column = tile % u.across * 2u;
  let step = u.filters * u.wide;
  var rows: array<vec2f, 4>;
  for (var r = 0u; r < 4u; r++) {
    let at = r * 4u * step + f * u.wide + p;
    let m = vec4f(x[at], x[at + step], x[at + 2u * step], x[at + 3u * step]);
    rows[r] = vec2f(m.x + m.y + m.z, m.y - m.z - m.w);
  }
  let upper = rows[0] + rows[1] + rows[2];
  let lower = rows[1] - rows[2] - rows[3];
  let at = ((image * u.filters + f) * u.h + row) * u.w + column;
  let right = column + 1u < u.w;
  store_y(at, epilogue(upper.x, at));
  if (right) { store_y(at + 1u, epilogue(upper.y, at + 1u)); }
  if (row + 1u < u.h) {
    store_y(at + u.w, epilogue(lower.x, at + u.w));
    if (right) { store_y(at + u.w + 1u, epilogue(lower.y, at + u.w + 1u)); }
  }
}
