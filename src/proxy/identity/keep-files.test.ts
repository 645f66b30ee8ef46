import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keepIdentityFiles } from "./keep-files.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-files-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("three files, the key for one user alone, replaced whole", () => {
  const folder = join(dir, "web");
  keepIdentityFiles(folder, { certificatePem: "C1", privateKeyPem: "K1", rootsPem: "R1" });
  keepIdentityFiles(folder, { certificatePem: "C2", privateKeyPem: "K2", rootsPem: "R2" });
  expect(readdirSync(folder).sort()).toEqual(["cert.pem", "key.pem", "roots.pem"]);
  expect(["cert.pem", "key.pem", "roots.pem"].map((name) => readFileSync(join(folder, name), "utf8"))).toEqual(["C2", "K2", "R2"]);
  expect(statSync(join(folder, "key.pem")).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o077).toBe(0);
});

test("where it cannot be kept, the folder is named", () => {
  const file = join(dir, "file");
  writeFileSync(file, "");
  expect(() => keepIdentityFiles(file, { certificatePem: "", privateKeyPem: "", rootsPem: "" })).toThrow(
    `the identity cannot be kept in ${file}`,
  );
});
