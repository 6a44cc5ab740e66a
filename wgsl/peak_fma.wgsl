// Multiply-adds in registers, eight independent chains of four an invocation: what a device can compute at most.

override WG: u32 = 64;
override STEPS: u32 = 64;

struct Uniforms { factor: f32, addend: f32 }

@group(0) @binding(0) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(1) var<uniform> u: Uniforms;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let f = vec4f(u.factor);
  let g = vec4f(u.addend);
  var a = vec4f(f32(id.x));
  var b = a + g; var c = b + g; var d = c + g; var e = d + g; var h = e + g; var i = h + g; var j = i + g;
  for (var k = 0u; k < STEPS; k++) {
    a = a * f + g; b = b * f + g; c = c * f + g; d = d * f + g; e = e * f + g; h = h * f + g; i = i * f + g; j = j * f + g;
    a = a * f + g; b = b * f + g; c = c * f + g; d = d * f + g; e = e * f + g; h = h * f + g; i = i * f + g; j = j * f + g;
    a = a * f + g; b = b * f + g; c = c * f + g; d = d * f + g; e = e * f + g; h = h * f + g; i = i * f + g; j = j * f + g;
    a = a * f + g; b = b * f + g; c = c * f + g; d = d * f + g; e = e * f + g; h = h * f + g; i = i * f + g; j = j * f + g;
  }
  y[id.x] = ((a + b) + (c + d)) + ((e + h) + (i + j));
}
