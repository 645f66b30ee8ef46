// Holds the proxy to the rules that a reviewer would otherwise have to hold: no waiting, no web objects and no clocks on the hot path, no hidden effects
// anywhere. A comment `rule N:` on the line or the line above, saying why, lifts a ban for one line.

import { describe, expect, test } from "bun:test";
import { Glob } from "bun";

const root = new URL("./", import.meta.url).pathname;

interface Ban {
  readonly pattern: RegExp;
  readonly reason: string;
}

/** In the folders that requests pass through. */
const hotFolders = ["net", "tcp", "http", "http1", "route", "chain", "balance", "authz"];
const hotBans: readonly Ban[] = [
  { pattern: /\basync\b/, reason: "six synchronous stages cost 20 ns a request, with promises 234" },
  { pattern: /\bawait\b/, reason: "six synchronous stages cost 20 ns a request, with promises 234" },
  { pattern: /\bnew (Headers|Request|Response|URL|AbortController)\b/, reason: "web objects cost a microsecond a request" },
  { pattern: /\bJSON\./, reason: "nothing on the request path is JSON" },
  { pattern: /\bsetTimeout\b/, reason: "a deadline is a field against a coarse clock: 0.3 ns instead of 101" },
  { pattern: /\bDate\.now\b/, reason: "time comes in as a Clock" },
];

/** In all of the proxy. `except` names the files that may, as entry points. */
const everywhereBans: readonly (Ban & { readonly except?: readonly string[] })[] = [
  { pattern: /\bconsole\./, reason: "lines go through the Logger" },
  { pattern: /\bprocess\.env\b/, reason: "the environment enters at the entry point", except: ["app.ts"] },
  { pattern: /\bas any\b/, reason: "a cast to any hides what the types would tell" },
];

/** Code of one file: comments and the text of strings blanked, line by line, so that prose may name what code may not. */
function codeLines(source: string): { readonly code: string; readonly raw: string }[] {
  const blanked = source.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g, (match) =>
    match.replace(/[^\n]/g, " "),
  );
  const raw = source.split("\n");
  return blanked.split("\n").map((code, n) => ({ code, raw: raw[n] as string }));
}

function offences(path: string, source: string, bans: readonly Ban[]): string[] {
  const lines = codeLines(source);
  const found: string[] = [];
  lines.forEach(({ code, raw }, n) => {
    for (const ban of bans) {
      if (!ban.pattern.test(code)) continue;
      const lifted = /rule \d+: \S/.test(raw) || /^\s*\/\/.*rule \d+: \S/.test(lines[n - 1]?.raw ?? "");
      if (!lifted) found.push(`${path}:${n + 1}: ${code.trim()} (${ban.reason})`);
    }
  });
  return found;
}

async function sources(): Promise<{ path: string; text: string }[]> {
  const found: { path: string; text: string }[] = [];
  for (const path of [...new Glob("**/*.ts").scanSync(root)].sort((a, b) => (a < b ? -1 : 1))) {
    if (path.endsWith(".test.ts") || path.endsWith("testing.ts")) continue;
    found.push({ path, text: await Bun.file(root + path).text() });
  }
  return found;
}

describe("banned calls", () => {
  test("not on the hot path", async () => {
    const hot = (await sources()).filter(({ path }) => hotFolders.includes(path.split("/")[0] as string));
    expect(hot.length).toBeGreaterThan(0);
    expect(hot.flatMap(({ path, text }) => offences(path, text, hotBans))).toEqual([]);
  });

  test("not anywhere in the proxy", async () => {
    const found = (await sources()).flatMap(({ path, text }) =>
      offences(
        path,
        text,
        everywhereBans.filter((ban) => !ban.except?.includes(path)),
      ),
    );
    expect(found).toEqual([]);
  });

  test("the checker itself sees what it should, and only that", () => {
    const bans = [...hotBans, ...everywhereBans];
    expect(offences("x", "const a = await b();", bans).length).toBe(1);
    expect(offences("x", "console.log(process.env.X as any);", bans).length).toBe(3);
    expect(offences("x", "// await is banned\nconst say = 'await JSON.';\n/* setTimeout\n Date.now */", bans)).toEqual([]);
    expect(offences("x", "// rule 3: once at start, nobody waits\nsetTimeout(run, 1);", bans)).toEqual([]);
    expect(offences("x", "setTimeout(run, 1); // rule 3:", bans).length).toBe(1);
    expect(offences("x", 'const url = "http://x"; new URL(url);', bans).length).toBe(1);
  });
});
