// x with the first lengths[b] time steps of each batch entry b reversed. The first two axes are time and batch, or with BATCH_FIRST
// batch and time; a step has `inner` elements. A length beyond `steps` sets `fault`.
//
// slot: fn write(q: u32, last: u32)

override WG: u32 = 64;
override PER: u32 = 1;
override BATCH_FIRST: bool = false;

struct Uniforms { count: u32, inner: u32, steps: u32, batch: u32 }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read> lengths: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<storage, read_write> fault: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let line = i / u.inner;
  let columns = select(u.batch, u.steps, BATCH_FIRST);
  let first = line / columns;
  let second = line - first * columns;
  let step = select(first, second, BATCH_FIRST);
  let entry = select(second, first, BATCH_FIRST);
  let given = saturated_i32(lengths[entry]);
  if (given < 0 || given > bitcast<i32>(u.steps)) { atomicOr(&fault[0], 1u); }
  let length = min(bitcast<u32>(max(given, 0)), u.steps);
  let source = select(step, length - 1u - step, step < length);
  return load_x(select(source * u.batch + entry, entry * u.steps + source, BATCH_FIRST) * u.inner + i - line * u.inner);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
