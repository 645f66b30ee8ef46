// Changes that are checked before they are made, and can be undone: validate, diff, apply --atomic, history, rollback, export, backup and
// restore, join tokens. Against a real control plane, with a real instance behind its sidecar.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { weftBin } from "../../demo/processes.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { app, eventually, TestMesh } from "../support/mesh.ts";

let mesh: TestMesh;
beforeAll(async () => {
  mesh = await TestMesh.start();
}, 20_000);
afterAll(() => mesh?.stop());

const weft = (words: string, stdin = "") => mesh.processes.weft(words.split(" "), stdin);
async function ok(words: string, stdin = ""): Promise<string> {
  const { code, out, err } = await weft(words, stdin);
  expect({ words, code, err: code === 0 ? "" : err }).toEqual({ words, code: 0, err: "" });
  return out;
}
const file = (name: string, text: string): string => {
  const folder = join(mesh.dataDir, "files");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const service = (name: string, selector: string) =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: {selector: ${selector}, ports: [{name: http, port: 80}]}\n`;
const route = (name: string, share: number) => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules:
  - backendRefs: [{name: reviews-v1, port: 80, weight: ${100 - share}}, {name: reviews-v2, port: 80, weight: ${share}}]
`;
const base = [
  service("reviews", "{app: reviews}"),
  service("reviews-v1", "{app: reviews, version: v1}"),
  service("reviews-v2", "{app: reviews, version: v2}"),
];

test("a folder is checked offline, then applied as one; one fault, and nothing of it is", async () => {
  const good = file("good.yaml", [...base, route("reviews", 10)].join("---\n"));
  expect(await ok(`validate --complete -f ${good}`)).toBe("4 objects, 0 errors, 0 warnings\n");
  const bad = file(
    "bad.yaml",
    [service("cart", "{app: cart}"), route("twin", 50), route("typo", 1).replace("backendRefs", "backendRfs")].join("---\n"),
  );
  const offline = await weft(`validate -f ${good} -f ${bad}`);
  expect(offline.code).toBe(1);
  expect(offline.err).toMatch(
    /bad\.yaml:\d+: HTTPRoute shop\/twin \(document 2\): spec\.rules\[0\]\.matches\[0\]: contradicts HTTPRoute shop\/reviews/,
  );
  expect(offline.err).toContain('unknown field "backendRfs"; did you mean "backendRefs"?');

  expect(await ok(`apply --atomic -f ${good}`)).toContain("httproute.gateway.networking.k8s.io/reviews created");
  expect(await ok(`apply --atomic -f ${good}`)).toMatch(/^(.* unchanged\n){4}$/);
  const refused = await weft(`apply --atomic -f ${bad}`);
  expect(refused.code).toBe(1);
  expect(refused.err).toContain("contradicts HTTPRoute shop/reviews");
  expect(refused.err).toContain('unknown field "backendRfs"');
  expect(refused.err).toContain("2 faults, 0 of 3 objects applied");
  expect(await ok("get services -n shop -o name")).not.toContain("cart");
  expect(await ok(`apply --dry-run=server -f ${file("cart.yaml", service("cart", "{app: cart}"))}`)).toBe(
    "service/cart created (server dry run)\nNo proxy would do anything else.\n",
  );
  expect(await ok("get services -n shop -o name")).not.toContain("cart");

  // Neither of the two stands there yet: only the folder as a whole contradicts itself.
  const twins = file(
    "twins.yaml",
    [service("cart", "{app: cart}"), route("one", 10), route("two", 50)]
      .join("---\n")
      .replaceAll("name: reviews, port: 80", "name: cart, port: 80"),
  );
  const rehearsed = await weft(`apply --dry-run=server -f ${twins}`);
  expect(rehearsed).toMatchObject({ code: 1, out: "service/cart created (server dry run)\n" });
  expect(rehearsed.err).toContain("contradicts HTTPRoute shop/two");
  expect(rehearsed.err).toContain("2 faults, 1 of 3 objects would be applied");

  const nothing = await weft("history");
  expect(nothing.err).toContain("nothing was written in namespace default since revision 1; weft history -n NAMESPACE shows another");
}, 30_000);

test("a listed token lets one instance join; what a change does is told by proxy; and it is undone", async () => {
  // The token's holder is another machine: it knows the mesh by this file alone.
  const join1 = file("join.kubeconfig", await ok("token create --service-account reviews -n shop --ttl 20m"));
  const listed = JSON.parse(await ok("token list -n shop -o json")) as { tokens: { name: string; state: string }[] };
  expect(listed.tokens.map(({ state }) => state)).toEqual(["good"]);
  const port = await freePort();
  const instance = Bun.spawn(
    [
      weftBin,
      "run",
      "--kubeconfig",
      join1,
      "-n",
      "shop",
      "--service",
      "reviews",
      "--version",
      "v1",
      "--port",
      String(port),
      "--",
      ...app("echo.ts"),
    ],
    {
      env: { PATH: process.env.PATH ?? "", HOME: mesh.dataDir, PORT: String(port), INSTANCE: "reviews-v1" },
      stdout: "ignore",
      stderr: "pipe",
    },
  );
  try {
    const connected = () => mesh.processes.weft(["status", "-n", "shop", "--check"]);
    const ready = await eventually(15_000, connected, ({ code, out }) => code === 0 && out.includes("reviews"));
    if (!ready.out.includes("reviews")) instance.kill("SIGTERM");
    expect({ status: ready.out, instance: ready.out.includes("reviews") ? "" : await new Response(instance.stderr).text() }).toEqual({
      status: expect.stringContaining("1 connected, all in step"),
      instance: "",
    });
    const used = JSON.parse(await ok("token list -n shop -o json")) as typeof listed;
    expect(used.tokens[0]?.state).toBe("used");

    const { revision } = JSON.parse(await ok("history -n shop -o json")) as { revision: number };
    const shift = file("shift.yaml", route("reviews", 90));
    const diff = await weft(`diff --exit-code -f ${shift}`);
    expect(diff.code).toBe(1);
    expect(diff.out).toMatch(/-\s+weight: 90\n\+\s+weight: 10\n/);
    expect(diff.out).toMatch(/Proxies\nall 1 \(shop\/reviews-v1-\w+\)/);
    expect(diff.out).toContain("- route shop/reviews:80 everything -> shop/reviews-v1:80 90%, shop/reviews-v2:80 10%");
    expect(diff.out).toContain("+ route shop/reviews:80 everything -> shop/reviews-v1:80 10%, shop/reviews-v2:80 90%");
    await ok(`apply -f ${shift}`);
    expect(await ok(`diff --exit-code -f ${shift}`)).toBe("");
    expect(await ok("history httproute reviews -n shop")).toMatch(/REVISION +AGE +BY +DID +OBJECT[\s\S]*admin +changed +httproutes/);
    expect(await ok(`rollback ${revision} -n shop --dry-run`)).toContain("+ route shop/reviews:80 everything -> shop/reviews-v1:80 90%");
    expect(await ok(`rollback ${revision} -n shop`)).toBe("httproute/reviews configured\n");
    expect(await ok("get httproute reviews -n shop -o json")).toContain('"weight": 90');
    // The instance is a fact, not a wish: going back does not take it away.
    expect((await weft("rollback 3 -n shop")).out).not.toContain("workloadentr");
    expect(await ok("status -n shop")).toContain("1 connected");
    await ok(`rollback ${revision} -n shop`);

    // Used up: nobody else gets a certificate with it.
    const second = Bun.spawn([weftBin, "run", "--kubeconfig", join1, "-n", "shop", "--service", "reviews", "--wait", "3s", "--", "true"], {
      env: { PATH: process.env.PATH ?? "", HOME: mesh.dataDir },
      stdout: "ignore",
      stderr: "pipe",
    });
    let words = "";
    for await (const chunk of second.stderr) {
      words += new TextDecoder().decode(chunk);
      if (words.includes("was used at")) break;
    }
    second.kill("SIGKILL");
    await second.exited;
    expect(words).toContain("is good for one certificate and was used at");
    const proxy = async () =>
      (JSON.parse(await ok("get proxies -n shop -o json")) as { items: { status: { connected: boolean; connectedAt: string } }[] }).items[0]
        ?.status;
    const before = await proxy();
    await ok(`token revoke ${used.tokens[0]?.name} -n shop`);
    // What the instance has open by the token ends; it comes back by its certificate.
    const after = await eventually(15_000, proxy, (now) => now?.connected === true && now.connectedAt !== before?.connectedAt);
    expect(after?.connected).toBe(true);
    expect(after?.connectedAt).not.toBe(before?.connectedAt);
    expect((await weft(`get services --kubeconfig ${join1} -n shop`)).err).toContain("was revoked");
  } finally {
    instance.kill("SIGTERM");
    await instance.exited;
  }
}, 60_000);

test("an export applies to an empty mesh and says the same there", async () => {
  const text = await ok("export");
  expect(text).not.toMatch(/uid:|resourceVersion|status:/);
  const other = await TestMesh.start();
  try {
    const applied = await other.processes.weft(["apply", "--atomic", "-f", "-"], text);
    // Instances are not exported: they register themselves.
    const warning = /^(warning: backendRefs: .* have no instance now: .*\n)?$/;
    expect({ code: applied.code, err: applied.err }).toEqual({ code: 0, err: expect.stringMatching(warning) });
    expect((await other.processes.weft(["export"])).out).toBe(text);
  } finally {
    await other.stop();
  }
}, 30_000);

test("a backup restored elsewhere is the same mesh: objects, history, authority", async () => {
  const backup = join(mesh.dataDir, "a.backup");
  const target = `${backup}-restored`;
  expect(await ok(`backup ${backup}`)).toContain("revision");
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  expect((await weft(`backup ${backup}`)).err).toContain("is there already");
  const before = JSON.parse(await ok("get services -A -o json")) as { items: KubeObject[] };
  expect(await ok(`restore ${backup} --data ${target}`)).toContain("restored the mesh of");
  expect(readFileSync(join(target, "ca.crt"), "utf8")).toBe(readFileSync(join(mesh.dataDir, "ca.crt"), "utf8"));
  expect((await weft(`restore ${backup} --data ${mesh.dataDir}`)).err).toContain("holds a mesh already");
  const up = Bun.spawn([weftBin, "up", "--data", target, "--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"], {
    stdout: "ignore",
    stderr: "ignore",
    env: { PATH: process.env.PATH ?? "" },
  });
  try {
    await eventually(
      15_000,
      async () => existsSync(join(target, "admin.kubeconfig")),
      (there) => there,
    );
    const list = () => weft(`get services -A -o json --kubeconfig ${join(target, "admin.kubeconfig")}`);
    const after = await eventually(10_000, list, ({ code }) => code === 0);
    expect((JSON.parse(after.out) as typeof before).items).toEqual(before.items);
  } finally {
    up.kill("SIGTERM");
    await up.exited;
  }
}, 40_000);
