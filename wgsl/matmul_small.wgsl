// y = a b where a has few rows: 16 quads of columns a workgroup, and its depth shared by the invocations of a quad.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, n: u32, x: u32, part: u32)

override PARTS: u32 = 16;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(16, PARTS)
fn main(@builtin(local_invocation_id) lid: vec3u, @builtin(workgroup_id) wg: vec3u) {
  let at = batch_starts(wg.z);
  tile(at.x, at.y, wg.z * u.m * u.n, (wg.x * 16u + lid.x) * 4u, lid.x, lid.y);
}
