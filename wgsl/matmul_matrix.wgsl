// y = a b for a stack of matrices, a tile of BM rows by BN columns a workgroup, staged through workgroup memory and multiplied by subgroup matrices: each
// subgroup has a strip of the rows.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, row: u32, column: u32, lid: u32, strip: u32, lane: u32, lanes: u32)

override WG: u32 = 128;
override BM: u32 = 64;
override BN: u32 = 64;
override BAND: u32 = 8;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(subgroup_id) strip: u32, @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) lanes: u32) {
  let at = batch_starts(wg.z);
  let place = banded_tile(wg.x);
  tile(at.x, at.y, wg.z * u.m * u.n, place.x, place.y, lid, strip, lane, lanes);
}
