// Owns: two texts side by side as a unified difference. Pure.

const around = 3;
/** Beyond so many lines on both sides no common lines are looked for: the cost grows with their product. */
const mostLines = 2_000;

/** Lines with `-`, `+` or a blank in front and `@@` between distant parts; empty when the texts are the same. */
export function unified(before: string, after: string): string[] {
  if (before === after) return [];
  const [a, b] = [linesOf(before), linesOf(after)];
  const script = a.length > mostLines || b.length > mostLines ? replaced(a, b) : compared(a, b);
  const near = script.map((_, at) => script.slice(Math.max(0, at - around), at + around + 1).some(({ mark }) => mark !== " "));
  const out: string[] = [];
  let [oldLine, newLine] = [1, 1];
  for (const [at, { mark, line }] of script.entries()) {
    if (near[at]) {
      if (at === 0 || !near[at - 1]) out.push(`@@ -${oldLine} +${newLine} @@`);
      out.push(`${mark}${line}`);
    }
    if (mark !== "+") oldLine++;
    if (mark !== "-") newLine++;
  }
  return out;
}

interface Step {
  readonly mark: " " | "-" | "+";
  readonly line: string;
}

function linesOf(text: string): string[] {
  return text === "" ? [] : text.replace(/\n$/, "").split("\n");
}

function replaced(a: readonly string[], b: readonly string[]): Step[] {
  return [...a.map((line): Step => ({ mark: "-", line })), ...b.map((line): Step => ({ mark: "+", line }))];
}

/** By the longest common subsequence. */
function compared(a: readonly string[], b: readonly string[]): Step[] {
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] =
        a[i] === b[j] ? longest[(i + 1) * width + j + 1]! + 1 : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  const out: Step[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ mark: " ", line: a[i]! });
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!))
      out.push({ mark: "-", line: a[i++]! });
    else out.push({ mark: "+", line: b[j++]! });
  }
  return out;
}
