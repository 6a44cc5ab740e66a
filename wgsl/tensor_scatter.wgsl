// y = the cache x with the entries of `update` written along an axis from each batch entry's start on, in units that lie `inner` a row; round
// the end if CIRCULAR. A start from which they do not fit sets `fault`.
//
// slot: fn write(q: u32, last: u32)
// slot: fn start_of(b: u32) -> i32

override WG: u32 = 64;
override PER: u32 = 1;
override CIRCULAR: bool = false;

struct Uniforms { count: u32, inner: u32, long: u32, short: u32, per_batch: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> update: array<UpdateStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let row = i / u.inner;
  let r = row / u.long;
  let start = start_of(r / u.per_batch);
  if (start < 0 || (!CIRCULAR && start > i32(u.long - u.short))) { atomicOr(&fault[0], 1u); return load_x(i); }
  let k = row - r * u.long;
  let at = (k + u.long - u32(start) % u.long) % u.long;
  let after = CIRCULAR || k >= u32(start);
  if (after && at < u.short) { return load_update((r * u.short + at) * u.inner + i - row * u.inner); }
  return load_x(i);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
