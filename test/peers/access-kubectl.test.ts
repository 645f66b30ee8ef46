// Roles and bindings as kubectl makes them and asks after them, against a whole control plane.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const there = needsPeers("access-kubectl.test.ts", "kubectl");
const binary = findPeer("kubectl");
let dir = "";
let plane: ControlPlane;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "weft-access-peer-"));
  plane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0 });
});
afterAll(async () => {
  await plane.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function kubectl(who: string, words: string): Promise<{ code: number; out: string; err: string }> {
  const process = Bun.spawn([binary ?? "kubectl", "--kubeconfig", join(dir, who), "--cache-dir", join(dir, "cache"), ...words.split(" ")], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([new Response(process.stdout).text(), new Response(process.stderr).text(), process.exited]);
  return { code, out, err };
}

describe.skipIf(!there)("kubectl", () => {
  test("makes roles and bindings, and is told what a user may do", async () => {
    const admin = (words: string) => kubectl("admin.kubeconfig", words);
    writeFileSync(join(dir, "alice.yaml"), "apiVersion: weft.dev/v1alpha1\nkind: User\nmetadata: {name: alice}\nspec: {groups: [team]}\n");
    expect((await admin(`apply -f ${join(dir, "alice.yaml")}`)).out).toBe("user.weft.dev/alice created\n");
    const made = await admin("create --raw /apis/weft.dev/v1alpha1/users/alice/token -f /dev/null");
    const { token } = (JSON.parse(made.out) as { status: { token: string } }).status;
    const own = readFileSync(join(dir, "admin.token"), "utf8").trim();
    writeFileSync(join(dir, "alice"), readFileSync(join(dir, "admin.kubeconfig"), "utf8").replace(own, token), { mode: 0o600 });
    const alice = (words: string) => kubectl("alice", words);

    expect((await alice("auth whoami")).out).toContain("[team weft:users system:authenticated]");
    expect(await alice("get services -n shop")).toMatchObject({
      code: 1,
      err: 'Error from server (Forbidden): services is forbidden: User "alice" cannot list resource "services" in API group "" in the namespace "shop"\n',
    });
    expect(await admin("create role reader --verb get,list --resource services -n shop")).toMatchObject({ code: 0, err: "" });
    expect(await admin("create rolebinding reader --role reader --group team -n shop")).toMatchObject({ code: 0, err: "" });
    expect(await alice("auth can-i list services -n shop")).toMatchObject({ code: 0, out: "yes\n" });
    expect((await alice("auth can-i list services -n other")).code).toBe(1);
    const list = (await alice("auth can-i --list -n shop")).out;
    expect(list).toMatch(/^services +\[\] +\[\] +\[get list\]$/m);
    expect(list).toMatch(/^selfsubjectrulesreviews\.authorization\.k8s\.io +\[\] +\[\] +\[create\]$/m);
    expect(list).not.toMatch(/^tokenreviews|\*\.\*/m);
    expect((await alice("get services -n shop")).code).toBe(0);
    expect((await admin("auth can-i delete services -n shop --as alice")).code).toBe(1);
    expect((await admin("auth can-i list services -n shop --as bob --as-group team")).out).toBe("yes\n");

    expect(await admin("create rolebinding lead --clusterrole admin --user alice -n shop")).toMatchObject({ code: 0 });
    expect((await alice("create rolebinding more --clusterrole cluster-admin --user alice -n shop")).err).toContain(
      "is attempting to grant RBAC permissions not currently held",
    );
    expect((await alice("create rolebinding bob --clusterrole edit --user bob -n shop")).code).toBe(0);
    expect((await admin("delete clusterrole view")).err).toContain("is part of every mesh and cannot be written");
    const role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: applied, namespace: shop}\nrules:\n";
    const file = join(dir, "role.yaml");
    writeFileSync(file, `${role}- {apiGroups: [""], resources: [services], verbs: [get]}\n`);
    expect((await admin(`apply -f ${file}`)).out).toContain("applied created");
    writeFileSync(file, `${role}- {apiGroups: [""], resources: [services], verbs: [get, list]}\n`);
    expect((await admin(`apply -f ${file}`)).out).toContain("applied configured");
    expect((await admin(`auth reconcile -f ${file}`)).code).toBe(0);
    expect((await admin("describe clusterrole weft:observer")).out).toContain("/insight/*");
  }, 30_000);
});
