// Owns: what the rules of a kind refuse beyond its tables, read out of the code that refuses: every call of `notImplemented` in the file that defines the kind and in
// those of its folder that it imports. Never runs them.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const folder = join(import.meta.dir, "../src/api/kinds");

export interface RuleRefusal {
  /** `Markdown`, with … where the code puts what the object says. */
  readonly what: string;
  readonly instead: string;
}

/** By kind. A kind whose whole is refused says so in its notes and is left out. */
export function ruleRefusals(): ReadonlyMap<string, readonly RuleRefusal[]> {
  const texts = new Map<string, string>();
  for (const name of readdirSync(folder))
    if (name.endsWith(".ts") && !name.endsWith(".test.ts") && name !== "refused.ts")
      texts.set(join(folder, name), readFileSync(join(folder, name), "utf8"));
  const defining = new Map<string, string[]>();
  for (const [file, text] of texts) {
    const made = [...text.matchAll(/defineKind\(\{[\s\S]*?\bkind: "(\w+)"/g)].map(([, kind]) => kind as string);
    if (made.length > 0) defining.set(file, made);
  }
  const out = new Map<string, RuleRefusal[]>();
  for (const [file, made] of defining) {
    const found: RuleRefusal[] = [];
    const seen = new Set<string>();
    /** Of a file what `names` are and lead to; undefined = all of it. */
    const read = (path: string, names: readonly string[] | undefined): void => {
      const text = texts.get(path);
      // What another kind refuses is its own.
      if (text === undefined || (path !== file && defining.has(path))) return;
      const parts = partsOf(text);
      const imports = [...text.matchAll(/import\s(?!type\b)\{([^}]*)\}\s*from\s*"(\.[^"]+)"/g)].map(([, words = "", target = ""]) => ({
        names: words
          .split(",")
          .map((each) => each.replace(/^\s*type\s.*|\sas\s.*/s, "").trim())
          .filter(Boolean),
        path: resolve(dirname(path), target),
      }));
      const waiting = names === undefined ? [...parts.keys()] : [...names];
      for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
        const part = parts.get(name);
        if (part === undefined || seen.has(`${path} ${name}`)) continue;
        seen.add(`${path} ${name}`);
        found.push(...callsIn(part));
        const said = new Set(part.match(/\w+/g));
        for (const each of parts.keys()) if (said.has(each)) waiting.push(each);
        for (const each of imports) {
          const used = each.names.filter((word) => said.has(word));
          if (used.length > 0) read(each.path, used);
        }
      }
    };
    read(file, undefined);
    for (const kind of made) out.set(kind, found);
  }
  return out;
}

/** Functions and constants at the top of a file, by name. */
function partsOf(text: string): ReadonlyMap<string, string> {
  const out = new Map<string, string>();
  const starts = [...text.matchAll(/^(?:export )?(?:async )?(?:function|const) (\w+)/gm)];
  for (const [n, start] of starts.entries()) out.set(start[1] as string, text.slice(start.index, starts[n + 1]?.index));
  return out;
}

const word = /notImplemented\(\s*/g;
const literal = /\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`)\s*,?/y;
const other = /\s*[^,()]*(?:\([^()]*\))?\s*,?/y;

/** Both arguments of each call, where they are texts: what is computed shows as `…`. */
function callsIn(text: string): RuleRefusal[] {
  const out: RuleRefusal[] = [];
  for (const call of text.matchAll(word)) {
    const read = (at: number): readonly [string, number] => {
      literal.lastIndex = at;
      const found = literal.exec(text);
      if (found !== null) return [(found[1] ?? found[2] ?? found[3] ?? "").replace(/\$\{[^}]*\}/g, "…"), literal.lastIndex];
      other.lastIndex = at;
      other.exec(text);
      return ["…", other.lastIndex];
    };
    const [what, next] = read(call.index + call[0].length);
    const [instead] = read(next);
    // The function's own declaration, and tables that are told of field by field.
    if (what === "…" && instead === "…") continue;
    out.push({ what, instead });
  }
  return out;
}
