// Row (r, j) of x times the weights of expert experts[r, j], plus its bias: an invocation makes four outputs that lie side by side. An expert that is
// none sets `fault`.
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

fn element(i: u32) -> f32 {
  let pair = i / N;
  let chosen = load_experts(pair);
  if (chosen.y != 0u || chosen.x >= EXPERTS) { atomicOr(&fault[0], 1u); }
  let row = min(chosen.x, EXPERTS - 1u) * N + i - pair * N;
  let begin = pair / u.slots * K;
  var sum = 0.0;
  for (var k = 0u; k < K; k += 4u) { sum += dot(vec4f(load_x(begin + k), load_x(begin + k + 1u), load_x(begin + k + 2u), load_x(begin + k + 3u)), weights4(row, k)); }
  return sum + bias(row);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * 4u >= u.count) { return; }
  let i = q * 4u;
  let last = u.count - 1u;
  store4_y(q, element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last)));
}
