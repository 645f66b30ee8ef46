// What an operator leans on when something is wrong, against a whole control plane: `weft check`, `weft bug-report` and the control plane's own metrics.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bunCommand } from "../../demo/processes.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { execute } from "../support/execute.ts";

const dir = mkdtempSync(join(tmpdir(), "weft-operating-"));
const data = join(dir, "mesh");
const main = join(import.meta.dir, "../../src/main.ts");
let plane: ControlPlane;
let tokens: Record<string, string> = {};

const weft = (words: readonly string[], stdin?: string) =>
  execute([bunCommand, main, ...words], {
    env: { ...(process.env as Record<string, string>), WEFT_DATA: data, NO_COLOR: "1" },
    limitMs: 30_000,
    ...(stdin === undefined ? {} : { stdin }),
  });
const ok = async (words: readonly string[], stdin?: string): Promise<string> => {
  const { code, out, err } = await weft(words, stdin);
  if (code !== 0) throw new Error(`weft ${words.join(" ")}: ${err}${out}`);
  return out;
};
const ask = (path: string): Promise<Response> =>
  fetch(plane.apiUrl + path, {
    tls: { ca: readFileSync(join(data, "ca.crt"), "utf8") },
    headers: { authorization: `Bearer ${readFileSync(join(data, "admin.token"), "utf8").trim()}` },
  });

