// Discrete Fourier transforms of n elements, formed as they are defined: y[o][k][i] for bins k, of the elements signal(o, i, j). PARTS 1: only
// the real part is wanted.
//
// slot: fn write(q: u32, last: u32)
// slot: fn signal(o: u32, i: u32, j: u32) -> vec2f

override WG: u32 = 64;
override PER: u32 = 1;
override PARTS: u32 = 2;

struct Uniforms { count: u32, n: u32, bins: u32, inner: u32, scale: f32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> roots: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

fn element(e: u32) -> f32 {
  let p = e / PARTS;
  let row = p / u.inner;
  let o = row / u.bins;
  let k = row - o * u.bins;
  var sum = vec2f(0.0);
  var at = 0u;
  for (var j = 0u; j < u.n; j++) {
    let v = signal(o, p - row * u.inner, j);
    let r = roots[at];
    sum += vec2f(v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x);
    at += k;
    at -= select(0u, u.n, at >= u.n);
  }
  return select(sum.x, sum.y, PARTS == 2u && e - p * PARTS == 1u) * u.scale;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
