// y = the parts of attention_split put together; an invocation four elements.
//
// slot: fn put(at: u32, d: u32, v: vec4f)
// slot: fn sink(h: u32) -> f32

override WG: u32 = 64;
override ROWS: u32 = 4;
override QUADS: u32 = 16;

struct Uniforms { count: u32, heads: u32, share: u32, queries: u32, chunks: u32, blocks: u32, quads: u32, y_lies: vec4u }

@group(0) @binding(0) var<storage, read> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let e = id.y * groups.x * WG + id.x;
  if (e >= u.count) { return; }
  let line = e / u.quads;
  let d = e - line * u.quads;
  let who = query_at(line);
  let b = who.x;
  let h = who.y;
  let i = who.z;
  let g = h / u.share;
  let row = (h - g * u.share) * u.queries + i;
  let block = row / ROWS;
  let start = ((b * u.heads / u.share + g) * u.blocks + block) * u.chunks;
  var top = sink(h);
  for (var c = 0u; c < u.chunks; c++) { top = max(top, parts[((start + c) * ROWS + row % ROWS) * (QUADS + 1u) + QUADS].x); }
  var sum = select(0.0, exp(sink(h) - top), sink(h) > LOWEST_F32);
  var all = vec4f(0.0);
  for (var c = 0u; c < u.chunks; c++) {
    let at = ((start + c) * ROWS + row % ROWS) * (QUADS + 1u);
    let own = parts[at + QUADS];
    let by = select(0.0, exp(own.x - top), own.x > LOWEST_F32);
    sum += by * own.y;
    all += by * parts[at + d];
  }
  put(row_at(u.y_lies, b, h, i), d * 4u, all * select(0.0, 1.0 / sum, sum > 0.0));
}
