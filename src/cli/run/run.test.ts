// The parts of `weft run` that need no process; the whole is proven in test/e2e/run.test.ts.

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeObject } from "../../api/meta.ts";
import { parse } from "../parse.ts";
import type { VerbSpec } from "../spec.ts";
import { verbNamed } from "../verbs.ts";
import { bootstrapFor } from "./bootstrap.ts";
import { answers, environmentFor, findCommand, ownerOf, takesDatagrams, untilAnswers } from "./command.ts";
import { choosePort, condition, newEntry, newService, selectionFault } from "./objects.ts";
import { takePlace, writePrivate } from "./place.ts";
import { entryName, type Plan, planFrom } from "./plan.ts";
import { parseLogLine } from "./sidecar.ts";

const plan = (...flags: string[]): Plan => planFrom(parse(verbNamed("run") as VerbSpec, [...flags, "--", "app"]));
const cart = (...flags: string[]): Plan => plan("--service", "cart", "--port", "9101", ...flags);
const fault = (...flags: string[]): string => {
  try {
    plan(...flags);
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
};

const dir = mkdtempSync(join(tmpdir(), "weft-run-test-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("flags", () => {
  test("a full line", () => {
    const full = cart(
      "--version",
      "v2",
      "--upstream",
      "db.bank:5432=9102",
      "--upstream",
      "stock=9103",
      "--wait",
      "5",
      "--ready-timeout",
      "500ms",
    );
    expect(full).toMatchObject({ waitMs: 5000, readyTimeoutMs: 500, upstreamsText: "db.bank:5432=9102,stock=9103", address: "127.0.0.1" });
    expect(full.upstreams).toEqual([
      { service: "db", namespace: "bank", port: 5432, localPort: 9102, transport: "tcp" },
      { service: "stock", namespace: undefined, port: undefined, localPort: 9103, transport: "tcp" },
    ]);
  });

  test.each([
    [["--port", "1"], "weft run needs --service NAME"],
    [["--service", "a", "--protocol", "tcp"], "--protocol needs --port PORT"],
    [["--service", "a", "--ready-timeout", "3"], "--ready-timeout needs --port PORT"],
    [["--service", "Cart_1", "--port", "1"], '--service "Cart_1": lower-case letters'],
    [["--service", "a", "--port", "0"], '--port takes a whole number from 1 to 65535, not "0"'],
    [["--service", "a", "--port", "1", "--version", "v 1"], '--version "v 1"'],
    [
      ["--service", "a", "--port", "1", "--address", "host.example"],
      '--address takes an IP address of this machine that peers can dial, not "host.example"',
    ],
    [["--service", "a", "--port", "1", "--upstream", "db"], "--upstream takes SERVICE[.NAMESPACE][:PORT]=LOCALPORT"],
    [["--service", "a", "--port", "1", "--uses", "db=1"], 'not "db=1"'],
    [["--service", "a", "--port", "1", "--uses", "db:0"], 'not "db:0"'],
    [["--service", "a", "--port", "1", "--upstream", "db=70000"], 'not "db=70000"'],
    [["--service", "a", "--port", "1", "--upstream", "db=1"], "1 is COMMAND's own port"],
    [["--service", "a", "--port", "1", "--upstream", "x=5", "--upstream", "y=5"], "local port 5 stands there twice"],
    [["--service", "a", "--port", "1", "--upstream", "x=5/udp", "--upstream", "y=5/udp"], "local port 5 stands there twice"],
    [["--service", "a", "--port", "1", "--upstream", "x=5/sctp"], 'not "x=5/sctp"'],
    [["--service", "a", "--port", "1", "--protocol", "udp", "--upstream", "db=1/udp"], "1 is COMMAND's own port"],
    [["--service", "a", "--port", "1", "--port-variable", "A-B"], '--port-variable "A-B"'],
  ])("%j is refused", (flags, message) => {
    expect(fault(...flags)).toContain(message);
  });

  test("the entry's name is a DNS name whatever the version looks like", () => {
    expect(entryName("cart", undefined, () => 0)).toBe("cart-000000");
    expect(entryName("cart", "V1.2_x", () => 0.999999999)).toBe("cart-v1-2-x-ffffff");
  });
});

describe("objects", () => {
  const facts = {
    name: "cart-1",
    namespace: "shop",
    serviceAccount: "cart",
    chosen: { name: "http", port: 80, protocol: "http" } as const,
    inboundPort: 15001,
    httpProxyPort: 15002,
    adminPort: 15003,
  };

  const listening = (...flags: string[]): Plan & { port: number } => ({ ...cart(...flags), port: 9101 });

  test("an entry of a program that only calls others has no port to dial", () => {
    const caller = newEntry({ ...cart(), port: undefined }, { ...facts, chosen: undefined });
    expect(caller.spec).toEqual({ address: "127.0.0.1", serviceAccount: "cart" });
    expect(caller.metadata.annotations?.["weft.dev/inbound"]).toBeUndefined();
  });

  test("a new Service, http and tcp", () => {
    expect(newService(listening(), "shop").spec).toEqual({
      selector: { app: "cart" },
      ports: [{ name: "http", port: 80, protocol: "TCP", appProtocol: "http" }],
    });
    expect(newService(listening("--protocol", "tcp"), "shop").spec).toMatchObject({ ports: [{ name: "tcp", port: 9101 }] });
    expect(newService(listening("--protocol", "tcp", "--service-port", "5432"), "shop").spec).toMatchObject({ ports: [{ port: 5432 }] });
  });

  test("UDP: a Service of datagrams, and an entry whose port is the application's own", () => {
    expect(newService(listening("--protocol", "udp"), "shop").spec).toEqual({
      selector: { app: "cart" },
      ports: [{ name: "udp", port: 9101, protocol: "UDP" }],
    });
    const entry = newEntry(listening("--protocol", "udp"), { ...facts, chosen: { name: "dns", port: 53, protocol: "udp" } });
    expect(entry.metadata.annotations?.["weft.dev/inbound"]).toBeUndefined();
    expect(entry.spec).toEqual({ address: "127.0.0.1", ports: { dns: 9101 }, serviceAccount: "cart" });
    const both = service([
      { name: "dns-tcp", port: 53 },
      { name: "dns", port: 53, protocol: "UDP" },
    ]);
    expect(choosePort(both, cart("--protocol", "udp"))).toEqual({ name: "dns", port: 53, protocol: "udp" });
    expect(choosePort(both, cart("--protocol", "tcp"))).toEqual({ name: "dns-tcp", port: 53, protocol: "tcp" });
    expect(() => choosePort(service([{ name: "dns-tcp", port: 53 }]), cart("--protocol", "udp"))).toThrow("has no port for --protocol udp");
  });

  test("an entry says how its sidecar is laid out", () => {
    const entry = newEntry(cart("--version", "v2", "--upstream", "db=9102", "--uses", "stock", "--uses", "api.bank:8080"), facts);
    expect(entry.metadata.labels).toEqual({ app: "cart", version: "v2", "security.istio.io/tlsMode": "istio" });
    expect(entry.metadata.annotations).toEqual({
      "weft.dev/inbound": "http=9101",
      "weft.dev/http-proxy-port": "15002",
      "weft.dev/upstreams": "db=9102",
      "weft.dev/uses": "stock,api.bank:8080",
      "weft.dev/health": "reported",
      "prometheus.io/scrape": "true",
      "prometheus.io/port": "15003",
      "prometheus.io/path": "/stats/prometheus",
    });
    expect(entry.spec).toEqual({ address: "127.0.0.1", ports: { http: 15001 }, serviceAccount: "cart" });
    expect(entry.status).toBeUndefined();
  });

  const service = (ports: unknown, selector: unknown = { app: "cart" }): KubeObject => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "shop" },
    spec: { selector, ports },
  });

  test("the Service that is there decides name and protocol of the port", () => {
    const two = service([
      { name: "tcp-admin", port: 9000 },
      { name: "web", port: 80, appProtocol: "http" },
    ]);
    expect(choosePort(two, cart())).toEqual({ name: "tcp-admin", port: 9000, protocol: "tcp" });
    expect(choosePort(two, cart("--protocol", "http"))).toEqual({ name: "web", port: 80, protocol: "http" });
    expect(choosePort(two, cart("--service-port", "80"))).toEqual({ name: "web", port: 80, protocol: "http" });
    expect(choosePort(service([{ port: 80, targetPort: "web" }]), cart())).toMatchObject({ name: "web" });
  });

  test.each([
    [[{ name: "http", port: 80 }], ["--protocol", "tcp"], "has no port for --protocol tcp; it has http:80/http"],
    [[{ name: "http", port: 80 }], ["--service-port", "81"], "has no port for --service-port 81"],
    [[{ port: 80, targetPort: 9101 }], [], "port 80 of Service shop/cart has no name"],
    [[], [], "it has none"],
  ])("%#: flags and Service contradict each other", (ports, flags, message) => {
    expect(() => choosePort(service(ports), cart(...flags))).toThrow(message);
  });

  test("a Service that does not select this instance is named", () => {
    expect(selectionFault(service([]), { app: "cart" })).toBeUndefined();
    expect(selectionFault(service([], { app: "cart", tier: "x" }), { app: "cart" })).toContain(
      "selects tier=x, which this instance has not",
    );
    expect(selectionFault(service([], undefined), { app: "cart" })).toBeUndefined();
    expect(selectionFault(service([], {}), { app: "cart" })).toContain("has no selector");
  });

  test("conditions", () => {
    expect(condition("healthy", new Date(0))).toEqual({
      type: "Healthy",
      status: "True",
      reason: "Answering",
      message: "the application answers on its port",
      lastTransitionTime: "1970-01-01T00:00:00Z",
    });
    expect(condition("draining", new Date(0)).status).toBe("False");
  });
});

