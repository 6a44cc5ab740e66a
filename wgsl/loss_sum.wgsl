// y[0] = the sum of all losses, or their mean over the shares: one workgroup.

override WG: u32 = 64;
override MEAN: bool = true;

struct Uniforms { count: u32 }

@group(0) @binding(0) var<storage, read> loss: array<f32>;
@group(0) @binding(1) var<storage, read> share: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32) {
  var part = 0.0;
  var weight = 0.0;
  for (var k = lid; k < u.count; k += WG) {
    part += loss[k];
    weight += share[k];
  }
  let all = group_sum(part, lid);
  let shares = group_sum(weight, lid);
  if (lid == 0u) { store4_y(0u, select(all, all / shares, MEAN), 0.0, 0.0, 0.0); }
}
