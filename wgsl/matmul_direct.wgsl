// y = a b for a stack of matrices, a register tile of TM rows by four columns an invocation: no workgroup memory, no barriers.
// The slot computes and stores the tile at `row` and column n of matrices that start at a0, b0 and y0.
//
// slot: fn tile(a0: u32, b0: u32, y0: u32, row: u32, n: u32)

override WX: u32 = 8;
override WY: u32 = 8;
override TM: u32 = 4;
override RANK: u32 = 0;

struct Uniforms { m: u32, n: u32, k: u32, count: u32, a_row: u32, a_col: u32, b_row: u32, b_col: u32, dims: vec4u, a_batch: vec4u, b_batch: vec4u }

@group(0) @binding(0) var<storage, read> a: array<AStore>;
@group(0) @binding(1) var<storage, read> b: array<BStore>;
@group(0) @binding(2) var<storage, read_write> y: array<YStore>;
@group(0) @binding(3) var<uniform> u: Uniforms;

@compute @workgroup_size(WX, WY)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let n = id.x * 4u;
  let row = id.y * TM;
  if (n >= u.n || row >= u.m) { return; }
  let at = batch_starts(id.z);
  tile(at.x, at.y, id.z * u.m * u.n, row, n);
}
