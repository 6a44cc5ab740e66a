// The body of the norm modules: what a row's invocations do. Uses the module's parameters (WG, HELD, CENTRED), uniforms and slots.
fn normalise_group(row: u32, lid: u32) {
  let n = u.n;
  let rest = (HELD * WG + lid) * 4u;
  var held: array<vec4f, HELD>;
  var total = vec4f(0.0);
  for (var j = 0u; j < HELD; j++) {
    let k = (j * WG + lid) * 4u;
    held[j] = vec4f(0.0);
    if (k < n) { held[j] = within_row(take(row, k), k, n, 0.0); }
    total += held[j];
  }
  for (var k = rest; k < n; k += WG * 4u) { total += within_row(take(row, k), k, n, 0.0); }
  var mean = 0.0;
  if (CENTRED) { mean = group_sum(sum4(total), lid) / f32(n); }
  var square = vec4f(0.0);
  for (var j = 0u; j < HELD; j++) {
    held[j] = within_row(held[j] - mean, (j * WG + lid) * 4u, n, 0.0);
    square += held[j] * held[j];
  }
  for (var k = rest; k < n; k += WG * 4u) {
    let d = within_row(again(row, k) - mean, k, n, 0.0);
    square += d * d;
  }
  let scale = inverseSqrt(group_sum(sum4(square), lid) / f32(n) + u.epsilon);
  for (var j = 0u; j < HELD; j++) {
    let k = (j * WG + lid) * 4u;
    if (k < n) { put(row, k, held[j] * scale); }
  }
  for (var k = rest; k < n; k += WG * 4u) { put(row, k, (again(row, k) - mean) * scale); }
}

// An invocation alone.
fn normalise_lane(row: u32) {
  let n = u.n;
  var mean = 0.0;
  if (CENTRED) {
    var total = vec4f(0.0);
    for (var k = 0u; k < n; k += 4u) { total += within_row(again(row, k), k, n, 0.0); }
    mean = sum4(total) / f32(n);
  }
  var square = vec4f(0.0);
  for (var k = 0u; k < n; k += 4u) {
    let d = within_row(take(row, k) - mean, k, n, 0.0);
    square += d * d;
  }
  let scale = inverseSqrt(sum4(square) / f32(n) + u.epsilon);
  for (var k = 0u; k < n; k += 4u) { put(row, k, (again(row, k) - mean) * scale); }
}
