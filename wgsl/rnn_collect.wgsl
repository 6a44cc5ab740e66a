// Outputs of a recurrent layer out of its states: Y, or with LAST only those after the last step; four elements an invocation.
//
// slot: fn put(i: u32, v: vec4f, left: u32)
// slot: fn steps_of(b: u32) -> u32

override WG: u32 = 64;
override DIRECTIONS: u32 = 1;
override HIDDEN: u32 = 1;
override LAYOUT: u32 = 0;
override LAST: bool = false;
override REVERSED: bool = false;

struct Uniforms { count: u32, batch: u32, steps: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<YStore>;
@group(0) @binding(2) var<uniform> u: Uniforms;

fn element(i: u32) -> f32 {
  var rest = i / HIDDEN;
  let unit = i - rest * HIDDEN;
  var t = 0u;
  var b = 0u;
  var d = 0u;
  if (LAYOUT == 0u) {
    b = rest % u.batch; rest /= u.batch;
    d = rest % DIRECTIONS; t = rest / DIRECTIONS;
  } else {
    d = rest % DIRECTIONS; rest /= DIRECTIONS;
    if (LAST) { b = rest; } else { t = rest % u.steps; b = rest / u.steps; }
  }
  let backwards = REVERSED || d == 1u;
  let steps = steps_of(b);
  if (!LAST && t >= steps) { return 0.0; }
  let moment = select(select(t + 1u, steps - t, backwards), u.steps, LAST);
  return x[((moment * DIRECTIONS + d) * u.batch + b) * HIDDEN + unit];
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = (id.y * groups.x * WG + id.x) * 4u;
  if (i >= u.count) { return; }
  let last = u.count - 1u;
  put(i, vec4f(element(i), element(min(i + 1u, last)), element(min(i + 2u, last)), element(min(i + 3u, last))), u.count - i);
}
