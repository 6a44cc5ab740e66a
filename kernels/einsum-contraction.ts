import { fail } from '../src/core/errors.ts';
import { broadcast } from './shapes.ts';

/** A parsed equation at known shapes. Labels are letters; "0", "1", … stand for the dims of the ellipsis. */
export interface Contraction {
  /** Of each operand, one label a dim. */
  readonly operands: readonly (readonly string[])[];
  readonly output: readonly string[];
  readonly dims: Readonly<Record<string, number>>;
  readonly shape: readonly number[];
}

const bad = (equation: string, why: string): never =>
  fail('attribute_invalid', `equation ${JSON.stringify(equation)}: ${why}`);

/**
 * Parses a NumPy-style equation: explicit or implicit output, ellipses, repeated letters. @throws attribute_invalid,
 * shape_mismatch
 */
export function contractionOf(equation: string, shapes: readonly (readonly number[])[]): Contraction {
  const sides = equation.replace(/\s/g, '').split('->');
  if (sides.length > 2) bad(equation, 'more than one "->"');
  const terms = sides[0]!.split(',');
  if (terms.length !== shapes.length) bad(equation, `${terms.length} terms for ${shapes.length} inputs`);
  const split = (term: string): { before: string[]; dots: boolean; after: string[] } => {
    const m = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(term) ?? bad(equation, `cannot read ${JSON.stringify(term)}`);
    return { before: [...m[1]!], dots: m[2] !== undefined, after: [...m[3]!] };
  };
  const parsed = terms.map(split);
  const extra = parsed.map((p, i) => {
    const rank = shapes[i]!.length - p.before.length - p.after.length;
    if (p.dots ? rank < 0 : rank !== 0)
      fail(
        'shape_mismatch',
        `equation ${JSON.stringify(equation)}: term ${JSON.stringify(terms[i])} does not fit an input of shape [${shapes[i]}]`,
      );
    return shapes[i]!.slice(p.before.length, p.before.length + rank);
  });
  const around = broadcast(...extra);
  const dots = (n: number): string[] => around.map((_, i) => String(i)).slice(around.length - n);
  const operands = parsed.map((p, i) => [...p.before, ...dots(extra[i]!.length), ...p.after]);
  const dims: Record<string, number> = {};
  operands.forEach((labels, o) =>
    labels.forEach((label, i) => {
      const d = shapes[o]![i]!;
      const known = dims[label];
      if (known !== undefined && known !== d && known !== 1 && d !== 1)
        fail('shape_mismatch', `equation ${JSON.stringify(equation)}: ${label} is both ${known} and ${d}`);
      dims[label] = known === undefined || known === 1 ? d : known;
    }),
  );
  const letters = terms.join('').replace(/\./g, '');
  const implicit = (): string[] => [
    ...dots(around.length),
    ...[...letters].filter((l) => letters.indexOf(l) === letters.lastIndexOf(l)).sort(),
  ];
  const explicit = (): string[] => {
    const p = split(sides[1]!);
    return [...p.before, ...(p.dots ? dots(around.length) : []), ...p.after];
  };
  const output = sides.length === 2 ? explicit() : implicit();
  for (const l of output) if (dims[l] === undefined) bad(equation, `${l} is in no input`);
  if (new Set(output).size !== output.length) bad(equation, 'the output names a letter twice');
  return { operands, output, dims, shape: output.map((l) => dims[l]!) };
}
