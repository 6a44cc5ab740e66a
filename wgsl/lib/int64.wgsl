// 64-bit integers as vec2u(low, high), two's complement, wrapping: WGSL has none of its own.
fn add_i64(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub_i64(a: vec2u, b: vec2u) -> vec2u {
  return vec2u(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn neg_i64(a: vec2u) -> vec2u {
  return vec2u(0u - a.x, ~a.y + select(0u, 1u, a.x == 0u));
}

fn negative_i64(a: vec2u) -> bool {
  return (a.y >> 31u) == 1u;
}

fn abs_i64(a: vec2u) -> vec2u {
  return select(a, neg_i64(a), negative_i64(a));
}

// The whole product of two words.
fn wide_mul(a: u32, b: u32) -> vec2u {
  let al = a & 0xffffu; let ah = a >> 16u;
  let bl = b & 0xffffu; let bh = b >> 16u;
  let low = al * bl;
  let mid = ah * bl + (low >> 16u);
  let cross = al * bh + (mid & 0xffffu);
  return vec2u(a * b, ah * bh + (mid >> 16u) + (cross >> 16u));
}

fn mul_i64(a: vec2u, b: vec2u) -> vec2u {
  let p = wide_mul(a.x, b.x);
  return vec2u(p.x, p.y + a.x * b.y + a.y * b.x);
}

fn eq_i64(a: vec2u, b: vec2u) -> bool {
  return a.x == b.x && a.y == b.y;
}

fn lt_u64(a: vec2u, b: vec2u) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn lt_i64(a: vec2u, b: vec2u) -> bool {
  return bitcast<i32>(a.y) < bitcast<i32>(b.y) || (a.y == b.y && a.x < b.x);
}

fn min_i64(a: vec2u, b: vec2u) -> vec2u {
  return select(a, b, lt_i64(b, a));
}

fn max_i64(a: vec2u, b: vec2u) -> vec2u {
  return select(a, b, lt_i64(a, b));
}

fn min_u64(a: vec2u, b: vec2u) -> vec2u {
  return select(a, b, lt_u64(b, a));
}

fn max_u64(a: vec2u, b: vec2u) -> vec2u {
  return select(a, b, lt_u64(a, b));
}

fn sign_i64(a: vec2u) -> vec2u {
  return select(vec2u(select(1u, 0u, (a.x | a.y) == 0u), 0u), vec2u(0xffffffffu), negative_i64(a));
}

fn shl_u64(a: vec2u, by: vec2u) -> vec2u {
  let n = by.x;
  if (by.y != 0u || n >= 64u) { return vec2u(0u); }
  if (n == 0u) { return a; }
  if (n >= 32u) { return vec2u(0u, a.x << (n - 32u)); }
  return vec2u(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

fn shr_u64(a: vec2u, by: vec2u) -> vec2u {
  let n = by.x;
  if (by.y != 0u || n >= 64u) { return vec2u(0u); }
  if (n == 0u) { return a; }
  if (n >= 32u) { return vec2u(a.y >> (n - 32u), 0u); }
  return vec2u((a.x >> n) | (a.y << (32u - n)), a.y >> n);
}

fn shr_i64(a: vec2u, by: vec2u) -> vec2u {
  if (negative_i64(a)) { return ~shr_u64(~a, by); }
  return shr_u64(a, by);
}

// Quotient in xy, remainder in zw; by schoolbook division where a word is not enough.
fn div_rem_u64(a: vec2u, b: vec2u) -> vec4u {
  if (a.y == 0u && b.y == 0u) {
    let d = max(b.x, 1u);
    let q = a.x / d;
    return vec4u(q, 0u, a.x - q * d, 0u);
  }
  var q = vec2u(0u);
  var r = vec2u(0u);
  for (var i = 0u; i < 64u; i++) {
    let k = 63u - i;
    let bit = (select(a.x, a.y, k >= 32u) >> (k & 31u)) & 1u;
    let carry = r.y >> 31u;
    r = vec2u((r.x << 1u) | bit, (r.y << 1u) | (r.x >> 31u));
    q = vec2u(q.x << 1u, (q.y << 1u) | (q.x >> 31u));
    if (carry == 1u || !lt_u64(r, b)) {
      r = sub_i64(r, b);
      q.x |= 1u;
    }
  }
  return vec4u(q, r);
}

fn div_u64(a: vec2u, b: vec2u) -> vec2u {
  return div_rem_u64(a, b).xy;
}

fn rem_u64(a: vec2u, b: vec2u) -> vec2u {
  return div_rem_u64(a, b).zw;
}

fn div_i64(a: vec2u, b: vec2u) -> vec2u {
  let q = div_rem_u64(abs_i64(a), abs_i64(b)).xy;
  return select(q, neg_i64(q), negative_i64(a) != negative_i64(b));
}

fn rem_i64(a: vec2u, b: vec2u) -> vec2u {
  let r = div_rem_u64(abs_i64(a), abs_i64(b)).zw;
  return select(r, neg_i64(r), negative_i64(a));
}

// The remainder with the divisor's sign.
fn mod_i64(a: vec2u, b: vec2u) -> vec2u {
  let r = rem_i64(a, b);
  return select(r, add_i64(r, b), (r.x | r.y) != 0u && negative_i64(r) != negative_i64(b));
}

fn pow_u64(a: vec2u, b: vec2u) -> vec2u {
  var base = a;
  var rest = b.x;
  var r = vec2u(1u, 0u);
  while (rest != 0u) {
    if ((rest & 1u) == 1u) { r = mul_i64(r, base); }
    base = mul_i64(base, base);
    rest >>= 1u;
  }
  return r;
}

// A negative exponent gives the reciprocal, truncated.
fn pow_i64(a: vec2u, b: vec2u) -> vec2u {
  if (!negative_i64(b)) { return pow_u64(a, b); }
  if (eq_i64(a, vec2u(1u, 0u))) { return a; }
  if (eq_i64(a, vec2u(0xffffffffu))) { return select(vec2u(1u, 0u), a, (b.x & 1u) == 1u); }
  return vec2u(0u);
}

fn i64_of_i32(a: i32) -> vec2u {
  return vec2u(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

// Truncates; beyond the range it saturates, and NaN is 0.
fn u64_of_f32(v: f32) -> vec2u {
  if (!(v >= 1.0)) { return vec2u(0u); }
  if (v >= 18446744073709551616.0) { return vec2u(0xffffffffu); }
  let whole = trunc(v);
  let high = floor(whole * 2.3283064365386963e-10);
  return vec2u(u32(whole - high * 4294967296.0), u32(high));
}

fn i64_of_f32(v: f32) -> vec2u {
  let negative = v < 0.0;
  let m = u64_of_f32(abs(v));
  if (m.y >= 0x80000000u) { return select(vec2u(0xffffffffu, 0x7fffffffu), vec2u(0u, 0x80000000u), negative); }
  return select(m, neg_i64(m), negative);
}

// Negative values wrap, as they do between integers.
fn wrapping_u64_of_f32(v: f32) -> vec2u {
  return select(u64_of_f32(v), i64_of_f32(v), v < 0.0);
}

// Rounds to nearest even: the bits that one word cannot hold live on as one sticky bit.
fn f32_of_u64(a: vec2u) -> f32 {
  if (a.y == 0u) { return f32(a.x); }
  let s = countLeadingZeros(a.y);
  let top = select(a.y, (a.y << s) | (a.x >> ((32u - s) & 31u)), s > 0u);
  let sticky = select(0u, 1u, (a.x << s) != 0u);
  return f32(top | sticky) * from_bits((159u - s) << 23u);
}

fn f32_of_i64(a: vec2u) -> f32 {
  let m = f32_of_u64(abs_i64(a));
  return select(m, -m, negative_i64(a));
}
