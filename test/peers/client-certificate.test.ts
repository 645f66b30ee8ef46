// Client certificates as credentials, made by openssl and shown by kubectl, our own command line and curl, against a whole control plane.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunCommand } from "../../demo/processes.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const there = needsPeers("client-certificate.test.ts", "kubectl", "openssl");
const [kubectl, openssl] = [findPeer("kubectl") ?? "kubectl", findPeer("openssl") ?? "openssl"];
const dir = mkdtempSync(join(tmpdir(), "weft-client-peer-"));
const file = (name: string): string => join(dir, name);
let plane: ControlPlane | undefined;

async function ok(...words: string[]): Promise<string> {
  const { code, out, err } = await execute(words);
  if (code !== 0) throw new Error(`${words.join(" ")}: ${err}${out}`);
  return out;
}

const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** A kubeconfig whose user signs in by a certificate for `subject`, signed by the authority of that name. */
async function kubeconfig(name: string, subject: string, ca = "people"): Promise<string> {
  await ok(openssl, "req", ...ec, "-keyout", file(`${name}.key`), "-out", file(`${name}.csr`), "-subj", subject);
  const [from, to] = [file(`${name}.csr`), file(`${name}.crt`)];
  await ok(
    openssl,
    "x509",
    "-req",
    "-in",
    from,
    "-CA",
    file(`${ca}.crt`),
    "-CAkey",
    file(`${ca}.key`),
    "-CAcreateserial",
    "-days",
    "2",
    "-out",
    to,
  );
  const admin = readFileSync(file("data/admin.kubeconfig"), "utf8");
  const data = (path: string) => readFileSync(path).toString("base64");
  const user = `client-certificate-data: ${data(to)}\n    client-key-data: ${data(file(`${name}.key`))}`;
  writeFileSync(file(`${name}.kubeconfig`), admin.replace(/^ {4}token: .*$/m, `    ${user}`));
  return file(`${name}.kubeconfig`);
}

async function asked(config: string, ...words: string[]) {
  return execute([kubectl, "--kubeconfig", config, "--cache-dir", file("cache"), ...words]);
}

beforeAll(async () => {
  if (!there) return;
  for (const name of ["people", "strangers"])
    await ok(
      openssl,
      "req",
      "-x509",
      ...ec,
      "-keyout",
      file(`${name}.key`),
      "-out",
      file(`${name}.crt`),
      "-subj",
      `/CN=${name}`,
      "-days",
      "2",
    );
  plane = await startControlPlane({ dataDir: file("data"), apiPort: 0, xdsPort: 0, dashboardPort: 0, clientCaFile: file("people.crt") });
}, 60_000);
afterAll(async () => {
  await plane?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe.skipIf(!there)("a client certificate in a kubeconfig", () => {
  test("is who kubectl is, with what is bound to its name and organizations", async () => {
    const jane = await kubeconfig("jane", "/CN=jane/O=shop-team");
    const whoami = await asked(jane, "auth", "whoami");
    expect(whoami.out).toMatch(/Username +jane/);
    expect(whoami.out).toContain("shop-team");
    expect((await asked(jane, "get", "services", "-n", "shop")).err).toContain('User "jane" cannot list resource "services"');
    const admin = file("data/admin.kubeconfig");
    expect(await asked(admin, ..."create rolebinding team --clusterrole edit --group shop-team -n shop".split(" "))).toMatchObject({
      code: 0,
    });
    expect(await asked(jane, ..."create service clusterip cart --tcp 80 -n shop".split(" "))).toMatchObject({ code: 0 });
    expect((await asked(jane, "get", "services", "-n", "shop", "-o", "name")).out).toBe("service/cart\n");
    const root = await kubeconfig("root", "/CN=root/O=system:masters");
    expect((await asked(root, "get", "services", "-A", "-o", "name")).out).toBe("service/cart\n");
  }, 60_000);

  test("is read by weft too, and a certificate of strangers is refused by name of the reason", async () => {
    const root = await kubeconfig("root", "/CN=root/O=system:masters");
    const weft = [bunCommand, join(import.meta.dir, "../../src/main.ts")];
    expect((await execute([...weft, "get", "services", "-A", "--kubeconfig", root])).out).toContain("cart");
    const strange = await kubeconfig("strange", "/CN=root/O=system:masters", "strangers");
    expect((await asked(strange, "get", "services", "-A")).err).toMatch(/[Uu]nauthorized|must be logged in/);
    const refused = await execute([...weft, "get", "services", "-A", "--kubeconfig", strange]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("the client certificate is not good here")]);
  }, 60_000);

  test("is made by weft user certificate where Weft is the authority, and kubectl takes it", async () => {
    const data = file("own");
    const own = await startControlPlane({ dataDir: data, apiPort: 0, xdsPort: 0, dashboardPort: 0, clientCaFile: "own" });
    try {
      const words = [
        "user",
        "certificate",
        "jane",
        "--group",
        "system:masters",
        "--ttl",
        "1h",
        "--kubeconfig",
        join(data, "admin.kubeconfig"),
      ];
      const made = await execute([bunCommand, join(import.meta.dir, "../../src/main.ts"), ...words]);
      expect([made.code, made.err]).toEqual([0, expect.stringContaining("certificate of jane, good until")]);
      writeFileSync(file("jane-own.kubeconfig"), made.out, { mode: 0o600 });
      expect((await asked(file("jane-own.kubeconfig"), "auth", "whoami")).out).toMatch(/Username +jane/);
      expect(await asked(file("jane-own.kubeconfig"), "create", "service", "clusterip", "cart", "--tcp", "80")).toMatchObject({ code: 0 });
    } finally {
      await own.stop();
    }
  }, 60_000);
});
