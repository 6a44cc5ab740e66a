// As matmul_nbits, but four rows of b a workgroup, whose invocations take turns at their blocks, so that neighbours read neighbouring blocks.
//
// slot: fn tile(row: u32, n: u32, lane: u32)

override WG: u32 = 64;
override TM: u32 = 1;

struct Uniforms { m: u32 }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(workgroup_id) wg: vec3u) {
  tile(wg.y * TM, wg.x * 4u, lid);
}
