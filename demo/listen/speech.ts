/**
 * A voice made of arithmetic: pulses of a glottis, or noise, through resonators at the formants of each sound (after
 * Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67, 1980). Not pretty, but speech enough for a
 * detector, and nobody's recording.
 */

export const RATE = 16_000;

/** Formants in Hz, how much voice and hiss (0 to 1), where the hiss lies in Hz, and how long it lasts in seconds. */
interface Sound {
  readonly formants: readonly [number, number, number];
  readonly voice: number;
  readonly hiss: number;
  readonly at: number;
  readonly seconds: number;
}
const vowel = (f1: number, f2: number, f3: number, seconds = 0.13): Sound => ({
  formants: [f1, f2, f3],
  voice: 1,
  hiss: 0.02,
  at: 3000,
  seconds,
});
const hissed = (at: number, hiss: number, seconds = 0.1): Sound => ({
  formants: [400, 1600, 2600],
  voice: 0,
  hiss,
  at,
  seconds,
});
const soft = (f1: number, f2: number, f3: number, seconds = 0.07): Sound => ({
  formants: [f1, f2, f3],
  voice: 0.55,
  hiss: 0,
  at: 3000,
  seconds,
});
const SOUNDS: Readonly<Record<string, Sound>> = {
  a: vowel(730, 1090, 2440, 0.16),
  e: vowel(530, 1840, 2480),
  i: vowel(270, 2290, 3010),
  o: vowel(570, 840, 2410, 0.15),
  u: vowel(300, 870, 2240),
  I: vowel(390, 1990, 2550, 0.1),
  '@': vowel(500, 1400, 2400, 0.08),
  l: soft(360, 1300, 2700),
  r: soft(400, 1150, 1500, 0.08),
  n: soft(280, 1700, 2600),
  m: soft(280, 1000, 2200),
  w: soft(300, 700, 2200),
  d: { ...soft(300, 1750, 2600, 0.05), hiss: 0.15, at: 3500 },
  b: { ...soft(250, 900, 2200, 0.05), hiss: 0.1, at: 900 },
  v: { ...soft(300, 1200, 2300, 0.07), hiss: 0.12, at: 4500 },
  z: { ...soft(300, 1500, 2500, 0.09), hiss: 0.3, at: 5000 },
  s: hissed(5600, 0.5, 0.12),
  f: hissed(4500, 0.2),
  k: hissed(2200, 0.35, 0.04),
  t: hissed(4200, 0.4, 0.035),
  h: hissed(1500, 0.12, 0.06),
  p: hissed(900, 0.25, 0.03),
  '.': { formants: [400, 1500, 2500], voice: 0, hiss: 0, at: 3000, seconds: 0.05 },
  ' ': { formants: [400, 1500, 2500], voice: 0, hiss: 0, at: 3000, seconds: 0.12 },
};

/** A linear congruential generator, and its state as a number within ±1. */
const next = (seed: number): number => (Math.imul(seed, 1664525) + 1013904223) >>> 0;
const noiseOf = (seed: number): number => seed / 2 ** 31 - 1;

/** A resonance at `f` Hz as wide as `width`: feeds back what it gave. */
function resonator(): (x: number, f: number, width: number) => number {
  let [y1, y2] = [0, 0];
  return (x, f, width) => {
    const r = Math.exp((-Math.PI * width) / RATE);
    const [b, c] = [2 * r * Math.cos((2 * Math.PI * f) / RATE), -r * r];
    const y = (1 - b - c) * x + b * y1 + c * y2;
    [y2, y1] = [y1, y];
    return y;
  };
}

/**
 * Speaks sounds by their letters, with the voice at about `pitch` Hz, sinking to the end. Samples at 16 kHz within ±1.
 */
export function speak(sounds: string, pitch = 120): Float32Array {
  const list = [...sounds].map((name) => SOUNDS[name]!);
  const ends = list.map((_, i) => list.slice(0, i + 1).reduce((sum, s) => sum + s.seconds, 0));
  const length = Math.round(ends.at(-1)! * RATE);
  const out = new Float32Array(length);
  const poles = [resonator(), resonator(), resonator(), resonator()];
  const [glottis, hissing] = [resonator(), resonator()];
  const now = { formants: [...list[0]!.formants], voice: 0, hiss: 0, at: list[0]!.at };
  let phase = 0;
  let seed = 1;
  let before = 0;
  for (let i = 0, k = 0; i < length; i++) {
    const time = i / RATE;
    if (time >= ends[k]!) k++;
    const sound = list[k]!;
    // The mouth needs some 25 ms from one sound to the next.
    const glide = 1 / (0.012 * RATE);
    for (let f = 0; f < 3; f++) now.formants[f]! += (sound.formants[f]! - now.formants[f]!) * glide;
    now.voice += (sound.voice - now.voice) * glide * 1.5;
    now.hiss += (sound.hiss - now.hiss) * glide * 2;
    now.at += (sound.at - now.at) * glide * 2;
    const f0 = pitch * (1.12 - 0.28 * (i / length) + 0.05 * Math.sin(time * 7) + 0.008 * Math.sin(time * 37));
    phase += f0 / RATE;
    const pulse = phase >= 1 ? 1 : 0;
    phase -= pulse;
    seed = next(seed);
    const noise = noiseOf(seed);
    let voice = glottis(pulse * 60 + noise * 0.04, 0, 100) * now.voice;
    for (const [p, width] of [70, 90, 130].entries()) voice = poles[p]!(voice, now.formants[p]!, width);
    voice = poles[3]!(voice, 3500, 200);
    // Lips let changes of pressure out.
    out[i] = (voice - before) * 2 + hissing(noise, now.at, 1200) * now.hiss * 0.5;
    before = voice;
  }
  const loudest = out.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return out.map((v) => (0.5 * v) / loudest);
}

/** What the sample says, and the voice's pitch in Hz. */
const SENTENCES: readonly (readonly [sounds: string, pitch: number])[] = [
  ['sar.d@nIks ranz modelz in iur tab', 118],
  ['h@lo. wan tu fri for faiv', 165],
];
const PAUSE = 0.9;

/** The sample of the page: the noise of a quiet room, and two sentences in it. Where they lie is given in seconds. */
export function sampleClip(): { samples: Float32Array; spoken: readonly (readonly [from: number, to: number])[] } {
  const spoken: [number, number][] = [];
  const parts = SENTENCES.map(([sounds, pitch]) => {
    const part = speak(sounds, pitch);
    const from = (spoken.at(-1)?.[1] ?? 0) + PAUSE;
    spoken.push([from, from + part.length / RATE]);
    return part;
  });
  const samples = new Float32Array(Math.round((spoken.at(-1)![1] + PAUSE) * RATE));
  let seed = 7;
  for (let i = 0; i < samples.length; i++) {
    seed = next(seed);
    samples[i] = noiseOf(seed) * 0.002;
  }
  parts.forEach((part, i) =>
    part.forEach((v, k) => {
      samples[Math.round(spoken[i]![0] * RATE) + k]! += v;
    }),
  );
  return { samples, spoken };
}
