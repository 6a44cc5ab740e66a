// y[b][…][start + s][inner] = update[b][…][s][inner]: entries of a cache that is there already, written from each batch entry's start on, in units that lie `inner` a row;
// round the end if CIRCULAR. A start from which they do not fit sets `fault`, and nothing is written.
//
// slot: fn put(at: u32, i: u32)
// slot: fn start_of(b: u32) -> i32

override WG: u32 = 64;
override CIRCULAR: bool = false;

struct Uniforms { count: u32, inner: u32, long: u32, short: u32, per_batch: u32 }

@group(0) @binding(0) var<storage, read> updates: array<UpdatesStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * WG + id.x;
  if (i >= u.count) { return; }
  let row = i / u.inner;
  let r = row / u.short;
  let start = start_of(r / u.per_batch);
  if (start < 0 || (!CIRCULAR && start > i32(u.long - u.short))) { atomicOr(&fault[0], 1u); return; }
  let k = (u32(start) % u.long + row - r * u.short) % u.long;
  put((r * u.long + k) * u.inner + i - row * u.inner, i);
}
