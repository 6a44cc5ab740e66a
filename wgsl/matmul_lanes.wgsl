// y = a b for a stack of matrices, TM rows by four columns an invocation, all invocations of a workgroup in the same rows: each lane of a
// subgroup holds some depths of those rows and hands them to the others, so that no workgroup memory is used and a is read once a subgroup.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, row: u32, column: u32, lane: u32, lanes: u32)

override WG: u32 = 64;
override TM: u32 = 4;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u, @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) lanes: u32) {
  let at = batch_starts(wg.z);
  tile(at.x, at.y, wg.z * u.m * u.n, wg.y * TM, (wg.x * WG + lid) * 4u, lane, lanes);
}
