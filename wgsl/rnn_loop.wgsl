// All steps of a recurrent layer as in rnn_step, a workgroup for every batch entry and direction, its hidden state in workgroup memory: QUADS
// invocations of four units each, times as many as share the sums over that state, of which the first (part 0) has the result. `advance`
// has barriers, the last of them behind all that reads the state of other units.
//
// slot: fn advance(s: u32, at: UnitsAt, part: u32) -> vec4f

override WG: u32 = 64;

struct Uniforms { steps: u32, batch: u32 }

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<WeightsStore>;
@group(0) @binding(2) var<storage, read_write> states: array<f32>;
@group(0) @binding(3) var<storage, read_write> memory: array<f32>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u) {
  let part = lid / QUADS;
  let at = units_at(wg.x * QUADS + lid % QUADS);
  if (part == 0u) { share(at.unit, old_state(0u, at)); }
  workgroupBarrier();
  for (var s = 0u; s < u.steps; s++) {
    let h = advance(s, at, part);
    if (part == 0u) {
      share(at.unit, h);
      keep(s + 1u, at, h);
    }
    workgroupBarrier();
  }
}
