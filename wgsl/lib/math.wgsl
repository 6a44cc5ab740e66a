// Float functions that hold where the built-in ones do not: drivers may assume that there is no NaN or infinity, tanh overflows on
// some, sin and atan may be coarse. Polynomials are those of the Cephes library (S. Moshier), single precision.

// Runtime, so that bits of NaN and infinity are not refused as a constant.
fn from_bits(bits: u32) -> f32 {
  return bitcast<f32>(bits);
}

fn is_nan(v: f32) -> bool {
  return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
}

fn is_inf(v: f32) -> bool {
  return (bitcast<u32>(v) & 0x7fffffffu) == 0x7f800000u;
}

// Not zero; NaN is.
fn is_nonzero(v: f32) -> bool {
  return (bitcast<u32>(v) & 0x7fffffffu) != 0u;
}

fn nan_min(a: f32, b: f32) -> f32 {
  return select(select(select(a, b, b < a), b, is_nan(b)), a, is_nan(a));
}

fn nan_max(a: f32, b: f32) -> f32 {
  return select(select(select(a, b, a < b), b, is_nan(b)), a, is_nan(a));
}

fn nan_sign(v: f32) -> f32 {
  return select(sign(v), v, is_nan(v));
}

// Some drivers make a number of NaN, or of the logarithm of 0.
fn nan_exp(v: f32) -> f32 {
  return select(exp(v), v, is_nan(v));
}

fn nan_log(v: f32) -> f32 {
  if (is_nan(v) || v < 0.0) { return from_bits(0x7fc00000u); }
  if (!is_nonzero(v)) { return from_bits(0xff800000u); }
  if (is_inf(v)) { return v; }
  return log(v);
}

fn nan_sqrt(v: f32) -> f32 {
  if (is_nan(v) || v < 0.0) { return from_bits(0x7fc00000u); }
  return sqrt(v);
}

fn log1p(v: f32) -> f32 {
  let s = v / (2.0 + v);
  let z = s * s;
  let near = 2.0 * s * (1.0 + z * (0.33333333 + z * (0.2 + z * (0.14285714 + z * (0.11111111 + z * 0.09090909)))));
  return select(nan_log(1.0 + v), near, abs(v) < 0.35);
}

fn sigmoid(v: f32) -> f32 {
  let e = nan_exp(-abs(v));
  let r = 1.0 / (1.0 + e);
  return select(r, e * r, v < 0.0);
}

fn softplus(v: f32) -> f32 {
  return select(0.0, v, v > 0.0) + log1p(nan_exp(-abs(v)));
}

fn safe_tanh(v: f32) -> f32 {
  let z = v * v;
  let near = v + v * z * ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1);
  let e = nan_exp(-2.0 * abs(v));
  let far = (1.0 - e) / (1.0 + e);
  return select(select(far, -far, v < 0.0), near, abs(v) < 0.625);
}

// Below 1 its Taylor series, above Abramowitz and Stegun 7.1.26 (error 1.5e-7).
fn erf(v: f32) -> f32 {
  let a = abs(v);
  let z = v * v;
  let near = v * (1.128379167 + z * (-0.3761263890 + z * (0.1128379167 + z * (-0.02686617064 + z * (5.223977625e-3 + z * (-8.548327023e-4 + z * (1.205533298e-4 + z * (-1.492565036e-5 + z * 1.646211437e-6))))))));
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * nan_exp(-z);
  return select(select(1.0 - tail, tail - 1.0, v < 0.0), near, a < 1.0);
}

// Bits of 2/pi after 32 zeros.
const TWO_OVER_PI = array<u32, 9>(0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u);

// v = q * pi/2 + r with |r| <= pi/4: (r, q mod 4). Cody-Waite below 8192, Payne-Hanek above.
fn quarter_turns(v: f32) -> vec2f {
  if (abs(v) < 8192.0) {
    let k = round(v * 0.6366197723675814);
    let r = ((v - k * 1.5703125) - k * 4.837512969970703125e-4) - k * 7.549789954891882e-8;
    return vec2f(r, k - 4.0 * floor(k * 0.25));
  }
  let bits = bitcast<u32>(v);
  let e = (bits >> 23u) & 0xffu;
  if (e == 255u) { return vec2f(from_bits(0x7fc00000u), 0.0); }
  let m = (bits & 0x7fffffu) | 0x800000u;
  let skip = e - 120u;
  let word = skip >> 5u;
  let s = skip & 31u;
  let back = (32u - s) & 31u;
  let a = TWO_OVER_PI[word];
  let b = TWO_OVER_PI[word + 1u];
  let c = TWO_OVER_PI[word + 2u];
  let d = TWO_OVER_PI[word + 3u];
  let w0 = select(a, (a << s) | (b >> back), s > 0u);
  let w1 = select(b, (b << s) | (c >> back), s > 0u);
  let w2 = select(c, (c << s) | (d >> back), s > 0u);
  let sum = add_i64(add_i64(wide_mul(m, w1), vec2u(wide_mul(m, w2).y, 0u)), vec2u(0u, m * w0));
  let part = (sum.y << 2u) | (sum.x >> 30u);
  let q = (sum.y >> 30u) + (part >> 31u);
  let r = f32(bitcast<i32>(part)) * 3.657295198167899e-10;
  if (v < 0.0) { return vec2f(-r, f32((4u - (q & 3u)) & 3u)); }
  return vec2f(r, f32(q & 3u));
}

