// Where a window at output o starts along each of three dims, and its plane. Uses the module's uniforms out, strides and pads.
struct WindowAt { plane: u32, start: vec3i }
fn window_at(o: u32) -> WindowAt {
  let x = o % u.out.z;
  let rest = o / u.out.z;
  let y = rest % u.out.y;
  let upper = rest / u.out.y;
  let z = upper % u.out.x;
  return WindowAt(upper / u.out.x, vec3i(i32(z), i32(y), i32(x)) * u.strides.xyz - u.pads.xyz);
}

fn outside(i: i32, size: i32) -> bool {
  return i < 0 || i >= size;
}

// |v|^p, with the common powers spelled out.
fn power_of(v: f32, p: f32) -> f32 {
  let a = abs(v);
  if (p == 1.0) { return a; }
  if (p == 2.0) { return a * a; }
  return select(pow(a, p), 0.0, a == 0.0);
}

fn root_of(v: f32, p: f32) -> f32 {
  if (p == 1.0) { return v; }
  if (p == 2.0) { return sqrt(v); }
  return select(pow(v, 1.0 / p), 0.0, v == 0.0);
}
