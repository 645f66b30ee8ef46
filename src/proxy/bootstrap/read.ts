// Owns: getting a bootstrap file's text into plain JSON values. Never knows what is in it.

import { readFileSync } from "node:fs";

/** A bootstrap that cannot be used. `lines` says everything that is wrong with it. */
export class BootstrapError extends Error {
  override readonly name = "BootstrapError";
  readonly lines: readonly string[];

  constructor(lines: readonly string[]) {
    super(lines.join("\n"));
    this.lines = lines;
  }
}

/** Ten megabytes: more is not a bootstrap but a mistake. */
const maxBytes = 10 * 1024 * 1024;

/** Reads JSON or YAML (by its look: JSON starts with a brace). Throws BootstrapError. */
export async function readDocument(path: string): Promise<unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new BootstrapError([`cannot read the bootstrap file ${path}: ${reason(error)}`]);
  }
  if (text.length > maxBytes) throw new BootstrapError([`the bootstrap file ${path} is larger than ${maxBytes} bytes`]);
  if (/^\s*\{/.test(text)) {
    try {
      return JSON.parse(text);
    } catch (error) {
      // YAML's flow style starts with a brace too; a file that calls itself JSON is judged as JSON.
      if (path.endsWith(".json")) throw new BootstrapError([`${path} is not valid JSON: ${reason(error)}`]);
    }
  }
  // The YAML parser costs memory that a sidecar with a JSON bootstrap should not pay.
  const { parseDocument } = await import("yaml");
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0) throw new BootstrapError(document.errors.map((e) => `${path} is not valid YAML: ${e.message.trimEnd()}`));
  return document.toJS({ maxAliasCount: 100 });
}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
