// a / b, rounded correctly but for rare cases, where adapters' own division may be off by some units: a tie must round as it does elsewhere.
// The remainder is exact because products of numbers with 12 significant bits are.
fn divided(a: f32, b: f32) -> f32 {
  let q = a / b;
  let qh = bitcast<f32>(bitcast<u32>(q) & 0xfffff000u);
  let bh = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
  let ql = q - qh;
  let bl = b - bh;
  let rest = (((a - qh * bh) - qh * bl) - ql * bh) - ql * bl;
  return select(q, q + rest / b, abs(q) < 1e30 && abs(b) < 1e30);
}
