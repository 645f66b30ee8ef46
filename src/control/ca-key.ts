// Owns: the commands `weft ca encrypt` and `weft ca decrypt`: the authority's key in a data folder, put under a passphrase or taken from under it. The control
// plane must not run: it has the key in memory, and writes it when a root is replaced. Never prints a key or a passphrase.

import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { IdentityError } from "./identity/failure.ts";
import { errorCode } from "./identity/files.ts";
import { readKey, readPassphrase, writeKey } from "./identity/key-file.ts";
import { readCaFolder, readRotation, writeCaFolder, writeRotation } from "./identity/rotation-state.ts";
import type { Secret } from "./identity/secret.ts";
import { LockedError, lockFolder } from "./lock.ts";

const flags = ["data", "passphrase-file", "new-passphrase-file"] as const;

/** `argv`: after `weft ca`. Resolves to the exit status: 0 done, 1 not, 2 wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  const [action = "", ...rest] = argv;
  const say = (words: string) => process.stderr.write(`weft ca ${action}: ${words}\n`);
  const given = new Map<string, string>();
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at] as string;
    const [, written, , inline] = /^--([a-z-]+)(=(.*))?$/s.exec(word) ?? [];
    // As weft up calls it.
    const name = written === "ca-passphrase-file" ? "passphrase-file" : written;
    if (name === undefined || !(flags as readonly string[]).includes(name)) {
      say(`there is no ${word} here; weft ca --help has flags and examples`);
      return 2;
    }
    const value = inline ?? rest[++at];
    if (value === undefined || value === "") {
      say(`--${written} needs a value`);
      return 2;
    }
    given.set(name, value);
  }
  const dir = resolve(given.get("data") ?? process.env.WEFT_DATA ?? join(homedir(), ".weft"));
  try {
    const now = readPassphrase(given.get("passphrase-file"), process.env.WEFT_CA_PASSPHRASE);
    const changes = given.get("new-passphrase-file") !== undefined;
    const next = changes ? readPassphrase(given.get("new-passphrase-file"), undefined) : now;
    if (action === "encrypt" && next === undefined) {
      say("give the passphrase with --passphrase-file FILE or $WEFT_CA_PASSPHRASE");
      return 2;
    }
    if (action === "decrypt" && changes) {
      say("--new-passphrase-file is for encrypt");
      return 2;
    }
    rewrite(dir, now, action === "encrypt" ? next : undefined);
    process.stdout.write(
      action === "encrypt"
        ? `the authority's key in ${dir} is encrypted; start with: weft up --data ${dir} --ca-passphrase-file FILE\n`
        : `the authority's key in ${dir} is not encrypted any more\n`,
    );
    return 0;
  } catch (cause) {
    if (cause instanceof IdentityError || cause instanceof LockedError) say(cause.message);
    else say(`${dir} cannot be used (${errorCode(cause) ?? String(cause)}); nothing was changed`);
    return 1;
  }
}

function rewrite(dir: string, before: Secret | undefined, after: Secret | undefined): void {
  const files = readCaFolder(dir);
  if (files === undefined)
    throw new IdentityError(
      `${dir} holds no key of a certificate authority; a given one (--ca-key) is encrypted where it is, for example: openssl pkcs8 -topk8 -in KEY -out NEW`,
    );
  const lock = lockFolder(dir);
  try {
    const again = (pem: string, path: string) => writeKey(readKey(path, pem, before), after);
    const state = files.rotation === undefined ? undefined : readRotation(files.rotation);
    const rotation =
      state === undefined
        ? undefined
        : writeRotation({ ...state, next: { ...state.next, keyPem: again(state.next.keyPem, join(dir, "ca.rotation")) } });
    writeCaFolder(dir, files, { ...files, keyPem: again(files.keyPem, join(dir, "ca.key")), rotation });
  } finally {
    lock.release();
  }
}
