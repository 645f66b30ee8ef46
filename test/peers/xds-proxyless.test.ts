// Judges: gRPC programs without a proxy, in Node (@grpc/grpc-js-xds), Go (grpc-go) and Python (gRPC's C core), as clients and as servers of one mesh:
// names by xds:///, mutual TLS by files, authorization, routes that change, and what they cannot do.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { findPeer, needsPeers } from "../support/peers.ts";
import { ask, freePort, goProgram, type Lines, Mesh, until } from "./xds-setup.ts";

/** gRPC for Node has authorization behind this switch; without it, it rejects a listener that has any. */
const rbac = { GRPC_XDS_EXPERIMENTAL_RBAC: "true" };
const languages = ["node", "go", "python"] as const;
type Language = (typeof languages)[number];

describe.skipIf(!needsPeers("xds-proxyless.test.ts", "node", "go", "python-grpc"))("gRPC without a proxy", () => {
  let mesh: Mesh;
  let program: Record<Language, readonly string[]>;
  let web = "";
  const ports = {} as Record<Language, number>;
  const clients = new Map<string, Lines>();

  beforeAll(async () => {
    const go = await goProgram("client");
    const python = findPeer("python-grpc") as string;
    program = {
      node: [findPeer("node") as string, `${import.meta.dir}/xds-node.mjs`],
      go: [go],
      python: [python, `${import.meta.dir}/xds-python.py`],
    };
    mesh = await Mesh.start();
    web = await mesh.agent("web");
    for (const language of languages) {
      ports[language] = freePort();
      const folder = await mesh.agent(`echo-${language}`);
      await mesh.service(`echo-${language}`, 50051, "grpc");
      const port = ports[language];
      await mesh.entry(`echo-${language}-1`, `echo-${language}`, `echo-${language}`, { name: "grpc", port, appPort: port });
      const bootstrap = mesh.bootstrap(`echo-${language}-1`, "--grpc", "--dir", folder);
      const server = mesh.program([...program[language], "serve", String(port), language], { GRPC_XDS_BOOTSTRAP: bootstrap, ...rbac });
      await server.next(`the server in ${language}`);
    }
    await mesh.service("echo", 50051, "grpc");
  }, 600_000);
  afterAll(() => mesh?.stop());

  /** A client that lives as long as the tests. */
  function client(language: Language, target: string): Lines {
    const key = `${language} ${target}`;
    let found = clients.get(key);
    if (found === undefined) {
      const bootstrap = mesh.bootstrap(`web-${language}`, "--grpc", "--dir", web);
      found = mesh.program([...program[language], "call", target], { GRPC_XDS_BOOTSTRAP: bootstrap });
      clients.set(key, found);
    }
    return found;
  }

  for (const caller of languages) {
    for (const callee of languages) {
      test(`${caller} calls ${callee} by name, in mutual TLS`, async () => {
        const outcome = await until(`an answer`, async () => {
          const said = await ask(client(caller, `xds:///echo-${callee}.shop:50051`), "hello");
          return said[0] === "OK" ? said : undefined;
        }).catch(async (error: Error) => {
          const last = await ask(client(caller, `xds:///echo-${callee}.shop:50051`), "hello");
          throw new Error(`${error.message}: ${last.join(" ")} ${client(caller, `xds:///echo-${callee}.shop:50051`).err()}`);
        });
        expect(outcome).toEqual(["OK", `${callee} hello`]);
      }, 30_000);
    }
  }

  /** Asks until the outcome is as wanted. */
  function untilSaid(language: Language, target: string, text: string, wanted: RegExp): Promise<string> {
    let last = "";
    return until(`${language}: ${wanted}`, async () => {
      last = (await ask(client(language, target), text)).join(" ");
      return wanted.test(last) ? last : undefined;
    }).catch((error: Error) => {
      throw new Error(`${error.message}; last: ${last}`);
    });
  }

  test("nobody gets in without a certificate of the mesh", async () => {
    for (const language of languages) await expect(fetch(`http://127.0.0.1:${ports[language]}/test.Echo/Unary`)).rejects.toThrow();
  });

  test("a server with a certificate of the mesh, but of another service, is not believed", async () => {
    const port = freePort();
    await mesh.service("bank", 50051, "grpc");
    await mesh.entry("bank-1", "bank", "bank", { name: "grpc", port, appPort: port });
    const folder = await mesh.agent("bank");
    const bootstrap = mesh.bootstrap("bank-1", "--grpc", "--dir", folder);
    // It may know the bank's configuration; its key and certificate are those of web.
    const stolen = readFileSync(bootstrap, "utf8").replace(/\/a-bank\/(cert|key)\.pem/g, "/a-web/$1.pem");
    expect(stolen).toContain("/a-web/key.pem");
    writeFileSync(bootstrap, stolen);
    const server = mesh.program([...program.go, "serve", String(port), "bank"], { GRPC_XDS_BOOTSTRAP: bootstrap });
    await server.next("the impostor");
    for (const language of languages)
      await untilSaid(
        language,
        "xds:///bank.shop:50051",
        "my money",
        /^(UNAVAILABLE|DEADLINE_EXCEEDED) .*(SAN|[Cc]ertificate|handshake|name|verif|peer|connect|Deadline|deadline)/,
      );
    server.child.kill("SIGKILL");
    await server.child.exited;
    const honest = mesh.program([...program.go, "serve", String(port), "bank"], {
      GRPC_XDS_BOOTSTRAP: mesh.bootstrap("bank-1", "--grpc", "--dir", folder),
    });
    await honest.next("the bank");
    for (const language of languages) await untilSaid(language, "xds:///bank.shop:50051", "my money", /^OK bank my money$/);
  }, 90_000);

  test("authorization holds at servers of every language, and is lifted again", async () => {
    const policies = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
    await mesh.create("authorizationpolicies", "security.istio.io/v1", "AuthorizationPolicy", "nobody-from-web", {
      action: "DENY",
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/web"] } }], to: [{ operation: { paths: ["/test.Echo/*"] } }] }],
    });
    for (const [at, callee] of languages.entries())
      await untilSaid(languages[(at + 1) % 3] as Language, `xds:///echo-${callee}.shop:50051`, "hello", /^PERMISSION_DENIED/);
    await mesh.text(`${policies}/nobody-from-web`, "DELETE");
    for (const [at, callee] of languages.entries())
      await untilSaid(languages[(at + 1) % 3] as Language, `xds:///echo-${callee}.shop:50051`, "hello", /^OK/);
  }, 60_000);

  test("a server that knows no authorization rejects it: told, not offered again, served as before; a new one does not serve", async () => {
    const port = freePort();
    const folder = await mesh.agent("bare");
    await mesh.service("bare", 50051, "grpc");
    await mesh.entry("bare-1", "bare", "bare", { name: "grpc", port, appPort: port });
    const start = () =>
      mesh.program([...program.node, "serve", String(port), "bare"], {
        GRPC_XDS_BOOTSTRAP: mesh.bootstrap("bare-1", "--grpc", "--dir", folder),
      });
    const first = start();
    await untilSaid("go", "xds:///bare.shop:50051", "hello", /^OK bare hello$/);
    const deny = { selector: { matchLabels: { app: "bare" } }, action: "DENY", rules: [{ to: [{ operation: { paths: ["/never"] } }] }] };
    await mesh.create("authorizationpolicies", "security.istio.io/v1", "AuthorizationPolicy", "bare", deny);
    const quarantine = await until("the rejection", async () => (await mesh.shown("bare-1"))?.quarantine);
    expect(quarantine).toEqual([
      {
        type: "listener",
        name: `grpc/server?xds.resource.listening_address=127.0.0.1:${port}`,
        version: expect.any(String),
        reason: expect.stringContaining("filter validation failed"),
      },
    ]);
    expect((await mesh.cli("status", "-n", "shop", "bare-1")).out).toContain("is not offered listener grpc/server");
    expect(await mesh.text("/metrics")).toMatch(/weft_control_resources_quarantined [1-9]/);
    await until("an event", async () => (await mesh.text("/api/v1/namespaces/shop/events")).includes("ConfigurationRejected"));
    expect((await mesh.shown("bare-1"))?.synced).toBe(false);
    // Another change, of something else: what was rejected does not come again.
    const { lastRejection } = (await mesh.shown("bare-1")) ?? {};
    await mesh.service("another", 50051, "grpc");
    await untilSaid("go", "xds:///bare.shop:50051", "hello", /^OK bare hello$/);
    expect((await mesh.shown("bare-1"))?.lastRejection).toEqual(lastRejection as never);
    first.child.kill("SIGKILL");
    await first.child.exited;
    start();
    await until("the new one has rejected it too", async () => (await mesh.shown("bare-1"))?.lastRejection?.at !== lastRejection?.at);
    await untilSaid("go", "xds:///bare.shop:50051", "hello", /^(UNAVAILABLE|DEADLINE_EXCEEDED)/);
    await mesh.text("/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/bare", "DELETE");
    await untilSaid("go", "xds:///bare.shop:50051", "hello", /^OK bare hello$/);
    expect((await mesh.shown("bare-1"))?.quarantine).toBeUndefined();
  }, 90_000);

  test("a route splits, follows a change, and what such a client cannot do is refused and told", async () => {
    const root = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
    const to = (...backends: (readonly [string, number])[]) => ({
      backendRefs: backends.map(([name, weight]) => ({ name, port: 50051, weight })),
    });
    await mesh.create("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute", "echo", {
      parentRefs: [{ group: "", kind: "Service", name: "echo" }],
      rules: [to(["echo-go", 1], ["echo-python", 0])],
    });
    for (const language of languages) await untilSaid(language, "xds:///echo.shop:50051", "split", /^OK go split$/);
    await mesh.text(`${root}/echo`, "PATCH", { spec: { rules: [to(["echo-go", 1], ["echo-python", 1])] } });
    for (const language of languages) {
      const seen = new Set<string>();
      await until(`both, in ${language}`, async () => {
        seen.add((await ask(client(language, "xds:///echo.shop:50051"), "split")).join(" "));
        return seen.has("OK go split") && seen.has("OK python split");
      });
    }
    const filters = [{ type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "x-tenant", value: "shop" }] } }];
    await mesh.text(`${root}/echo`, "PATCH", { spec: { rules: [{ ...to(["echo-go", 1]), filters }] } });
    for (const language of languages) {
      await untilSaid(language, "xds:///echo.shop:50051", "edited", /^UNAVAILABLE/);
      const told = await until("told", async () => (await mesh.shown(`web-${language}`))?.notEnforced?.[0]);
      expect(told).toEqual({
        subject: expect.stringContaining("echo"),
        message: expect.stringContaining("request headers"),
        refused: true,
      });
    }
    expect((await mesh.cli("status", "-n", "shop", "web-go")).out).toContain("cannot edit request headers; such calls are refused");
    await mesh.text(`${root}/echo`, "PATCH", { spec: { rules: [to(["echo-node", 1])] } });
    for (const language of languages) await untilSaid(language, "xds:///echo.shop:50051", "back", /^OK node back$/);
    expect((await mesh.shown("web-go"))?.notEnforced).toBeUndefined();
  }, 90_000);

  test("a name that is no service, and a policy that a server cannot hold", async () => {
    // gRPC waits for a name that does not exist: it might come to be. The call's deadline ends that.
    expect((await ask(client("go", "xds:///nobody.shop:50051"), "hello"))[0]).toMatch(/^(UNAVAILABLE|DEADLINE_EXCEEDED)$/);
    await mesh.create("peerauthentications", "security.istio.io/v1", "PeerAuthentication", "either", {
      selector: { matchLabels: { app: "echo-go" } },
      mtls: { mode: "PERMISSIVE" },
    });
    const told = await until("told", async () => (await mesh.shown("echo-go-1"))?.notEnforced?.[0]);
    expect(told.message).toContain("one port");
    // Stricter than asked for, never laxer.
    await expect(fetch(`http://127.0.0.1:${ports.go}/test.Echo/Unary`)).rejects.toThrow();
    await untilSaid("node", "xds:///echo-go.shop:50051", "still", /^OK go still$/);
  }, 60_000);

  test("a service comes to be while a client asks for it", async () => {
    const said = untilSaid("go", "xds:///late.shop:50051", "at last", /^OK python at last$/);
    await mesh.create("services", "v1", "Service", "late", {
      selector: { app: "echo-python" },
      ports: [{ name: "grpc", port: 50051, protocol: "TCP" }],
    });
    expect(await said).toBe("OK python at last");
  }, 60_000);

  test("load reports become metrics", async () => {
    for (const language of languages) await ask(client(language, "xds:///echo-go.shop:50051"), "count me");
    await until(
      "a report",
      async () =>
        /weft_xds_load_requests_total\{source_namespace="shop",source="web",cluster="outbound\|50051\|\|echo-go\.shop\.svc\.cluster\.local",outcome="success"\} [1-9]/.test(
          await mesh.text("/metrics"),
        ),
      25_000,
    );
  }, 40_000);

  test("the control plane is away and comes back: calls go on, and changes follow", async () => {
    await mesh.plane.stop();
    for (const language of languages) expect(await ask(client(language, "xds:///echo.shop:50051"), "alone")).toEqual(["OK", "node alone"]);
    await mesh.open();
    const root = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";
    await mesh.text(`${root}/echo`, "PATCH", { spec: { rules: [{ backendRefs: [{ name: "echo-python", port: 50051 }] }] } });
    for (const language of languages) await untilSaid(language, "xds:///echo.shop:50051", "again", /^OK python again$/);
  }, 90_000);
});