describe("bootstrap", () => {
  const facts = {
    namespace: "shop",
    entry: "cart-1",
    service: "cart",
    serviceAccount: "cart",
    trustDomain: "cluster.local",
    labels: { app: "cart" },
    xdsAddress: "127.0.0.1:7444",
    caBundle: "PEM",
    adminPort: 15003,
  };

  test("names the node, the control plane and how its certificate is checked", () => {
    const text = JSON.stringify(bootstrapFor(facts));
    expect(text).toContain('"id":"sidecar~shop~cart-1"');
    expect(text).toContain('"address":"127.0.0.1","port_value":7444');
    expect(text).toContain('"api_type":"DELTA_GRPC"');
    expect(text).toContain('"exact":"weft"');
    expect(text).toContain('"type":"STATIC"');
  });

  test("host names and IPv6 addresses", () => {
    expect(JSON.stringify(bootstrapFor({ ...facts, xdsAddress: "mesh.example:1" }))).toContain('"type":"STRICT_DNS"');
    expect(JSON.stringify(bootstrapFor({ ...facts, xdsAddress: "[::1]:7" }))).toContain('"address":"::1","port_value":7');
  });
});

describe("the application", () => {
  test("its environment: proxies for this sidecar, what was there is kept where it can be", () => {
    const env = environmentFor(cart("--port-variable", "PORT"), 15002, {
      PATH: "/bin",
      HTTP_PROXY: "http://corporate:3128",
      HTTPS_PROXY: "http://corporate:3128",
      no_proxy: ".corp, 127.0.0.1",
      JAVA_TOOL_OPTIONS: "-Xmx1g -Dhttp.proxyHost=old -Dhttp.proxyPort=1 -Dhttp.nonProxyHosts=x",
    });
    expect(env).toEqual({
      PATH: "/bin",
      HTTP_PROXY: "http://127.0.0.1:15002",
      http_proxy: "http://127.0.0.1:15002",
      HTTPS_PROXY: "http://corporate:3128",
      NO_PROXY: "localhost,127.0.0.1,::1,.corp",
      no_proxy: "localhost,127.0.0.1,::1,.corp",
      NODE_USE_ENV_PROXY: "1",
      JAVA_TOOL_OPTIONS: "-Xmx1g -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=15002 -Dhttp.nonProxyHosts=localhost|127.*|[::1]",
      PORT: "9101",
    });
  });

  test("a program that is not there, is a folder, or cannot be executed", () => {
    writeFileSync(join(dir, "text"), "no program");
    const look = (word: string): unknown => {
      try {
        return findCommand(word, { PATH: "/bin:/usr/bin" }, dir);
      } catch (error) {
        return [(error as { status: number }).status, (error as Error).message];
      }
    };
    expect(look("sh")).toBe(Bun.which("sh", { PATH: "/bin:/usr/bin" }));
    expect(look("/bin/sh")).toBe("/bin/sh");
    expect(look("no-such-program")).toEqual([127, 'there is no program "no-such-program" on the PATH; nothing was started or registered']);
    expect(look("./nope")).toEqual([127, "there is no program ./nope; nothing was started or registered"]);
    expect(look("./text")).toEqual([126, "./text is not executable; nothing was started or registered"]);
    expect(look("./")).toEqual([126, "./ is a folder; nothing was started or registered"]);
  });

  test("its port: answers, and is waited for", async () => {
    const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { port } = probe;
    expect(await answers("127.0.0.1", port)).toBe(true);
    if (process.platform === "linux") expect(ownerOf(port)).toContain(`(process ${process.pid})`);
    probe.stop(true);
    expect(await answers("127.0.0.1", port)).toBe(false);
    const never = new AbortController();
    const probing = () => answers("127.0.0.1", port);
    const waiting = untilAnswers(
      probing,
      never.signal,
      () => performance.now(),
      () => {},
    );
    const again = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
    expect(await waiting).toBe(true);
    again.stop(true);
    const stopped = new AbortController();
    stopped.abort();
    expect(
      await untilAnswers(
        probing,
        stopped.signal,
        () => performance.now(),
        () => {},
      ),
    ).toBe(false);
  });
});

