/**
 * Uniform numbers in [0, 1) from a seed of any size: xorshift of 32 bits (Marsaglia, "Xorshift RNGs", 2003), after
 * mixing the seed's bits.
 */
export function generator(seed: number): () => number {
  const bits = new Uint32Array(new Float64Array([seed]).buffer);
  let s = Math.imul(bits[0]! ^ Math.imul(bits[1]!, 0x9e3779b1), 0x85ebca6b) ^ 0x6d2b79f5 || 1;
  const next = (): number => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return s >>> 0;
  };
  for (let i = 0; i < 8; i++) next();
  return () => next() / 2 ** 32;
}
