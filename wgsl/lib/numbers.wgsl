// The most negative finite f32: WGSL has no literal for -infinity, and may assume that there is none.
const LOWEST_F32: f32 = -3.40282346638528859812e+38f;

// Round to nearest even; values beyond the range of f16 become infinity (pack2x16float leaves them undefined).
fn pack_f16(a: f32, b: f32) -> u32 {
  return f16_bits(a) | (f16_bits(b) << 16u);
}

fn f16_bits(v: f32) -> u32 {
  let w = bitcast<u32>(v);
  let sign = (w >> 16u) & 0x8000u;
  let mag = w & 0x7fffffffu;
  if (mag > 0x7f800000u) { return sign | 0x7e00u; }
  if (mag >= 0x477ff000u) { return sign | 0x7c00u; }
  return sign | (pack2x16float(vec2f(bitcast<f32>(mag), 0.0)) & 0x7fffu);
}

// Round to nearest even to bfloat16.
fn pack_bf16(a: f32, b: f32) -> u32 {
  return bf16_bits(a) | (bf16_bits(b) << 16u);
}

fn bf16_bits(v: f32) -> u32 {
  let w = bitcast<u32>(v);
  if ((w & 0x7fffffffu) > 0x7f800000u) { return (w >> 16u) | 0x40u; }
  return (w + 0x7fffu + ((w >> 16u) & 1u)) >> 16u;
}
