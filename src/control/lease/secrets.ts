// Owns: the keys of the mesh that all control planes on one etcd share: taken from etcd into the data folder at the start, put there once by the first.
// With a key file they are sealed (AES-256-GCM), so that who reads etcd cannot become the mesh's certificate authority. A root is
// replaced by its rotation alone, from one whole state to the next.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readPem } from "../../base/pem.ts";
import { IdentityError } from "../identity/failure.ts";
import { privateMode, publicMode, readIfThere, readPrivate, writeFileAtomic } from "../identity/files.ts";
import { type CaFiles, type CaStore, caFileNames, readCaFolder, sameFiles, writeCaFolder } from "../identity/rotation-state.ts";
import { afterPrefix } from "../store/etcd/layout.ts";
import { madeAt, put, remove, transaction, writtenAt } from "../store/etcd/requests.ts";
import type { Rows } from "../store/etcd/rows.ts";
import type { Fence } from "../store/fence.ts";

/** What makes several control planes one mesh. */
export const sharedFiles: Readonly<Record<string, number>> = {
  "ca.crt": publicMode,
  "ca.key": privateMode,
  "ca.rotation": privateMode,
  "ca.retired": publicMode,
  "signing.key": privateMode,
  "admin.token": privateMode,
};

const sealedMark = "sealed1:";

/** Reads the file that seals; at least 32 bytes of it. Throws IdentityError. */
export function readSealKey(path: string | undefined): Uint8Array | undefined {
  if (path === undefined) return undefined;
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new IdentityError(`--store-key ${path} cannot be read (${(cause as NodeJS.ErrnoException).code ?? String(cause)})`);
  }
  if (bytes.length < 32)
    throw new IdentityError(
      `--store-key ${path} has ${bytes.length} bytes; it needs 32 or more, for example: head -c 32 /dev/urandom > ${path}`,
    );
  return new Uint8Array(hkdfSync("sha256", bytes, "", "weft shared secrets", 32));
}

export function seal(key: Uint8Array | undefined, name: string, text: string): string {
  if (key === undefined) return text;
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(Buffer.from(name));
  const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return sealedMark + Buffer.concat([nonce, cipher.getAuthTag(), body]).toString("base64");
}

export function unseal(key: Uint8Array | undefined, name: string, text: string): string {
  if (!text.startsWith(sealedMark)) return text;
  if (key === undefined) throw new IdentityError(`${name} in etcd is sealed; give the file it was sealed with: --store-key FILE`);
  const bytes = Buffer.from(text.slice(sealedMark.length), "base64");
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12));
    decipher.setAAD(Buffer.from(name));
    decipher.setAuthTag(bytes.subarray(12, 28));
    return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString("utf8");
  } catch {
    throw new IdentityError(
      `${name} in etcd was sealed with another key than the one in --store-key; give the file that the other control planes use`,
    );
  }
}

/** What etcd holds, unsealed; empty in a new store. */
export async function readShared(rows: Rows, key: Uint8Array | undefined): Promise<Map<string, string>> {
  const prefix = rows.layout.secrets;
  const text = new TextDecoder();
  const found = new Map<string, string>();
  for (const kv of await rows.all(prefix, afterPrefix(prefix))) {
    const name = text.decode(kv.key).slice(prefix.length);
    found.set(name, unseal(key, name, text.decode(kv.value)));
  }
  return found;
}

/** Puts them there if there is no authority yet, all in one step; false when another was first. */
export async function offerShared(rows: Rows, key: Uint8Array | undefined, files: ReadonlyMap<string, string>): Promise<boolean> {
  const { secrets } = rows.layout;
  const writes = [...files].map(([name, text]) => put(`${secrets}${name}`, seal(key, name, text)));
  return (await rows.connection.txn(transaction([writtenAt(`${secrets}ca.crt`, 0n)], writes, []), true)).succeeded;
}

/**
 * Makes the folder one of this mesh: what etcd holds stands in it afterwards. `make` makes the files of a new mesh in the folder it is given. True when this
 * start made the mesh. Throws IdentityError when the folder belongs to another authority.
 */
