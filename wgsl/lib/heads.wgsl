// Elements of heads in memory, by the uniforms heads, rows, size and x_lies; the slot `value` makes one.
fn fresh(b: u32, h: u32, i: u32, d: u32) -> f32 { return load_x(u.x_lies.x + b * u.x_lies.y + h * u.x_lies.z + i * u.x_lies.w + d); }

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
