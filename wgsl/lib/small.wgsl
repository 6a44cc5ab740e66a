// Floats of 8 and 4 bits: format = (exponent bits, mantissa bits, bias, special values: 0 IEEE, 1 one NaN and no infinity, 2 that and no -0, 3 none).
fn power_of_two(e: i32) -> f32 {
  return bitcast<f32>(u32(e + 127) << 23u);
}

fn small_float(code: u32, format: vec4u) -> f32 {
  let man = format.y;
  let sign = 1u << (format.x + man);
  let top = (1u << format.x) - 1u;
  let e = (code >> man) & top;
  let m = code & ((1u << man) - 1u);
  let all = m == (1u << man) - 1u;
  if ((format.w == 2u && code == sign) || (format.w == 1u && e == top && all) || (format.w == 0u && e == top && m != 0u)) { return from_bits(0x7fc00000u); }
  if (format.w == 0u && e == top) { return from_bits(select(0x7f800000u, 0xff800000u, (code & sign) != 0u)); }
  let shift = i32(max(e, 1u)) - i32(format.z) - i32(man);
  let v = f32(select(m, m | (1u << man), e > 0u)) * power_of_two(shift);
  return select(v, -v, (code & sign) != 0u);
}

// Rounds to nearest even. Beyond `most`, whose code is `most_code`: that, if it saturates or must; else infinity or NaN.
fn small_float_code(v: f32, format: vec4u, most: f32, most_code: u32, saturate: bool) -> u32 {
  let man = format.y;
  let bit = 1u << (format.x + man);
  let w = bitcast<u32>(v);
  let mag = w & 0x7fffffffu;
  let sign = select(0u, bit, w != mag);
  let infinite = ((1u << format.x) - 1u) << man;
  let nan = select(bit - 1u, bit, format.w == 2u);
  if (mag > 0x7f800000u) { return nan; }
  let e = max(i32(mag >> 23u) - 127, 1 - i32(format.z));
  let n = round(bitcast<f32>(mag) * power_of_two(i32(man) - e));
  if (mag == 0x7f800000u || n * power_of_two(e - i32(man)) > most) {
    if (saturate || format.w == 3u) { return sign | most_code; }
    if (format.w == 2u) { return nan; }
    return sign | select(nan, infinite, format.w == 0u);
  }
  if (n == 0.0) { return select(sign, 0u, format.w == 2u); }
  return sign | ((u32(e + i32(format.z) - 1) << man) + u32(n));
}

// float8e8m0: powers of two.
fn e8m0_float(code: u32) -> f32 {
  return from_bits(select(select(code << 23u, 0x400000u, code == 0u), 0x7fc00000u, code == 255u));
}

// Rounded up (0), to nearest (1) or down (2); the sign is dropped.
fn e8m0_code(v: f32, mode: u32, saturate: bool) -> u32 {
  let mag = bitcast<u32>(v) & 0x7fffffffu;
  if (mag >= 0x7f800000u) { return 255u; }
  if (mag < 0x400000u) { return 0u; }
  let tiny = mag < 0x800000u;
  let rest = select(mag & 0x7fffffu, (mag & 0x3fffffu) << 1u, tiny);
  let up = (mode == 0u && rest > 0u) || (mode == 1u && rest >= 0x400000u);
  return min((mag >> 23u) + select(0u, 1u, up), select(255u, 254u, saturate));
}
