// y = a b for a stack of matrices, a register tile of TM rows by four columns an invocation: no workgroup memory, no barriers.
// The slot computes and stores the tile at `row` and column n of matrices that start at a0, b0 and y0.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, row: u32, n: u32)

override TM: u32 = 4;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u, wide: u32 }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

// A workgroup is `wide` invocations across: a uniform, so that products of all shapes share a pipeline.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let n = (wg.x * u.wide + lid % u.wide) * 4u;
  let row = (wg.y * (64u / u.wide) + lid / u.wide) * TM;
  if (n >= u.n || row >= u.m) { return; }
  let at = batch_starts(wg.z);
  tile(at.x, at.y, wg.z * u.m * u.n, row, n);
}
