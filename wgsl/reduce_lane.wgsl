// y[i] = post(merge of pre(x)) over n elements, an invocation an element of y: for short and for scattered sums, and software adapters.
// With `parts` > 1, i is a part of an element: those of its n from part * chunk on. Dims are innermost first, RANK of y's and DEPTH of the
// reduced ones. Runs of 128 are merged apart from one another, so that rounding does not pile up.
//
// slot: fn write(q: u32, last: u32)
// slot: fn first() -> A
// slot: fn pre(v: X, k: u32) -> A
// slot: fn merge(a: A, b: A) -> A
// slot: fn post(a: A) -> Y

override WG: u32 = 64;
override PER: u32 = 1;
override RANK: u32 = 1;
override DEPTH: u32 = 1;

struct Uniforms { count: u32, n: u32, parts: u32, chunk: u32, dims: array<vec4u, 2>, strides: array<vec4u, 2>, depths: array<vec4u, 2>, steps: array<vec4u, 2> }

@group(0) @binding(0) var<storage, read> x: array<XStore>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> Y {
  let owner = i / u.parts;
  let start = reduce_base(owner);
  let begin = (i - owner * u.parts) * u.chunk;
  let end = min(begin + u.chunk, u.n);
  var all = first();
  for (var k = begin; k < end; k += 128u) {
    let stop = min(k + 128u, end);
    var a = first();
    for (var j = k; j < stop; j++) { a = merge(a, pre(load_x(start + reduce_offset(j)), j)); }
    all = merge(all, a);
  }
  return post(all);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let q = id.y * groups.x * WG + id.x;
  if (q * PER >= u.count) { return; }
  write(q, u.count - 1u);
}
