// One step of a recurrent layer, four hidden units of one batch entry and direction an invocation. `states` holds the hidden states, slot after
// slot, each [direction, entry, unit]; step s reads slot s and writes slot s + 1. `memory` is an LSTM's cell state, or a GRU's gates between its
// two phases. Reversed directions walk through time backwards, so that slots count steps and not moments.
//
// slot: fn advance(s: u32, at: UnitsAt) -> vec4f

override WG: u32 = 64;

struct Uniforms { step: u32, steps: u32, batch: u32 }

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<WeightsStore>;
@group(0) @binding(2) var<storage, read_write> states: array<f32>;
@group(0) @binding(3) var<storage, read_write> memory: array<f32>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= QUADS * u.batch * DIRECTIONS) { return; }
  let at = units_at(id.x);
  let h = advance(u.step, at);
  if (LAST_PHASE) { keep(u.step + 1u, at, h); }
}
