// Linear attention step by step: an invocation owns one column of a head's state (size by width), which it decays, corrects, extends and reads.
//
// slot: fn keep(row: u32, g: u32, i: u32) -> f32
// slot: fn rate(row: u32, g: u32) -> f32
// slot: fn past(i: u32) -> f32

override WG: u32 = 64;
override GATED: bool = false;
override DELTA: bool = false;

struct Uniforms { count: u32, steps: u32, heads: u32, kv_heads: u32, out_heads: u32, size: u32, width: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> q: array<QStore>;
@group(0) @binding(1) var<storage, read> k: array<KStore>;
@group(0) @binding(2) var<storage, read> v: array<VStore>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<uniform> u: Uniforms;

fn run(column: u32) {
  let j = column % u.width;
  let bg = column / u.width;
  let b = bg / u.kv_heads;
  let g = bg - b * u.kv_heads;
  let at = bg * u.size * u.width + j;
  for (var i = 0u; i < u.size; i++) { state[at + i * u.width] = past(at + i * u.width); }
  let per = u.out_heads / u.kv_heads;
  for (var t = 0u; t < u.steps; t++) {
    let row = b * u.steps + t;
    let key = (row * u.kv_heads + g) * u.size;
    var add = load_v((row * u.kv_heads + g) * u.width + j);
    if (GATED || DELTA) {
      for (var i = 0u; i < u.size; i++) {
        let s = state[at + i * u.width] * keep(row, g, i);
        state[at + i * u.width] = s;
        if (DELTA) { add -= s * load_k(key + i); }
      }
    }
    if (DELTA) { add *= rate(row, g); }
    for (var i = 0u; i < u.size; i++) { state[at + i * u.width] += load_k(key + i) * add; }
    for (var h = g * per; h < (g + 1u) * per; h++) {
      let query = (row * u.heads + h * u.heads / u.out_heads) * u.size;
      var sum = 0.0;
      for (var i = 0u; i < u.size; i++) { sum += load_q(query + i) * state[at + i * u.width]; }
      y[(row * u.out_heads + h) * u.width + j] = sum * u.scale;
    }
  }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let c = id.y * groups.x * WG + id.x;
  if (c >= u.count) { return; }
  run(c);
}
