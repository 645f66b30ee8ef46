// Owns: the command `weft store` (its other verbs are in `store-check.ts`), of which `copy`: one whole store, history and keys of the mesh included, from one medium to another, and the proof that both hold the
// same. Never writes where a store stands already, and never reads one that a control plane may still be writing to, unless told so.

import { existsSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { IdentityError } from "./identity/failure.ts";
import { createFileOnce, ensureFolder, errorCode } from "./identity/files.ts";
import { offerShared, readFiles, readSealKey, readShared, sharedFiles } from "./lease/secrets.ts";
import { LockedError, lockFolder } from "./lock.ts";
import { parseStore, type StoreAddress } from "./store/address.ts";
import { type Dump, type DumpFacts, factsOf, readSqliteDump, writeSqliteDump } from "./store/dump.ts";
import { EtcdConnection } from "./store/etcd/connection.ts";
import { dumpEtcd, loadEtcd } from "./store/etcd/dump.ts";
import { afterPrefix, formatMark, Layout } from "./store/etcd/layout.ts";
import { Rows } from "./store/etcd/rows.ts";
import { wrongMark } from "./store/etcd/store.ts";
import { StoreFailure } from "./store/store.ts";

interface Whole {
  readonly dump: Dump;
  readonly secrets: ReadonlyMap<string, string>;
}

export interface CopyOptions {
  /** Copies although control planes use the source: what they write meanwhile is not in the copy. */
  readonly online: boolean;
  readonly sealKey: Uint8Array | undefined;
}

const words = ["from", "to", "store-key", "etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file"];

/** Resolves to the exit status: 0 copied and the same, 1 not, 2 wrong usage. */
export async function main(argv: readonly string[]): Promise<number> {
  if (argv[0] === "check" || argv[0] === "cut-log") return (await import("./store-check.ts")).main(argv);
  const say = (text: string) => process.stderr.write(`weft store: ${text}\n`);
  const given = new Map<string, string>();
  const operands: string[] = [];
  let online = false;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    const [, name, inline] = /^--([a-z-]+)(?:=(.+))?$/s.exec(word) ?? [];
    if (name === undefined) {
      operands.push(word);
      continue;
    }
    if (name === "online") {
      online = true;
      continue;
    }
    const value = inline ?? argv[++at];
    if (!words.includes(name) || value === undefined) {
      say(words.includes(name) ? `--${name} needs a value` : `there is no flag --${name}; weft store --help has flags and examples`);
      return 2;
    }
    given.set(name, value);
  }
  const [from, to] = [given.get("from"), given.get("to")];
  if (operands.join(" ") !== "copy" || from === undefined || to === undefined) {
    say("write: weft store copy --from STORE --to STORE, weft store check --data DIR, or weft store cut-log --data DIR");
    return 2;
  }
  const settings = {
    caFile: given.get("etcd-ca"),
    certificateFile: given.get("etcd-cert"),
    keyFile: given.get("etcd-key"),
    user: given.get("etcd-user"),
    passwordFile: given.get("etcd-password-file"),
    password: process.env.WEFT_ETCD_PASSWORD,
  };
  let ends: readonly [StoreAddress, StoreAddress];
  try {
    ends = [parseStore(from, "--from", settings), parseStore(to, "--to", settings)];
  } catch (cause) {
    say(cause instanceof Error ? cause.message : String(cause));
    return 2;
  }
  try {
    const facts = await copyStore(ends[0], ends[1], { online, sealKey: readSealKey(given.get("store-key")) });
    process.stdout.write(
      `copied revision ${facts.revision}: ${facts.objects} objects, ${facts.historyRows} rows of history; read back, they are the same (sha256 ${facts.hash})\n`,
    );
    return 0;
  } catch (cause) {
    const known = cause instanceof StoreFailure || cause instanceof IdentityError || cause instanceof LockedError;
    say(known ? cause.message : `the copy failed (${errorCode(cause) ?? String(cause)})`);
    return 1;
  }
}