describe.skipIf(process.platform !== "linux")("its UDP port", () => {
  test.each([
    ["127.0.0.1", "127.0.0.1", true],
    ["0.0.0.0", "127.0.0.1", true],
    ["127.0.0.2", "127.0.0.1", false],
  ])("bound on %s is one of %s: %p", async (bound, asked, expected) => {
    const socket = await Bun.udpSocket({ hostname: bound, port: 0 });
    expect(takesDatagrams(asked, socket.port)).toBe(expected);
    socket.close();
    expect(takesDatagrams(asked, socket.port)).toBe(false);
  });

  test.skipIf(!existsSync("/proc/net/if_inet6") || readFileSync("/proc/net/if_inet6", "utf8") === "")("of IPv6", async () => {
    const socket = await Bun.udpSocket({ hostname: "::1", port: 0 });
    expect(takesDatagrams("::1", socket.port)).toBe(true);
    expect(takesDatagrams("0:0::1", socket.port)).toBe(true);
    expect(takesDatagrams("::2", socket.port)).toBe(false);
    expect(takesDatagrams("127.0.0.1", socket.port)).toBe(false);
    socket.close();
  });
});

describe("private places", () => {
  test("folder and files are the user's alone, ports differ and stay taken until the end", () => {
    const env = { XDG_RUNTIME_DIR: dir };
    const places = Array.from({ length: 20 }, () => takePlace("127.0.0.1", new Set(), env, Math.random, Date.now()));
    const ports = places.flatMap((p) => Object.values(p.ports));
    expect(new Set(ports).size).toBe(60);
    const [first] = places;
    if (first === undefined) throw new Error("no place");
    expect(statSync(first.dir).mode & 0o777).toBe(0o700);
    writePrivate(join(first.dir, "token"), "x");
    expect(statSync(join(first.dir, "token")).mode & 0o777).toBe(0o600);
    for (const place of places) place.leave();
    expect(existsSync(first.dir)).toBe(false);
    expect(readdirSync(join(dir, "weft", "ports"))).toEqual([]);
  });

  test("the lock of a process that is gone is taken over", () => {
    const env = { XDG_RUNTIME_DIR: dir };
    const middleFirst = () => {
      let calls = 0;
      return () => (calls++ === 0 ? 0.5 : Math.random());
    };
    const taken = takePlace("127.0.0.1", new Set(), env, middleFirst(), Date.now());
    taken.leave();
    const port = taken.ports.inbound;
    writeFileSync(join(dir, "weft", "ports", String(port)), String(Bun.spawnSync(["true"]).pid));
    const again = takePlace("127.0.0.1", new Set(), env, middleFirst(), Date.now());
    expect(again.ports.inbound).toBe(port);
    again.leave();
  });

  test("what a run left behind that died with its guard is swept up, of the living and of the lately dead nothing", () => {
    const env = { XDG_RUNTIME_DIR: dir };
    const dead = Bun.spawnSync(["true"]).pid;
    const old = join(dir, "weft", `run-${dead}-aaaaaa`);
    const living = join(dir, "weft", `run-${process.ppid}-bbbbbb`);
    mkdirSync(old, { recursive: true });
    mkdirSync(living, { recursive: true });
    takePlace("127.0.0.1", new Set(), env, Math.random, Date.now()).leave();
    expect([existsSync(old), existsSync(living)]).toEqual([true, true]);
    takePlace("127.0.0.1", new Set(), env, Math.random, Date.now() + 120_000).leave();
    expect([existsSync(old), existsSync(living)]).toEqual([false, true]);
    rmSync(living, { recursive: true });
  });

  test("an address of another machine is said to be one", () => {
    expect(() => takePlace("192.0.2.1", new Set(), { XDG_RUNTIME_DIR: dir }, Math.random, Date.now())).toThrow(
      "--address 192.0.2.1 cannot be listened on",
    );
    expect(readdirSync(join(dir, "weft", "ports"))).toEqual([]);
  });
});

test("a sidecar's log line as a sentence", () => {
  expect(parseLogLine('{"time":"t","level":"warn","msg":"A listener cannot bind.","port":80,"name":"x"}')).toEqual({
    level: "warn",
    text: "A listener cannot bind. (port=80, name=x)",
  });
  expect(parseLogLine("plain words")).toBeUndefined();
  expect(parseLogLine('{"time":broken')).toBeUndefined();
});
