// Where the matrices of batch entry z start in a and b: x and y. Uses the module's uniforms dims, a_batch and b_batch, innermost dim first.
fn batch_starts(z: u32) -> vec2u {
  var rest = z;
  var at = vec2u(0u);
  for (var d = 0u; d < RANK; d++) {
    let next = rest / u.dims[d];
    at += (rest - next * u.dims[d]) * vec2u(u.a_batch[d], u.b_batch[d]);
    rest = next;
  }
  return at;
}

// Which of four neighbours from k on lie before n.
fn before(k: u32, n: u32) -> vec4<bool> {
  return vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(n);
}

// First row and column of tile x of a product, by the module's BM and BN. Neighbours take tiles of BAND rows of tiles, column by column, so that both
// operands stay in cache.
fn banded_tile(x: u32) -> vec2u {
  let down = (u.m + BM - 1u) / BM;
  let across = (u.n + BN - 1u) / BN;
  let band = x / (BAND * across);
  let height = min(down - band * BAND, BAND);
  let within = x - band * BAND * across;
  return vec2u((band * BAND + within % height) * BM, within / height * BN);
}