/** Copies and compares. Throws StoreFailure, IdentityError or LockedError in words. */
export async function copyStore(from: StoreAddress, to: StoreAddress, options: CopyOptions): Promise<DumpFacts> {
  const source = await read(from, options, true);
  if (!source.secrets.has("ca.crt"))
    throw new StoreFailure("the source has no certificate authority (ca.crt): it is no store of a mesh, or was never started");
  await write(to, source, options);
  const before = factsOf(source.dump);
  const copy = await read(to, { ...options, online: true }, false);
  const after = factsOf(copy.dump);
  if (before.hash !== after.hash)
    throw new StoreFailure(
      `the copy differs from its source: ${before.objects} objects (${before.hash}) became ${after.objects} (${after.hash}); do not use it`,
    );
  for (const [name, text] of source.secrets)
    if (copy.secrets.get(name) !== text) throw new StoreFailure(`the copy's ${name} differs from its source; do not use it`);
  return after;
}

async function read(at: StoreAddress, options: CopyOptions, source: boolean): Promise<Whole> {
  if (at.kind === "etcd") return inEtcd(at, (rows) => readEtcd(rows, options, source));
  const dir = folderOf(at);
  if (!existsSync(join(dir, "weft.db"))) throw new StoreFailure(`${dir} holds no store (weft.db)`);
  const lock = lockFolder(dir);
  try {
    return { dump: readSqliteDump(join(dir, "weft.db")), secrets: readFiles(dir) };
  } finally {
    lock.release();
  }
}

async function readEtcd(rows: Rows, options: CopyOptions, source: boolean): Promise<Whole> {
  const { layout } = rows;
  const [format, members] = await rows.several([
    { from: layout.format },
    { from: layout.members, to: afterPrefix(layout.members), keysOnly: true },
  ]);
  const kv = format?.kvs[0];
  if (kv === undefined) throw new StoreFailure(`etcd holds no store below ${layout.prefix}`);
  const mark = new TextDecoder().decode(kv.value);
  if (mark !== formatMark) throw new StoreFailure(wrongMark(mark, layout.prefix));
  const there = members?.kvs.length ?? 0;
  if (source && there > 0 && !options.online)
    throw new StoreFailure(
      `${there} control plane${there === 1 ? " uses" : "s use"} the store in etcd below ${layout.prefix}: what they write during the copy would be lost. Stop them first, or take the copy as of now with --online.`,
    );
  return { dump: await dumpEtcd(rows), secrets: await readShared(rows, options.sealKey) };
}

async function write(at: StoreAddress, whole: Whole, options: CopyOptions): Promise<void> {
  if (at.kind === "etcd") {
    await inEtcd(at, async (rows) => {
      const there = await readShared(rows, options.sealKey);
      if (there.size > 0 && there.get("ca.crt")?.trim() !== whole.secrets.get("ca.crt")?.trim())
        throw new StoreFailure(`etcd holds the certificate authority of another mesh below ${rows.layout.prefix}; name another prefix`);
      await loadEtcd(rows, whole.dump);
      await offerShared(rows, options.sealKey, whole.secrets);
    });
    return;
  }
  const dir = folderOf(at);
  ensureFolder(dir);
  for (const name of ["weft.db", "ca.key"])
    if (existsSync(join(dir, name))) throw new StoreFailure(`${dir} holds a mesh already (${name}); name an empty folder`);
  const lock = lockFolder(dir);
  const making = join(dir, "weft.db.copying");
  try {
    rmSync(making, { force: true });
    await writeSqliteDump(making, whole.dump);
    // Keys before the store: a copy cut short leaves a folder that the next one refuses by name.
    for (const [name, mode] of Object.entries(sharedFiles)) {
      const text = whole.secrets.get(name);
      if (text !== undefined) createFileOnce(join(dir, name), text, mode);
    }
    renameSync(making, join(dir, "weft.db"));
  } finally {
    rmSync(making, { force: true });
    lock.release();
  }
}

async function inEtcd<T>(at: Extract<StoreAddress, { kind: "etcd" }>, run: (rows: Rows) => Promise<T>): Promise<T> {
  const connection = new EtcdConnection(at.address);
  try {
    return await run(new Rows(connection, new Layout(at.address.prefix)));
  } finally {
    connection.close();
  }
}

function folderOf(at: Extract<StoreAddress, { kind: "sqlite" }>): string {
  if (at.dir === undefined) throw new StoreFailure("sqlite needs its folder here: sqlite:DIR");
  return resolve(at.dir);
}
