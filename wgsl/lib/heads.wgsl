// Elements of heads in memory, by the uniforms heads, rows, size and x_lies; the slot `value` makes one.
fn fresh(b: u32, h: u32, i: u32, d: u32) -> f32 { return load_x(row_at(u.x_lies, b, h, i) + d); }

fn head_element(e: u32) -> vec4u {
  let row = e / u.size;
  let bh = row / u.rows;
  let b = bh / u.heads;
  return vec4u(b, bh - b * u.heads, row - bh * u.rows, e - row * u.size);
}

fn element(e: u32) -> f32 {
  let at = head_element(e);
  return value(at.x, at.y, at.z, at.w);
}

// Where row i of head h of batch entry b begins in a tensor that lies so: from where, and the strides of batch, head and row.
fn row_at(lies: vec4u, b: u32, h: u32, i: u32) -> u32 {
  return lies.x + b * lies.y + h * lies.z + i * lies.w;
}

// Batch entry, head and query of a row of scores, by the uniforms queries and heads.
fn query_at(row: u32) -> vec3u {
  let bh = row / u.queries;
  let b = bh / u.heads;
  return vec3u(b, bh - b * u.heads, row - bh * u.queries);
}
