// Owns: the configuration file of `weft up`: a flat mapping of flag names to values. Loaded only when one is named. Never looks at what values mean.

import { readFileSync } from "node:fs";
import { suggest } from "../api/schema.ts";

/** Values as the flags would have them. Throws an Error whose message names file, key and way out. */
export function readConfigFile(path: string, known: readonly string[]): ReadonlyMap<string, string> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new Error(`the configuration file ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  let document: unknown;
  try {
    document = Bun.YAML.parse(text);
  } catch (cause) {
    throw new Error(`the configuration file ${path} is not YAML: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
  if (document === null || document === undefined) return new Map();
  if (typeof document !== "object" || Array.isArray(document))
    throw new Error(`the configuration file ${path} is no mapping; write lines such as "api-port: 7443"`);
  const out = new Map<string, string>();
  for (const [key, value] of Object.entries(document)) {
    if (!known.includes(key))
      throw new Error(
        `the configuration file ${path} has ${JSON.stringify(key)}, which is not known${suggest(key, known)}; known are ${known.join(", ")}`,
      );
    if (typeof value !== "string" && typeof value !== "number")
      throw new Error(`the configuration file ${path}: ${key} takes a text or a number, not ${JSON.stringify(value)}`);
    out.set(key, String(value));
  }
  return out;
}
