// Owns: one bench at a time on this machine: two would pin to the same core and measure each other. Waits its turn, says for whom.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

/** Resolves once no other bench of this user runs; call the result at the end. Throws after `limitMs`. */
export async function takeTurn(say: (line: string) => void, limitMs = 15 * 60_000): Promise<() => void> {
  const file = join(tmpdir(), `weft-bench-${userInfo().uid}.pid`);
  const giveUpAt = performance.now() + limitMs;
  let told = 0;
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx", mode: 0o600 });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const holder = Number(readOrEmpty(file));
    if (!isBench(holder)) {
      rmSync(file, { force: true });
      continue;
    }
    if (holder !== told) say(`waiting for another bench, pid ${holder}`);
    told = holder;
    if (performance.now() > giveUpAt)
      throw new Error(`another bench (pid ${holder}, ${file}) has not ended for ${limitMs / 60_000} minutes`);
    await Bun.sleep(500);
  }
}

/** A pid may have been given to another program since; an empty file is a bench that is just writing it. */
function isBench(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("bench/");
  } catch {
    return false;
  }
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
