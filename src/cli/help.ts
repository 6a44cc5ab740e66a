/** Help texts in lines that fit a terminal. */

/** Columns of the terminal, at most 100; 80 where there is none. */
const columns = (): number => Math.min(process.stdout.columns ?? 80, 100);

/**
 * `text` in lines of at most `width`. A line that does not end a sentence goes on in the next one, if neither is indented; so does any line in one that is
 * indented deeper than options are. What stands behind two spaces in an indented line keeps its column.
 */
export function wrapped(text: string, width = columns()): string {
  const lines: string[] = [];
  for (const line of text.split('\n')) {
    const before = lines.at(-1);
    const goesOn = before && (/^ {6}/.test(line) || (/^\S/.test(line) && /^\S.*[^.:]$/.test(before)));
    if (goesOn) lines[lines.length - 1] = `${before} ${line.trim()}`;
    else lines.push(line);
  }
  return lines.map((line) => filled(line, width)).join('\n');
}

function filled(line: string, width: number): string {
  const hang = /^ +\S.*? {2,}/.exec(line)?.[0].length ?? 0;
  const rows = [line.slice(0, hang)];
  let empty = true;
  for (const word of line.slice(hang).split(' ')) {
    const row = rows.at(-1)!;
    if (!empty && row.length + 1 + word.length > width) rows.push(' '.repeat(hang) + word);
    else rows[rows.length - 1] = empty ? row + word : `${row} ${word}`;
    empty = false;
  }
  return rows.join('\n');
}