fn sin_near(r: f32) -> f32 {
  let z = r * r;
  return r + r * z * ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1);
}

fn cos_near(r: f32) -> f32 {
  let z = r * r;
  return 1.0 - 0.5 * z + z * z * ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2);
}

fn safe_sin(v: f32) -> f32 {
  let t = quarter_turns(v);
  let r = select(sin_near(t.x), cos_near(t.x), t.y == 1.0 || t.y == 3.0);
  return select(r, -r, t.y >= 2.0);
}

fn safe_cos(v: f32) -> f32 {
  let t = quarter_turns(v);
  let r = select(cos_near(t.x), sin_near(t.x), t.y == 1.0 || t.y == 3.0);
  return select(r, -r, t.y == 1.0 || t.y == 2.0);
}

fn safe_tan(v: f32) -> f32 {
  let t = quarter_turns(v);
  let s = sin_near(t.x);
  let c = cos_near(t.x);
  return select(s / c, -c / s, t.y == 1.0 || t.y == 3.0);
}

fn safe_atan(v: f32) -> f32 {
  let a = abs(v);
  let far = a > 2.414213562373095;
  let middle = !far && a > 0.4142135623730950;
  let x = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / a, far);
  let z = x * x;
  let near = (((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1) * z * x + x;
  let r = select(select(0.0, 0.7853981633974483, middle), 1.5707963267948966, far) + near;
  return select(r, -r, v < 0.0);
}

fn asin_near(x: f32) -> f32 {
  let z = x * x;
  return ((((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 1.6666752422e-1) * z * x + x;
}

fn safe_asin(v: f32) -> f32 {
  let a = abs(v);
  if (!(a <= 1.0)) { return from_bits(0x7fc00000u); }
  let r = select(asin_near(a), 1.5707963267948966 - 2.0 * asin_near(sqrt(0.5 * (1.0 - a))), a > 0.5);
  return select(r, -r, v < 0.0);
}

fn safe_acos(v: f32) -> f32 {
  let a = abs(v);
  if (!(a <= 1.0)) { return from_bits(0x7fc00000u); }
  let end = 2.0 * asin_near(sqrt(0.5 * (1.0 - a)));
  return select(1.5707963267948966 - asin_near(v), select(end, 3.141592653589793 - end, v < 0.0), a > 0.5);
}

// Halves the exponent first, so that the result overflows and nothing before it.
fn safe_sinh(v: f32) -> f32 {
  let z = v * v;
  let near = v + v * z * ((2.03721912945e-4 * z + 8.33028376239e-3) * z + 1.66667160211e-1);
  let h = nan_exp(0.5 * abs(v));
  let far = 0.5 * h * h - 0.5 / (h * h);
  return select(select(far, -far, v < 0.0), near, abs(v) < 1.0);
}

fn safe_cosh(v: f32) -> f32 {
  let h = nan_exp(0.5 * abs(v));
  return 0.5 * h * h + 0.5 / (h * h);
}

fn safe_asinh(v: f32) -> f32 {
  let a = abs(v);
  let big = a > 1e4;
  let z = select(a, 1.0, big);
  let r = select(log1p(z + z * z / (1.0 + sqrt(z * z + 1.0))), nan_log(a) + 0.6931471805599453, big);
  return select(r, -r, v < 0.0);
}

fn safe_acosh(v: f32) -> f32 {
  if (!(v >= 1.0)) { return from_bits(0x7fc00000u); }
  let big = v > 1e4;
  let t = select(v, 2.0, big) - 1.0;
  return select(log1p(t + sqrt(2.0 * t + t * t)), log(v) + 0.6931471805599453, big);
}

fn safe_atanh(v: f32) -> f32 {
  let a = abs(v);
  if (!(a <= 1.0)) { return from_bits(0x7fc00000u); }
  if (a == 1.0) { return from_bits(select(0x7f800000u, 0xff800000u, v < 0.0)); }
  let r = 0.5 * log1p(2.0 * a / (1.0 - a));
  return select(r, -r, v < 0.0);
}

// C's pow but for the sign of zero: a negative base is defined for whole exponents.
fn safe_pow(a: f32, b: f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (is_nan(a) || is_nan(b)) { return from_bits(0x7fc00000u); }
  let m = abs(a);
  if (m == 0.0) { return select(0.0, from_bits(0x7f800000u), b < 0.0); }
  if (is_inf(m)) {
    let end = select(0.0, from_bits(0x7f800000u), b > 0.0);
    return select(end, -end, a < 0.0 && is_odd(b));
  }
  if (is_inf(b)) { return select(select(0.0, from_bits(0x7f800000u), (m > 1.0) == (b > 0.0)), 1.0, m == 1.0); }
  if (a > 0.0) { return pow(m, b); }
  if (b != trunc(b)) { return from_bits(0x7fc00000u); }
  return select(pow(m, b), -pow(m, b), is_odd(b));
}

fn is_odd(v: f32) -> bool {
  return abs(v) < 16777216.0 && (u32(abs(v)) & 1u) == 1u && v == trunc(v);
}

// C's fmod, exactly: long division of the significands, eight bits a step.
fn rem_f32(a: f32, b: f32) -> f32 {
  let x = bitcast<u32>(a) & 0x7fffffffu;
  let y = bitcast<u32>(b) & 0x7fffffffu;
  if (x >= 0x7f800000u || y > 0x7f800000u || y == 0u) { return from_bits(0x7fc00000u); }
  if (x < y) { return a; }
  let ex = max(x >> 23u, 1u);
  let ey = max(y >> 23u, 1u);
  let my = select(y & 0x7fffffu, (y & 0x7fffffu) | 0x800000u, y >= 0x800000u);
  var m = select(x & 0x7fffffu, (x & 0x7fffffu) | 0x800000u, x >= 0x800000u) % my;
  var left = ex - ey;
  while (left > 0u && m != 0u) {
    let step = min(left, 8u);
    m = (m << step) % my;
    left -= step;
  }
  if (m == 0u) { return from_bits(bitcast<u32>(a) & 0x80000000u); }
  let up = min(countLeadingZeros(m) - 8u, ey - 1u);
  let e = ey - up;
  let w = m << up;
  let r = select(w, (w & 0x7fffffu) | (e << 23u), w >= 0x800000u);
  return from_bits(r | (bitcast<u32>(a) & 0x80000000u));
}

// Python's %: the sign of the divisor.
fn mod_f32(a: f32, b: f32) -> f32 {
  let r = rem_f32(a, b);
  return select(r, r + b, r != 0.0 && (r < 0.0) != (b < 0.0));
}

fn mod_i32(a: i32, b: i32) -> i32 {
  let r = a % b;
  return select(r, r + b, r != 0 && (r < 0) != (b < 0));
}

fn pow_u32(a: u32, b: u32) -> u32 {
  var base = a;
  var rest = b;
  var r = 1u;
  while (rest != 0u) {
    if ((rest & 1u) == 1u) { r *= base; }
    base *= base;
    rest >>= 1u;
  }
  return r;
}

// A negative exponent gives the reciprocal, truncated.
fn pow_i32(a: i32, b: i32) -> i32 {
  if (b >= 0) { return bitcast<i32>(pow_u32(bitcast<u32>(a), bitcast<u32>(b))); }
  if (a == 1) { return 1; }
  if (a == -1) { return select(1, -1, (b & 1) == 1); }
  return 0;
}

fn shl_u32(a: u32, by: u32) -> u32 {
  return select(0u, a << (by & 31u), by < 32u);
}

fn shr_u32(a: u32, by: u32) -> u32 {
  return select(0u, a >> (by & 31u), by < 32u);
}

fn shr_i32(a: i32, by: i32) -> i32 {
  return a >> min(bitcast<u32>(by), 31u);
}

// Truncates; saturates out of range, and NaN is 0.
fn truncated_i32(v: f32) -> i32 {
  return i32(select(v, 0.0, is_nan(v)));
}

// Negative values wrap, as they do between integers.
fn truncated_u32(v: f32) -> u32 {
  if (is_nan(v)) { return 0u; }
  return select(u32(v), bitcast<u32>(i32(v)), v < 0.0);
}
