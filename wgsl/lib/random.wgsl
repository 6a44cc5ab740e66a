fn philox(counter: u32, stream: u32, key: vec2u) -> vec4u {
  var c = vec4u(counter, stream, 0u, 0u);
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let a = wide_mul(0xd2511f53u, c.x);
    let b = wide_mul(0xcd9e8d57u, c.z);
    c = vec4u(b.y ^ c.y ^ k.x, b.x, a.y ^ c.w ^ k.y, a.x);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// In [0, 1).
fn unit_floats(bits: vec4u) -> vec4f {
  return vec4f(bits >> vec4u(8u)) * 5.9604644775390625e-8;
}

// Standard normal numbers by Box and Muller's transform, in pairs.
fn normal_floats(bits: vec4u) -> vec4f {
  let v = unit_floats(bits);
  let r = sqrt(-2.0 * log(vec2f(1.0) - v.xz));
  let turn = 6.283185307179586 * v.yw;
  return vec4f(r.x * cos(turn.x), r.x * sin(turn.x), r.y * cos(turn.y), r.y * sin(turn.y));
}
