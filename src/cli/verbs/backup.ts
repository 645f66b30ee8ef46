// Owns: `weft backup`: the control plane's state and keys into one file, while it runs. Never overwrites a file.

import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { CliFailure, UsageFailure } from "../failure.ts";
import { bytes } from "../output.ts";
import { openSession } from "../session.ts";
import type { Invocation } from "../verb.ts";

export async function run(invocation: Invocation): Promise<number> {
  const { args, terminal, stop } = invocation;
  const [path] = args.operands;
  if (path === undefined || path === "") throw new UsageFailure("weft backup needs a FILE");
  if (existsSync(path)) throw new CliFailure(`${path} is there already; name another file, or remove it`);
  const { client } = openSession(invocation);
  const response = await client.raw("/weft/v1alpha1/backup", { accept: "*/*", signal: stop });
  const expected = Number(response.headers.get("x-weft-size") ?? Number.NaN);
  const temporary = `${path}.${process.pid}.tmp`;
  let size = 0;
  try {
    const fd = openSync(temporary, "wx", 0o600);
    try {
      for await (const chunk of response.body as ReadableStream<Uint8Array>) size += writeSync(fd, chunk);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (size !== expected) throw new CliFailure(`the backup was cut short (${size} of ${expected} bytes); try again`);
    renameSync(temporary, path);
  } catch (error) {
    if (error instanceof CliFailure) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined) throw error;
    throw new CliFailure(`${path} cannot be written (${code})`);
  } finally {
    rmSync(temporary, { force: true });
  }
  terminal.out(`${path}: revision ${response.headers.get("x-weft-revision")}, ${bytes(size)}\n`);
  terminal.err("it holds the mesh's private keys: keep it as you keep those\n");
  return 0;
}
