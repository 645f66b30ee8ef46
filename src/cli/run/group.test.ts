// What a WorkloadGroup and ProxyConfigs make of the flags of `weft run`, and the probes that only a group can ask for.

import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { rootNamespace } from "../../api/kinds/authorizationpolicy.ts";
import type { ProxyConfigObject } from "../../api/kinds/proxyconfig.ts";
import type { WorkloadGroupObject } from "../../api/kinds/workloadgroup-spec.ts";
import type { KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { parse } from "../parse.ts";
import type { VerbSpec } from "../spec.ts";
import { verbNamed } from "../verbs.ts";
import { type Template, templateOf, withGroup } from "./group.ts";
import { type AppCheck, AppHealth, askOnce } from "./health.ts";
import { instanceKey } from "./memory.ts";
import { choosePort, labelsFor, newEntry, newService } from "./objects.ts";
import { type Plan, planFrom } from "./plan.ts";
import { speaking } from "./proxyconfig.ts";

const plan = (...flags: string[]): Plan => planFrom(parse(verbNamed("run") as VerbSpec, [...flags, "--", "app"]));
const template = (spec: WorkloadGroupObject["spec"]): Template =>
  templateOf({
    apiVersion: "networking.istio.io/v1",
    kind: "WorkloadGroup",
    metadata: { name: "reviews", namespace: "shop", uid: "u1" },
    spec,
  });
const whole = template({
  metadata: { labels: { team: "books" }, annotations: { contact: "x" } },
  template: { labels: { version: "v1" }, ports: { "grpc-api": 9080 }, serviceAccount: "reader", locality: "eu/a", weight: 2 },
  probe: { periodSeconds: 0, timeoutSeconds: 3, failureThreshold: 2, initialDelaySeconds: 4, grpc: { port: 9081 } },
});

describe("flags over a group", () => {
  test("the group says what no flag does", () => {
    const made = withGroup(plan("--group", "reviews"), whole);
    expect(made).toMatchObject({ service: "reviews", port: 9080, portName: "grpc-api", serviceAccount: "reader", locality: "eu/a" });
    expect(made.check).toEqual({
      kind: { type: "grpc", service: "", port: 9081 },
      delayMs: 4000,
      intervalMs: 10_000,
      timeoutMs: 3000,
      failures: 2,
      successes: 1,
    });
    expect(labelsFor(made)).toEqual({ app: "reviews", team: "books", version: "v1", "security.istio.io/tlsMode": "istio" });
  });

  test("flags go before it", () => {
    const flags = [
      "--version",
      "v2",
      "--port",
      "7000",
      "--service-account",
      "me",
      "--locality",
      "us",
      "--health-tcp",
      "--health-interval",
      "2s",
    ];
    const made = withGroup(plan("--group", "reviews", "--service", "books", ...flags), whole);
    expect(made).toMatchObject({ service: "books", port: 7000, portName: "grpc-api", serviceAccount: "me", locality: "us" });
    expect(made.check).toMatchObject({ kind: { type: "tcp" }, intervalMs: 2000 });
    expect(labelsFor(made)).toMatchObject({ app: "books", version: "v2", team: "books" });
  });

  test("of several ports --port says which, and nothing is guessed", () => {
    const several = template({ template: { ports: { http: 8080, grpc: 9090 } } });
    expect(withGroup(plan("--group", "reviews", "--port", "9090"), several)).toMatchObject({ port: 9090, portName: "grpc" });
    expect(() => withGroup(plan("--group", "reviews"), several)).toThrow(
      "WorkloadGroup shop/reviews has the ports http:8080, grpc:9090; say by --port which of them this instance answers",
    );
    expect(() => withGroup(plan("--group", "reviews", "--port", "1"), several)).toThrow("1 is none");
    expect(withGroup(plan("--group", "reviews"), template({ template: {} })).port).toBeUndefined();
    expect(() => withGroup(plan("--group", "reviews", "--upstream", "db=9080"), whole)).toThrow("9080 is COMMAND's own port");
  });

  test("a group is none of a gateway's, and what was kept without it does not fit", () => {
    expect(() => plan("--service", "edge", "--gateway", "edge", "--group", "reviews")).toThrow("--group and --gateway exclude each other");
    expect(() => plan("--group", "Re_views")).toThrow('--group "Re_views"');
    const key = (one: Plan) => instanceKey(one, "shop", "reviews", "https://api");
    expect(key(plan("--group", "reviews"))).not.toBe(key(plan("--service", "reviews")));
  });

  test("the entry has the group's words and is owned by it; the Service's port is the group's", () => {
    const made = withGroup(plan("--group", "reviews"), whole);
    const facts = { name: "reviews-1", namespace: "shop", serviceAccount: "reader", inboundPort: 1, httpProxyPort: 2, adminPort: 3 };
    const entry = newEntry(made, { ...facts, chosen: { name: "grpc-api", port: 80, protocol: "http2" } });
    expect(entry.metadata.ownerReferences).toEqual([
      { apiVersion: "networking.istio.io/v1", kind: "WorkloadGroup", name: "reviews", uid: "u1", controller: true },
    ]);
    expect(entry.metadata.annotations).toMatchObject({ contact: "x", "weft.dev/inbound": "grpc-api=9080" });
    expect(entry.spec).toEqual({ address: "127.0.0.1", ports: { "grpc-api": 1 }, serviceAccount: "reader", locality: "eu/a", weight: 2 });
    expect(newService({ ...made, port: 9080 }, "shop").spec).toEqual({
      selector: { app: "reviews" },
      ports: [{ name: "grpc-api", port: 80, protocol: "TCP" }],
    });
    const service = (...names: string[]): KubeObject => ({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "reviews", namespace: "shop" },
      spec: { ports: names.map((name, at) => ({ name, port: at + 1 })) },
    });
    expect(choosePort(service("http", "grpc-api"), made)).toEqual({ name: "grpc-api", port: 2, protocol: "http2" });
    expect(() => choosePort(service("http"), made)).toThrow("has no port for port grpc-api of WorkloadGroup reviews");
  });
});