beforeAll(async () => {
  plane = await startControlPlane({ dataDir: data, apiPort: 0, xdsPort: 0, dashboardPort: 0 });
}, 30_000);
afterAll(async () => {
  await plane?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe("weft check", () => {
  test("has nothing to say of a good installation, and names what is wrong with a bad one, with the way out", async () => {
    const good = await weft(["check"]);
    expect([good.code, good.out]).toEqual([
      0,
      expect.stringMatching(/^nothing is wrong \(control plane, clocks, certificates, data folder, ports, 0 proxies/),
    ]);
    chmodSync(join(data, "admin.token"), 0o644);
    await ok(
      ["apply", "-f", "-"],
      `
apiVersion: v1
kind: Service
metadata: {name: lonely, namespace: shop}
spec: {selector: {app: lonely}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lonely, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: lonely}]
  rules:
    - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Authorization, value: Basic-aHVzaC1odXNo}, {name: x-plain, value: to-be-seen}]}}]
      backendRefs: [{name: lonely, port: 80}]
`,
    );
    const bad = await weft(["check", "-o", "json"]);
    const { errors, findings } = JSON.parse(bad.out) as {
      errors: number;
      findings: { level: string; about: string; message: string; fix: string }[];
    };
    expect(bad.code).toBe(1);
    expect(errors).toBe(1);
    expect(findings[0]).toMatchObject({
      level: "error",
      about: expect.stringContaining("data folder"),
      message: "admin.token can be read by others (mode 0644)",
      fix: expect.stringContaining("chmod 600"),
    });
    expect(findings.every(({ fix, message }) => fix !== "" && message !== "")).toBe(true);
    chmodSync(join(data, "admin.token"), 0o600);
    expect((await weft(["check"])).code).toBe(0);
  }, 60_000);

  test("looks at the folder of a control plane with a store elsewhere, and says once what a credential may not see", async () => {
    // With a store in etcd there is no weft.db.
    const folder = join(dir, "with-etcd");
    mkdirSync(folder, { mode: 0o700 });
    for (const name of ["admin.kubeconfig", "signing.key"]) copyFileSync(join(data, name), join(folder, name));
    chmodSync(join(folder, "signing.key"), 0o640);
    const kubeconfig = join(folder, "admin.kubeconfig");
    expect((await weft(["check", "--kubeconfig", kubeconfig])).out).toContain("signing.key can be read by others (mode 0640)");
    expect((await weft(["check", "--data", dir])).err).toContain("holds no mesh");
    const poor = join(dir, "poor.kubeconfig");
    await Bun.write(poor, await ok(["user", "create", "poor"]));
    const { out } = await weft(["check", "--kubeconfig", poor]);
    expect(out.match(/could not be looked at/g)?.length).toBe(1);
    expect(out).toMatch(
      /WARNING \d+ kinds: could not be looked at: this credential may not list them \(.*httproutes.*\)\n +fix: use a credential/,
    );
  }, 60_000);

  test("says that the control plane is away, and how to start it", async () => {
    const kubeconfig = join(dir, "away.kubeconfig");
    await Bun.write(
      kubeconfig,
      readFileSync(join(data, "admin.kubeconfig"), "utf8").replace(/server: .*/, 'server: "https://127.0.0.1:1"'),
    );
    const away = await weft(["check", "--kubeconfig", kubeconfig]);
    expect([away.code, away.out]).toEqual([1, expect.stringMatching(/ERROR {3}control plane: .*Is "weft up" running\?\n +fix: start it/)]);
    // What may keep it from starting is looked at all the same, and monitors get it in their own form.
    chmodSync(join(data, "ca.key"), 0o644);
    const { code, out } = await weft(["check", "-o", "json", "--kubeconfig", kubeconfig, "--data", data]);
    chmodSync(join(data, "ca.key"), 0o600);
    const { findings } = JSON.parse(out) as { findings: { about: string; message: string }[] };
    expect([code, findings.map(({ about }) => about.split(" ").slice(0, 2).join(" "))]).toEqual([1, ["control plane", "data folder"]]);
    expect(findings[1]?.message).toContain("ca.key can be read by others");
  }, 60_000);
});

test("weft bug-report has what is needed, and no secret", async () => {
  const joinToken = (await ok(["token", "create", "--service-account", "cart", "-n", "shop"])).trim();
  const kubeconfig = await ok(["user", "create", "alice"]);
  tokens = {
    administrator: readFileSync(join(data, "admin.token"), "utf8").trim(),
    join: joinToken,
    user: /token: "?([^"\n]+)/.exec(kubeconfig)?.[1] as string,
    authority: readFileSync(join(data, "ca.key"), "utf8").split("\n")[1] as string,
    server: readFileSync(join(data, "server.key"), "utf8").split("\n")[1] as string,
    header: "aHVzaC1odXNo",
    secret: Buffer.from("hush-hush-secret").toString("base64"),
    annotation: "hush-annotation",
    matcher: "hush-matcher",
    configMap: "hush-config-map",
  };
  await ok(
    ["apply", "-f", "-"],
    `
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: shop}
type: Opaque
data: {key: ${tokens.secret}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: app, namespace: shop}
data: {app.yaml: "door: hush-config-map"}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: keyed, namespace: shop}
spec: {hosts: [noted], http: [{match: [{headers: {x-api-key: {exact: hush-matcher}}}], route: [{destination: {host: noted}}]}, {route: [{destination: {host: noted}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: noted, namespace: shop, annotations: {example.com/api-key: hush-annotation, example.com/owner: the-team}}
spec: {ports: [{name: http, port: 80}]}
`,
  );
  const file = join(dir, "report.tar.gz");
  const made = await weft(["bug-report", file]);
  expect([made.code, made.out]).toEqual([0, expect.stringMatching(/report\.tar\.gz: \d+ files/)]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect((await weft(["bug-report", file])).err).toContain("is there already");
  const into = join(dir, "report");
  await new Bun.Archive(await Bun.file(file).bytes()).extract(into);
  const names = (readdirSync(into, { recursive: true }) as string[]).sort();
  for (const name of ["version.json", "check.json", "metrics.txt", "history.json", "log.jsonl", "objects/services.json"])
    expect(names).toContain(name);
  expect(names.filter((name) => /secret|jointoken|missing/.test(name))).toEqual([]);
  const whole = names
    .filter((name) => statSync(join(into, name)).isFile())
    .map((name) => readFileSync(join(into, name), "utf8"))
    .join("\n");
  for (const [what, secret] of Object.entries(tokens)) {
    expect([what, secret.length > 8]).toEqual([what, true]);
    expect([what, whole.includes(secret)]).toEqual([what, false]);
  }
  for (const kept of ["the-team", "to-be-seen", "weft_control_push_seconds", '"lonely"'])
    expect([kept, whole.includes(kept)]).toEqual([kept, true]);
}, 90_000);

test("the control plane's metrics tell of every stage, queue, proxy, refusal and of the store", async () => {
  const page = await (await ask("/metrics")).text();
  const families = [...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => `${name} ${kind}`);
  for (const family of [
    "weft_control_push_seconds histogram",
    "weft_control_push_queue_depth gauge",
    "weft_control_connected_proxies gauge",
    "weft_control_proxies_behind gauge",
    "weft_control_xds_rejections_total counter",
    "weft_control_resources_quarantined gauge",
    "weft_control_store_seconds histogram",
    "weft_control_api_requests_total counter",
    "weft_control_api_request_seconds histogram",
    "weft_control_compile_failures_total counter",
  ])
    expect(families).toContain(family);
  for (const stage of ["wait", "compile"]) expect(page).toMatch(new RegExp(`weft_control_push_seconds_count\\{stage="${stage}"\\} [1-9]`));
  // The store is timed by operation, refused requests counted by their code.
  expect(page).toMatch(/weft_control_store_seconds_count\{operation="create"\} [1-9]/);
  const code = 'weft_control_api_requests_total{verb="get",code="404"}';
  await ask("/api/v1/namespaces/shop/services/nobody");
  expect(await (await ask("/metrics")).text()).toContain(code);
}, 30_000);
