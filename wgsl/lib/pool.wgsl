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

// The greatest element of the window at output o, and where it lies: in the plane that begins at `base`. None is found in a window in the padding.
struct Greatest { value: Value, base: i32, at: vec3i, found: bool }
fn greatest_in(o: u32) -> Greatest {
  let window = window_at(o);
  let base = i32(window.plane) * u.size.x * u.size.y * u.size.z;
  var best = lowest();
  var at = vec3i(0);
  var found = false;
  for (var k0 = 0u; k0 < K0; k0++) {
    let i0 = window.start.x + i32(k0) * u.dilations.x;
    if (outside(i0, u.size.x)) { continue; }
    for (var k1 = 0u; k1 < K1; k1++) {
      let i1 = window.start.y + i32(k1) * u.dilations.y;
      if (outside(i1, u.size.y)) { continue; }
      for (var k2 = 0u; k2 < K2; k2++) {
        let i2 = window.start.z + i32(k2) * u.dilations.z;
        if (outside(i2, u.size.z)) { continue; }
        let v = load_x(bitcast<u32>(base + (i0 * u.size.y + i1) * u.size.z + i2));
        if (!found || v > best) {
          best = v;
          at = vec3i(i0, i1, i2);
        }
        found = true;
      }
    }
  }
  return Greatest(best, base, at, found);
}
