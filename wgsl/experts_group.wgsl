// Row (r, j) of x times the weights of expert experts[r, j], plus its bias: a workgroup makes four outputs that lie side by side, its invocations
// taking turns along the rows of weights. An expert that is none sets `fault`.
//
// slot: fn weights4(row: u32, k: u32) -> vec4f
// slot: fn bias(row: u32) -> f32

override WG: u32 = 64;
override EXPERTS: u32 = 1;
override N: u32 = 4;
override K: u32 = 4;

struct Uniforms { count: u32, slots: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> experts: array<ExpertsStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

var<workgroup> sums: array<vec4f, WG>;

// The row of weights and the row of x of output i.
fn place(i: u32) -> vec2u {
  let pair = i / N;
  let chosen = load_experts(pair);
  if (chosen.y != 0u || chosen.x >= EXPERTS) { atomicOr(&fault[0], 1u); }
  return vec2u(min(chosen.x, EXPERTS - 1u) * N + i - pair * N, pair / u.slots * K);
}

fn part(at: vec2u, k: u32) -> f32 {
  return dot(vec4f(load_x(at.y + k), load_x(at.y + k + 1u), load_x(at.y + k + 2u), load_x(at.y + k + 3u)), weights4(at.x, k));
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = wg.y * groups.x + wg.x;
  let last = u.count - 1u;
  let i = min(q * 4u, last);
  let a = place(i);
  let b = place(min(i + 1u, last));
  let c = place(min(i + 2u, last));
  let d = place(min(i + 3u, last));
  var own = vec4f(0.0);
  for (var k = lid * 4u; k < K; k += WG * 4u) { own += vec4f(part(a, k), part(b, k), part(c, k), part(d, k)); }
  sums[lid] = own;
  workgroupBarrier();
  for (var width = WG / 2u; width > 0u; width /= 2u) {
    if (lid < width) { sums[lid] += sums[lid + width]; }
    workgroupBarrier();
  }
  if (lid == 0u && q * 4u < u.count) {
    let s = sums[0];
    store4_y(q, s.x + bias(a.x), s.y + bias(b.x), s.z + bias(c.x), s.w + bias(d.x));
  }
}
