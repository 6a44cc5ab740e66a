// y = a b for a stack of matrices, a tile of BM rows by BN columns a workgroup, staged through workgroup memory. With SLICES the depth is
// shared among as many workgroups, and y holds their partial results, a slice after the other.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, row: u32, column: u32, slice: u32, lid: u32)

override WG: u32 = 256;
override BM: u32 = 64;
override BN: u32 = 64;
override BAND: u32 = 8;
override SLICES: u32 = 1;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u) {
  let z = wg.z / SLICES;
  let slice = wg.z % SLICES;
  let at = batch_starts(z);
  let place = banded_tile(wg.x);
  tile(at.x, at.y, (slice * u.count + z) * u.m * u.n, place.x, place.y, slice, lid);
}