export async function shareFiles(
  rows: Rows,
  dir: string,
  key: Uint8Array | undefined,
  make: (dir: string) => Promise<void>,
): Promise<boolean> {
  let shared = await readShared(rows, key);
  let created = false;
  if (!shared.has("ca.crt")) {
    const own = readFiles(dir);
    let offered = own;
    if (!own.has("ca.crt")) {
      // Elsewhere first: a start that is cut short leaves no authority behind that nobody else knows.
      const scratch = mkdtempSync(join(dir, ".new-"));
      try {
        await make(scratch);
        offered = readFiles(scratch);
      } finally {
        rmSync(scratch, { recursive: true, force: true });
      }
    }
    created = (await offerShared(rows, key, offered)) && !own.has("ca.crt");
    shared = await readShared(rows, key);
  }
  const ours = readIfThere(join(dir, "ca.crt"));
  const theirs = shared.get("ca.crt") ?? "";
  // A root that took ours' place while this control plane was away names ours among those before it.
  const before = `${shared.get("ca.retired") ?? ""}${theirs}`;
  if (ours !== undefined && !certificates(ours).some((one) => certificates(before).includes(one))) {
    throw new IdentityError(
      `two certificate authorities claim one mesh: ${join(dir, "ca.crt")} is ${fingerprint(ours)}, the one that the control planes on etcd (${rows.layout.prefix}) share is ${fingerprint(theirs)}. ` +
        "Workloads of one would not trust those of the other. To join that mesh start with an empty folder (--data DIR); to keep this one, name another prefix (--store etcd://HOST:PORT/PREFIX).",
    );
  }
  // The authority is the same, or none was here: the rest follows it.
  for (const [name, mode] of Object.entries(sharedFiles)) {
    const text = shared.get(name);
    if (text !== undefined) writeFileAtomic(join(dir, name), text, mode);
    else if (name === "ca.rotation") rmSync(join(dir, name), { force: true });
  }
  return created;
}

/**
 * The authority as all control planes on one etcd share it. A change is one transaction: it fails when somebody else was first or, with a `fence`, when the
 * lease has ended. The folder follows.
 */
export function sharedCaStore(rows: Rows, dir: string, key: Uint8Array | undefined, fence: () => Fence | undefined): CaStore {
  const { secrets } = rows.layout;
  const read = async (): Promise<{ readonly files: CaFiles; readonly raw: ReadonlyMap<string, { text: string; at: bigint }> }> => {
    const raw = new Map<string, { text: string; at: bigint }>();
    const text = new TextDecoder();
    for (const kv of await rows.all(secrets, afterPrefix(secrets))) {
      const name = text.decode(kv.key).slice(secrets.length);
      raw.set(name, { text: unseal(key, name, text.decode(kv.value)), at: kv.modRevision });
    }
    const of = (name: string) => raw.get(name)?.text;
    const files: CaFiles = {
      certificatePem: of(caFileNames.certificate) ?? "",
      keyPem: of(caFileNames.key) ?? "",
      rotation: of(caFileNames.rotation),
      retired: of(caFileNames.retired) ?? "",
    };
    return { files, raw };
  };
  const follow = (files: CaFiles): void => {
    const now = readCaFolder(dir);
    if (now !== undefined && !sameFiles(now, files)) writeCaFolder(dir, now, files);
  };
  return {
    async read() {
      const { files } = await read();
      if (files.keyPem === "") throw new IdentityError("the certificate authority is gone from etcd; restore it from a backup");
      follow(files);
      return files;
    },
    async replace(before, next) {
      const { files, raw } = await read();
      if (!sameFiles(files, before)) return false;
      const compare = Object.values(caFileNames).map((name) => writtenAt(`${secrets}${name}`, raw.get(name)?.at ?? 0n));
      const held = fence();
      if (held !== undefined) compare.push(madeAt(held.key, held.token));
      const texts: readonly (readonly [name: string, before: string | undefined, next: string | undefined])[] = [
        [caFileNames.certificate, before.certificatePem, next.certificatePem],
        [caFileNames.key, before.keyPem, next.keyPem],
        [caFileNames.rotation, before.rotation, next.rotation],
        [caFileNames.retired, before.retired, next.retired],
      ];
      const writes = texts
        .filter(([, was, is]) => was !== is)
        .map(([name, , is]) => (is === undefined ? remove(`${secrets}${name}`) : put(`${secrets}${name}`, seal(key, name, is))));
      const done = (await rows.connection.txn(transaction(compare, writes, []), true)).succeeded;
      if (done) follow(next);
      return done;
    },
  };
}

/** Of a given authority: the roots that all its control planes trust now, for the next one to compare with. */
export async function shareRoots(rows: Rows, key: Uint8Array | undefined, rootPem: string): Promise<void> {
  const name = `${rows.layout.secrets}${caFileNames.certificate}`;
  await rows.connection.txn(transaction([], [put(name, seal(key, caFileNames.certificate, rootPem))], []), true);
}

function certificates(pem: string): string[] {
  return readPem(pem, "CERTIFICATE").map((der) => Buffer.from(der).toString("base64"));
}

export function readFiles(dir: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, mode] of Object.entries(sharedFiles)) {
    const text = mode === privateMode ? readPrivate(join(dir, name)) : readIfThere(join(dir, name));
    if (text !== undefined) found.set(name, text);
  }
  return found;
}

function fingerprint(pem: string): string {
  try {
    const certificate = new X509Certificate(pem);
    const domain = /URI:spiffe:\/\/([a-z0-9._-]+)/.exec(certificate.subjectAltName ?? "")?.[1] ?? "?";
    return `${certificate.fingerprint256.slice(0, 23)}… of trust domain ${domain}`;
  } catch {
    return "no certificate";
  }
}
