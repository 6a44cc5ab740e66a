// As matmul_nbits, of bytes: a is what nbits_bytes left, and products of four bytes are one instruction where hardware has it.
//
// slot: fn tile(row: u32, n: u32)

override WX: u32 = 16;
override WY: u32 = 4;
override TM: u32 = 4;
override N: u32 = 4;

struct Uniforms { m: u32 }

@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> units: array<vec2f>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<YStore>;
@group(0) @binding(4) var<uniform> u: Uniforms;

@compute @workgroup_size(WX, WY)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x * 4u >= N || id.y * TM >= u.m) { return; }
  tile(id.y * TM, id.x * 4u);
}