describe("probes", () => {
  const seen: string[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      seen.push(`${new URL(request.url).pathname} ${request.headers.get("x-probe")} ${request.headers.get("user-agent")}`);
      return new Response("well");
    },
  });
  afterAll(() => server.stop(true));
  const check = (kind: AppCheck["kind"]): AppCheck => ({ kind, intervalMs: 1000, timeoutMs: 2000, failures: 1, successes: 1 });

  test("of another port than the application's, with fields of its own", async () => {
    const headers = [["x-probe", "a b"]] as const;
    expect(await askOnce(check({ type: "http", path: "/ok", port: server.port as number, headers }), 1)).toBeNull();
    expect(seen).toEqual(["/ok a b Weft/HC"]);
    expect(await askOnce(check({ type: "tcp", port: server.port as number }), 1)).toBeNull();
  });

  test("of HTTPS, whatever the certificate, as in Kubernetes", async () => {
    const text = readFileSync(join(import.meta.dir, "../../compile/testdata/gateway/input.yaml"), "utf8");
    const pem = (name: string) =>
      (new RegExp(`-----BEGIN ${name}-----[^-]*-----END ${name}-----`).exec(text)?.[0] ?? "").replaceAll("\n    ", "\n");
    const secure = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: { cert: pem("CERTIFICATE"), key: pem("PRIVATE KEY") },
      fetch: () => new Response("well"),
    });
    expect(await askOnce(check({ type: "http", path: "/", tls: true }), secure.port as number)).toBeNull();
    expect(await askOnce(check({ type: "http", path: "/" }), secure.port as number)).not.toBeNull();
    await secure.stop(true);
  });

  test("a command without a shell", async () => {
    expect(await askOnce(check({ type: "exec", command: ["test", "a b", "=", "a b"] }), 1)).toBeNull();
    expect(await askOnce(check({ type: "exec", command: ["false"] }), 1)).toBe("the health command ends with status 1");
    expect(await askOnce(check({ type: "exec", command: ["/no/such/program"] }), 1)).toContain("the health command cannot be started");
  });

  test("not before the delay", async () => {
    const clock = new PausedClock();
    let asked = 0;
    const told = Promise.withResolvers<boolean>();
    const ask = () => Promise.resolve(++asked === 0 ? "never" : null);
    const health = new AppHealth({ ...check({ type: "tcp" }), delayMs: 500 }, clock, ask, told.resolve);
    health.start();
    clock.advance(499);
    expect(asked).toBe(0);
    clock.advance(1);
    expect(await told.promise).toBe(true);
    health.stop();
  });
});

describe("ProxyConfigs", () => {
  const config = (name: string, namespace: string, labels?: Record<string, string>, created = "1"): ProxyConfigObject => ({
    apiVersion: "networking.istio.io/v1beta1",
    kind: "ProxyConfig",
    metadata: { name, namespace, creationTimestamp: created },
    spec: { concurrency: 2, ...(labels === undefined ? {} : { selector: { matchLabels: labels } }) },
  });
  const all = [
    config("mesh", rootNamespace),
    config("later", "shop", undefined, "2"),
    config("shop", "shop"),
    config("mine", "shop", { app: "reviews" }),
    config("other", "bank"),
  ];
  const cases: readonly (readonly [wanted: string | undefined, configs: readonly ProxyConfigObject[], app: string])[] = [
    ["mine", all, "reviews"],
    ["shop", all, "cart"],
    ["mesh", [all[0] as ProxyConfigObject, config("mine", "shop", { app: "reviews" })], "cart"],
    [undefined, [config("mine", "shop", { app: "reviews" }), config("other", "bank")], "cart"],
  ];
  for (const [wanted, configs, app] of cases)
    test(`${wanted ?? "none"} speaks for ${app} of ${configs.length}`, () => {
      expect(speaking(configs, "shop", { app })?.metadata.name).toBe(wanted as string);
      expect(speaking([...configs].reverse(), "shop", { app })?.metadata.name).toBe(wanted as string);
    });
});
