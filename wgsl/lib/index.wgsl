// An index that may count from the end, kept inside its axis.
fn wrapped_index(v: i32, dim: u32) -> u32 {
  let n = bitcast<i32>(dim);
  return bitcast<u32>(clamp(select(v, v + n, v < 0), 0, n - 1));
}

fn index_fits(v: i32, dim: u32) -> bool {
  let n = bitcast<i32>(dim);
  return v >= -n && v < n;
}

// A 64-bit integer as 32 bits, saturated.
fn saturated_i32(v: vec2u) -> i32 {
  let low = bitcast<i32>(v.x);
  let high = bitcast<i32>(v.y);
  return select(select(2147483647, -2147483647, high < 0), low, high == (low >> 31u));
}
