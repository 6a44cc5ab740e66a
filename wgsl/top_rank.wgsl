// y[line][r] = the place of the element that comes r-th in its line, r below k: an invocation an element counts those that come before it.
// Of equals the lower place comes first.
//
// slot: fn less(a: X, b: X) -> bool

override WG: u32 = 64;
override LARGEST: bool = true;

struct Uniforms { count: u32, n: u32, inner: u32, k: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<vec2u>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn rank(i: u32) {
  let row = i / u.inner;
  let line = row / u.n;
  let own = row - line * u.n;
  let rest = i - row * u.inner;
  let at = line * u.n * u.inner + rest;
  let v = load_x(i);
  var ahead = 0u;
  for (var j = 0u; j < u.n; j++) {
    let w = load_x(at + j * u.inner);
    let sooner = (LARGEST && less(v, w)) || (!LARGEST && less(w, v));
    let later = (LARGEST && less(w, v)) || (!LARGEST && less(v, w));
    ahead += select(0u, 1u, sooner || (!later && j < own));
  }
  if (ahead < u.k) { y[(line * u.k + ahead) * u.inner + rest] = vec2u(own, 0u); }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q >= u.count) { return; }
  rank(q);
}
