// Owns: "did you mean". Pure.

/** Edits (insert, delete, replace, swap of neighbours) between two short words. */
export function distance(a: string, b: string): number {
  const rows: number[][] = [];
  for (let i = 0; i <= a.length; i++) {
    const row: number[] = [];
    rows.push(row);
    for (let j = 0; j <= b.length; j++) {
      if (i === 0 || j === 0) {
        row.push(i + j);
        continue;
      }
      const above = rows[i - 1] as number[];
      let best = Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, (above[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, ((rows[i - 2] as number[])[j - 2] as number) + 1);
      row.push(best);
    }
  }
  return (rows[a.length] as number[])[b.length] as number;
}

/** The nearest of `known` when it is near enough to be a slip of the hand. */
export function suggestion(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const d = word.length > 2 && candidate.startsWith(word) ? 1 : distance(word.toLowerCase(), candidate.toLowerCase());
    if (d < bestDistance) {
      best = candidate;
      bestDistance = d;
    }
  }
  return best;
}

/** `; did you mean X?` or nothing. */
export function didYouMean(word: string, known: Iterable<string>, prefix = ""): string {
  const found = suggestion(word, known);
  return found === undefined ? "" : `; did you mean ${prefix}${found}?`;
}
