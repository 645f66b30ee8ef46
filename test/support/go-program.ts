// Owns: building a Go program of the tests on first use, into a folder of its own under the system's temporary one, by its sources' hash.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findPeer } from "./peers.ts";

/** The program's path. `sources`: the folder of its module, without folders in it. Throws what the compiler says. */
export async function goProgram(sources: string, name: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of readdirSync(sources).sort()) hash.update(file).update(readFileSync(join(sources, file)));
  const folder = join(tmpdir(), `weft-${name}-${process.getuid?.() ?? 0}`);
  const program = join(folder, hash.digest("hex").slice(0, 20));
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const making = `${program}.${process.pid}`;
  const child = Bun.spawn([findPeer("go") as string, "build", "-buildvcs=false", "-trimpath", "-o", making, "."], {
    cwd: sources,
    stdout: "pipe",
    stderr: "pipe",
  });
  const err = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(err);
  renameSync(making, program);
  return program;
}
