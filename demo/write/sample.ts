/** Choosing the next token. */

export interface Sampling {
  /** Below 1 the likelier tokens gain, above 1 they lose; 0 always takes the likeliest. */
  readonly temperature: number;
  /** Only the likeliest tokens that together have this probability are drawn from (Holtzman et al., "The Curious Case of Neural Text Degeneration"). */
  readonly topP: number;
}

/** The index drawn from logits; `random` gives numbers in [0, 1). */
export function drawToken(logits: ArrayLike<number>, { temperature, topP }: Sampling, random: () => number): number {
  let likeliest = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[likeliest]!) likeliest = i;
  if (temperature <= 0) return likeliest;
  const weights = Array.from(logits, (v, id) => ({ id, weight: Math.exp((v - logits[likeliest]!) / temperature) })).sort((a, b) => b.weight - a.weight);
  const all = weights.reduce((sum, w) => sum + w.weight, 0);
  let kept = 0;
  const end = weights.findIndex((w) => (kept += w.weight) >= topP * all);
  const nucleus = end < 0 ? weights : weights.slice(0, end + 1);
  let at = random() * Math.min(kept, all);
  return (nucleus.find((w) => (at -= w.weight) < 0) ?? nucleus.at(-1)!).id;
}
