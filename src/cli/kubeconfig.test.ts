import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accessFrom, formatKubeconfig, joinClaims, kubeconfigPath, NoKubeconfig, readAccess } from "./kubeconfig.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "weft-kubeconfig-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n";
const base = (cluster: object, user: object) => ({
  "current-context": "c",
  contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
  clusters: [{ name: "k", cluster: { server: "https://127.0.0.1:7443/", ...cluster } }],
  users: [{ name: "u", user }],
});

test("where it is looked for", () => {
  expect(kubeconfigPath("F", { WEFT_KUBECONFIG: "K" })).toBe("F");
  expect(kubeconfigPath(undefined, { WEFT_KUBECONFIG: "K", WEFT_DATA: "D" })).toBe("K");
  expect(kubeconfigPath(undefined, { WEFT_DATA: "D", HOME: "/h" })).toBe("D/admin.kubeconfig");
  expect(kubeconfigPath(undefined, { HOME: "/h" })).toBe("/h/.weft/admin.kubeconfig");
});

describe("readAccess", () => {
  test("what it writes it reads again, with awkward values", () => {
    const file = join(dir, "round.kubeconfig");
    const access = { server: "https://10.0.0.5:7443", ca: pem, token: 'a"b: #c', namespace: "shop" };
    writeFileSync(file, formatKubeconfig(access, "shop:reviews"));
    expect(readAccess(file)).toMatchObject({ ...access, file, skipVerify: false });
  });

  test("files that it names are looked up beside it", () => {
    writeFileSync(join(dir, "ca.crt"), pem);
    writeFileSync(join(dir, "token"), "secret\n");
    const access = accessFrom(base({ "certificate-authority": "ca.crt" }, { tokenFile: "token" }), join(dir, "k"));
    expect(access).toMatchObject({ ca: pem, token: "secret", server: "https://127.0.0.1:7443", namespace: "default" });
  });

  test.each([
    [{}, "names no current-context"],
    [{ "current-context": "x" }, 'has no context "x"'],
    [{ ...base({}, {}), clusters: [] }, 'has no cluster "k" with a server'],
    [base({}, { exec: { command: "aws" } }), 'signs in by "exec"; weft knows token, tokenFile and client-certificate with client-key'],
    [base({ "certificate-authority": "none.crt" }, {}), "none.crt, which cannot be read (ENOENT)"],
    ["words", "is empty or no mapping"],
  ])("%#: says what is wrong with it", (document, message) => {
    expect(() => accessFrom(document, join(dir, "k"))).toThrow(message);
  });

  test("a missing file says how to get one", () => {
    expect(() => readAccess(join(dir, "nope"))).toThrow(NoKubeconfig);
    expect(() => readAccess(join(dir, "nope"))).toThrow(/Start a control plane with "weft up"/);
  });
});

test("what a join token says of itself; anything else is opaque", () => {
  const body = (claims: object) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
  expect(joinClaims(body({ sub: "system:serviceaccount:shop:reviews", exp: 10 }))).toEqual({
    namespace: "shop",
    serviceAccount: "reviews",
    expiresAt: 10_000,
  });
  for (const token of [undefined, "weft-admin-abc", "a.b.c", body({ sub: "alice" })]) expect(joinClaims(token)).toBeUndefined();
});
