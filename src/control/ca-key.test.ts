// `weft ca encrypt` and `decrypt` on a folder: what openssl can read afterwards, and what is refused.

import { afterAll, expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { openAuthority } from "./identity/authority.ts";
import { folderStore, readCaFolder, readRotation, writeRotation } from "./identity/rotation-state.ts";
import { lockFolder } from "./lock.ts";

const root = mkdtempSync(join(tmpdir(), "weft-ca-key-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const bin = join(import.meta.dir, "../../bin/weft");

async function weft(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = { ...process.env, WEFT_CA_PASSPHRASE: "" };
  const child = Bun.spawn([bin, "ca", ...args], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, out, err };
}

test("the key, and that of a root to come, go under a passphrase, under another one, and back", async () => {
  const dir = join(root, "mesh");
  const authority = await openAuthority({ dir, trustDomain: undefined, clock: systemClock, random });
  const plain = createPrivateKey(readFileSync(join(dir, "ca.key"), "utf8"));
  const files = authority.files;
  if (files === undefined) throw new Error("the authority is ours");
  const next = authority.makeNext();
  const rotation = writeRotation({ phase: "distributing", startedAt: "2026-01-01T00:00:00Z", switchedAt: null, next });
  expect(await folderStore(dir).replace(files, { ...files, rotation })).toBe(true);
  const [first, second] = [join(root, "first"), join(root, "second")];
  writeFileSync(first, "correct horse battery\n");
  writeFileSync(second, "another horse entirely\n");
  const isPlain = (pem: string) => pem.includes("-----BEGIN PRIVATE KEY-----");
  const opened = (passphrase: string): string =>
    Bun.spawnSync(["openssl", "pkey", "-in", join(dir, "ca.key"), "-passin", `pass:${passphrase}`]).stdout.toString();

  expect((await weft("encrypt", "--data", dir)).err).toContain("give the passphrase with --passphrase-file FILE or $WEFT_CA_PASSPHRASE");
  expect(await weft("encrypt", "--data", dir, "--passphrase-file", first)).toMatchObject({ code: 0, err: "" });
  expect(createPrivateKey(opened("correct horse battery")).equals(plain)).toBe(true);
  expect(statSync(join(dir, "ca.key")).mode & 0o777).toBe(0o600);
  expect(isPlain(readRotation(readCaFolder(dir)?.rotation ?? "").next.keyPem)).toBe(false);

  expect((await weft("decrypt", "--data", dir, "--passphrase-file", second)).err).toContain("the passphrase is wrong");
  expect(await weft("encrypt", "--data", dir, "--passphrase-file", first, `--new-passphrase-file=${second}`)).toMatchObject({ code: 0 });
  expect(opened("correct horse battery")).toBe("");
  expect(createPrivateKey(opened("another horse entirely")).equals(plain)).toBe(true);

  const lock = lockFolder(dir);
  expect((await weft("decrypt", "--data", dir, "--passphrase-file", second)).err).toContain("is in use by");
  lock.release();
  expect(await weft("decrypt", "--data", dir, "--ca-passphrase-file", second)).toMatchObject({ code: 0 });
  expect(createPrivateKey(readFileSync(join(dir, "ca.key"), "utf8")).equals(plain)).toBe(true);
  expect(readRotation(readCaFolder(dir)?.rotation ?? "").next.keyPem).toContain("-----BEGIN PRIVATE KEY-----");
}, 60_000);

test("a folder without an authority, and words that are not known, are refused", async () => {
  expect((await weft("encrypt", "--data", join(root, "nothing"), "--passphrase-file", join(root, "first"))).err).toContain(
    "holds no key of a certificate authority",
  );
  expect(await weft("encrypt", "--dat", "x")).toMatchObject({ code: 2, err: expect.stringContaining("there is no --dat here") });
}, 30_000);
