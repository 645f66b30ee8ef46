// Owns: the command `weft restore`: words in, words out. The work is in `backup.ts`.

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { BackupError, restoreBackup } from "./backup.ts";
import { errorCode } from "./identity/files.ts";
import { isEncrypted } from "./identity/key-file.ts";
import { LockedError } from "./lock.ts";
import { StoreFailure } from "./store/store.ts";

/** Resolves to the exit status: 0 restored, 1 not, 2 wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  const say = (words: string) => process.stderr.write(`weft restore: ${words}\n`);
  const operands: string[] = [];
  let data = process.env.WEFT_DATA ?? join(homedir(), ".weft");
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    const [, inline] = /^--data=(.+)$/.exec(word) ?? [];
    if (word === "--data" || inline !== undefined) {
      const value = inline ?? argv[++at];
      if (value === undefined || value === "") {
        say("--data needs a value");
        return 2;
      }
      data = value;
    } else if (word.startsWith("-")) {
      say(`there is no flag ${word}; weft restore --help has flags and examples`);
      return 2;
    } else operands.push(word);
  }
  const [file, ...more] = operands;
  if (file === undefined || more.length > 0) {
    say("give it one FILE, made by weft backup");
    return 2;
  }
  try {
    const about = restoreBackup(file, resolve(data));
    const passphrase = isEncrypted(readFileSync(join(data, "ca.key"), "utf8")) ? " --ca-passphrase-file FILE" : "";
    process.stdout.write(
      `restored the mesh of ${about.madeAt} (revision ${about.revision}, weft ${about.version}) into ${data}\nstart it with: weft up --data ${data}${passphrase}\n`,
    );
    return 0;
  } catch (cause) {
    if (cause instanceof BackupError || cause instanceof LockedError || cause instanceof StoreFailure) say(cause.message);
    else say(`${data} cannot be written (${errorCode(cause) ?? String(cause)}); nothing was restored`);
    return 1;
  }
}
