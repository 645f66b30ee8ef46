// The control plane as a whole: in this process, and as `weft up` in its own, which is killed and comes back.

import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import type { MeshObject, ProxyObject } from "../api/live.ts";
import type { KubeObject } from "../api/meta.ts";
import { packageRoot } from "../base/root.ts";
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from "../wire/gen/envoy/service/discovery/v3/discovery_pb.ts";
import { typeUrl, type XdsType } from "../wire/xds-types.ts";
import { type ControlPlane, startControlPlane } from "./plane.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "weft-plane-"));
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function until<T>(what: string, look: () => T | undefined | false | Promise<T | undefined | false>, withinMs = 5000): Promise<T> {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await Bun.sleep(2);
  }
}

async function up(dir = folder(), more: Partial<Parameters<typeof startControlPlane>[0]> = {}): Promise<ControlPlane> {
  const plane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, ...more });
  cleanups.push(() => plane.stop());
  return plane;
}

/** The API as a program uses it: what the kubeconfig says, and no more. */
function api(kubeconfigPath: string) {
  const config = Bun.YAML.parse(readFileSync(kubeconfigPath, "utf8")) as {
    clusters: { cluster: { server: string; "certificate-authority-data": string } }[];
    users: { user: { token: string } }[];
  };
  const cluster = config.clusters[0]!.cluster;
  const ca = Buffer.from(cluster["certificate-authority-data"], "base64").toString();
  return async (method: string, path: string, body?: unknown, token: string | null = config.users[0]!.user.token) => {
    const response = await fetch(cluster.server + path, {
      method,
      tls: { ca },
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, text, json: <T>() => JSON.parse(text) as T };
  };
}

const service = (name: string): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { selector: { app: name }, ports: [{ name: "http", port: 80, protocol: "TCP" }] },
});
const entry = (name: string, app: string): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: {
    name,
    namespace: "shop",
    labels: { app, "security.istio.io/tlsMode": "istio" },
    annotations: { "weft.dev/inbound": "http=9080", "weft.dev/http-proxy-port": "41001" },
  },
  spec: { address: "127.0.0.1", ports: { http: 40123 }, serviceAccount: app },
});
const route = (weights: readonly [number, number]): KubeObject => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "reviews", namespace: "shop" },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: "reviews" }],
    rules: [
      {
        backendRefs: [
          { name: "reviews-v1", port: 80, weight: weights[0] },
          { name: "reviews-v2", port: 80, weight: weights[1] },
        ],
      },
    ],
  },
});

/** A proxy made of grpc-js: subscribes to everything, accepts everything, notes when each type came. */
async function proxy(plane: ControlPlane, caPath: string, name: string, account: string) {
  const call = api(plane.kubeconfigPath);
  const issued = await call("POST", `/api/v1/namespaces/shop/serviceaccounts/${account}/token`, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { expirationSeconds: 600 },
  });
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${issued.json<{ status: { token: string } }>().status.token}`);
  const client = new Client(plane.xdsAddress, credentials.createSsl(readFileSync(caPath)), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.ssl_target_name_override": "weft",
    "grpc.default_authority": "weft",
  });
  const stream = client.makeBidiStreamRequest(
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    (m: MessageInitShape<typeof DeltaDiscoveryRequestSchema>) =>
      Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, m))),
    (b: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, b),
    metadata,
  );
  cleanups.push(() => {
    stream.cancel();
    client.close();
  });
  const came: { type: string; names: string[]; removed: string[]; atMs: number }[] = [];
  const problems: string[] = [];
  stream.on("error", (e: Error) => problems.push(e.message));
  stream.on("data", (m: DeltaDiscoveryResponse) => {
    const type = m.typeUrl.split(".").at(-1) as string;
    came.push({ type, names: m.resources.map((r) => r.name), removed: [...m.removedResources], atMs: performance.now() });
    stream.write({ typeUrl: m.typeUrl, responseNonce: m.nonce });
    if (type === "Cluster")
      subscribe(
        "endpoint",
        m.resources.map((r) => r.name).filter((n) => n.startsWith("outbound|")),
      );
  });
  const subscribe = (type: XdsType, names: string[]) => {
    if (names.length > 0) stream.write({ typeUrl: typeUrl[type], resourceNamesSubscribe: names });
  };
  stream.write({ node: { id: `sidecar~shop~${name}`, userAgentName: "test" }, typeUrl: typeUrl.cluster });
  stream.write({ typeUrl: typeUrl.listener });
  subscribe("route", ["outbound-http-proxy"]);
  return { came, problems, close: () => stream.end() };
}

describe("a mesh", () => {
  test("a route change is at the sidecar milliseconds after the API's answer; statuses say so", async () => {
    const dir = folder();
    const plane = await up(dir);
    const call = api(plane.kubeconfigPath);
    for (const name of ["reviews", "reviews-v1", "reviews-v2", "web"])
      expect((await call("POST", "/api/v1/namespaces/shop/services", service(name))).status).toBe(201);
    expect((await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry("web-1", "web"))).status).toBe(201);
    const made = await call("POST", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes", route([100, 0]));
    expect(made.text).toContain("reviews");
    expect(made.status).toBe(201);

    const sidecar = await proxy(plane, join(dir, "ca.crt"), "web-1", "web");
    await until("the first configuration", () => sidecar.came.some((c) => c.type === "RouteConfiguration"));
    expect(sidecar.problems).toEqual([]);
    const shown = await until("the proxy is in step", async () => {
      const { items } = (await call("GET", "/apis/weft.dev/v1alpha1/namespaces/shop/proxies")).json<{ items: ProxyObject[] }>();
      return items.find((p) => p.status.synced);
    });
    expect(shown).toMatchObject({
      metadata: { name: "web-1" },
      status: { connected: true, identity: "spiffe://cluster.local/ns/shop/sa/web", mode: "delta" },
    });

    const delays: number[] = [];
    for (let weight = 1; weight <= 20; weight++) {
      const before = sidecar.came.length;
      const answer = await call("PATCH", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/reviews", {
        spec: route([100 - weight, weight]).spec,
      });
      const answeredMs = performance.now();
      expect(answer.status).toBe(200);
      const next = await until("the route", () => sidecar.came.slice(before).find((c) => c.type === "RouteConfiguration"));
      delays.push(next.atMs - answeredMs);
    }
    delays.sort((a, b) => a - b);
    if (process.env.WEFT_FIGURES !== undefined)
      console.log(`route at the sidecar after the API's answer, ms: ${delays.map((d) => d.toFixed(1)).join(" ")}`);
    expect(delays[10]!).toBeLessThan(100);

    const status = (await call("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/reviews")).json<{
      status: { parents: { conditions: { type: string; status: string }[] }[] };
    }>();
    expect(status.status.parents[0]?.conditions.map((c) => `${c.type}=${c.status}`)).toContain("Accepted=True");

    const metrics = (await call("GET", "/metrics")).text;
    expect(metrics).toContain("weft_control_connected_proxies 1");
    expect(metrics).toMatch(/weft_control_push_seconds_count\{stage="ack"\} [1-9]/);
    expect(metrics).toMatch(/weft_control_push_seconds_count\{stage="total"\} [1-9]/);
    expect(metrics).toMatch(/weft_control_store_seconds_count\{operation="create"\} [1-9]/);
    expect(metrics).toMatch(/weft_control_api_requests_total\{verb="create",code="201"\} [1-9]/);
    sidecar.close();
    await until("the proxy is shown as lost", async () => {
      const { items } = (await call("GET", "/apis/weft.dev/v1alpha1/proxies")).json<{ items: ProxyObject[] }>();
      return items[0]?.status.connected === false;
    });
    // Taking the entry back is a goodbye: nothing of it is shown as lost.
    expect((await call("DELETE", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries/web-1")).status).toBe(200);
    await until(
      "it is forgotten",
      async () => (await call("GET", "/apis/weft.dev/v1alpha1/proxies")).json<{ items: ProxyObject[] }>().items.length === 0,
    );
  });

  test("strangers reach nothing; a join token what weft run needs and no more", async () => {
    const dir = folder();
    const plane = await up(dir, { trustDomain: "mesh.example" });
    const call = api(plane.kubeconfigPath);
    for (const path of [
      "/api/v1/namespaces/shop/services",
      "/apis/weft.dev/v1alpha1/meshes/default",
      "/insight/v1alpha1/graph",
      "/metrics",
      "/apis",
      "/openapi/v2",
    ]) {
      expect((await call("GET", path, undefined, null)).status, path).toBe(401);
      expect((await call("GET", path, undefined, "wrong")).status, path).toBe(401);
    }
    for (const path of ["/healthz", "/livez", "/readyz", "/version"])
      expect((await call("GET", path, undefined, null)).status, path).toBe(200);
    const issued = await call("POST", "/api/v1/namespaces/shop/serviceaccounts/web/token", {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {},
    });
    const { token } = issued.json<{ status: { token: string } }>().status;
    const mesh = (await call("GET", "/apis/weft.dev/v1alpha1/meshes/default", undefined, token)).json<MeshObject>();
    expect(mesh.spec.trustDomain).toBe("mesh.example");
    expect(mesh.status.xdsAddress).toBe(plane.xdsAddress);
    expect(mesh.status.caBundle).toBe(readFileSync(join(dir, "ca.crt"), "utf8"));
    expect((await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry("web-1", "web"), token)).status).toBe(
      201,
    );
    expect(
      (await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry("cart-1", "cart"), token)).status,
    ).toBe(403);
    expect(
      (
        await call(
          "POST",
          "/apis/networking.istio.io/v1/namespaces/bank/workloadentries",
          { ...entry("x", "web"), metadata: { name: "x", namespace: "bank" } },
          token,
        )
      ).status,
    ).toBe(403);
    expect((await call("GET", "/insight/v1alpha1/graph", undefined, token)).status).toBe(403);
    expect((await call("GET", "/metrics", undefined, token)).status).toBe(403);
    expect((await call("POST", "/api/v1/namespaces/shop/serviceaccounts/web/token", { spec: {} }, token)).status).toBe(403);
    expect(statSync(plane.kubeconfigPath).mode & 0o777).toBe(0o600);
  });

  test("a token of another account is told so on the xDS port, in the stream's own status", async () => {
    const dir = folder();
    const plane = await up(dir);
    const call = api(plane.kubeconfigPath);
    await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry("web-1", "web"));
    const sidecar = await proxy(plane, join(dir, "ca.crt"), "web-1", "cart");
    await until("the refusal", () => sidecar.problems.length > 0);
    expect(sidecar.problems[0]).toContain("PERMISSION_DENIED");
    expect(sidecar.problems[0]).toMatch(/ns\/shop\/sa\/web, but the caller is .*ns\/shop\/sa\/cart/);
  });
});

describe("start and stop", () => {
  test("the second on one folder is refused; after a stop the folder is free and its ports are taken again", async () => {
    const dir = folder();
    const first = await up(dir);
    await expect(startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0 })).rejects.toThrow(
      new RegExp(`in use by process ${process.pid}`),
    );
    await first.stop();
    const second = await up(dir);
    expect([second.apiUrl, second.xdsAddress]).toEqual([first.apiUrl, first.xdsAddress]);
    expect(second.created).toBe(false);
    await second.stop();
    writeFileSync(join(dir, "lock"), "999999\n");
    await up(dir, { apiPort: undefined, xdsPort: undefined, dashboardPort: undefined });
  });

  test("a port in use is named, with the flag that chooses another, and nothing is left running", async () => {
    const dir = folder();
    const blocker = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => blocker.once("listening", resolve));
    cleanups.push(() => blocker.close());
    const { port } = blocker.address() as { port: number };
    for (const [option, flag] of [
      ["apiPort", "--api-port"],
      ["xdsPort", "--xds-port"],
      ["dashboardPort", "--dashboard-port"],
    ] as const) {
      const failure = (await up(dir, { [option]: port }).catch((e: unknown) => e)) as Error;
      expect(failure.message).toContain(`port ${port} on 127.0.0.1`);
      expect(failure.message).toContain("is in use");
      expect(failure.message).toContain(flag);
    }
    await up(dir);
  });

  test("a wrong trust domain and a broken folder are said in one sentence", async () => {
    const dir = folder();
    await (await up(dir)).stop();
    await expect(up(dir, { trustDomain: "other.example" })).rejects.toThrow(/other\.example differs from the trust domain cluster\.local/);
    writeFileSync(join(dir, "ca.crt"), "rubbish");
    await expect(up(dir)).rejects.toThrow(/ca\.crt is not a certificate/);
  });
});

describe("weft up", () => {
  const bun = process.execPath;
  const app = join(packageRoot(), "src/main.ts");

  async function spawn(dir: string, ...args: string[]) {
    const child = Bun.spawn([bun, app, "up", "--data", dir, ...args], {
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, WEFT_DATA: "" },
    });
    cleanups.push(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    return child;
  }

  async function said(child: Awaited<ReturnType<typeof spawn>>, word: string): Promise<string> {
    let text = "";
    const decoder = new TextDecoder();
    const reader = child.stdout.getReader();
    while (!text.includes(word)) {
      const { done, value } = await reader.read();
      if (done) throw new Error(`weft up ended: ${text}${await new Response(child.stderr).text()}`);
      text += decoder.decode(value);
    }
    reader.releaseLock();
    return text;
  }

  const free = ["--api-port", "0", "--xds-port", "0", "--dashboard-port", "0"];

  test("killed in the middle of writes, it comes back on the same ports with everything it acknowledged", async () => {
    const dir = folder();
    const first = await spawn(dir, ...free);
    const words = await said(first, "kubeconfig");
    expect(words).toMatch(/dashboard +http:\/\/127\.0\.0\.1:\d+\/\?token=/);
    const call = api(join(dir, "admin.kubeconfig"));
    const acknowledged: string[] = [];
    const writing = (async () => {
      for (let n = 0; ; n++) {
        const answer = await call("POST", "/api/v1/namespaces/shop/services", service(`s${n}`)).catch(() => undefined);
        if (answer?.status !== 201) return;
        acknowledged.push(`s${n}`);
      }
    })();
    await until("some writes", () => acknowledged.length >= 20);
    // The first publication after the restart then has workloads in it, and says so before everything is wired.
    expect((await call("POST", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries", entry("web-1", "web"))).status).toBe(201);
    first.kill("SIGKILL");
    await writing;
    const second = await spawn(dir);
    const again = await said(second, "kubeconfig");
    const address = (text: string) => /API +(\S+)/.exec(text)?.[1];
    expect(address(again)).toBe(address(words));
    const list = (await api(join(dir, "admin.kubeconfig"))("GET", "/api/v1/namespaces/shop/services")).json<{ items: KubeObject[] }>();
    const there = new Set(list.items.map((o) => o.metadata.name));
    expect(acknowledged.filter((name) => !there.has(name))).toEqual([]);

    const third = await spawn(dir, ...free);
    expect(await third.exited).toBe(1);
    expect(await new Response(third.stderr).text()).toContain(`in use by process ${second.pid}`);

    second.kill("SIGTERM");
    expect(await second.exited).toBe(0);
  }, 60_000);

  test("a folder that cannot be used is named, with the reason and the way out", async () => {
    const dir = folder();
    writeFileSync(join(dir, "file"), "");
    for (const path of [join(dir, "file"), join(dir, "file", "below")]) {
      const child = await spawn(path, ...free);
      expect(await child.exited).toBe(1);
      expect(await new Response(child.stderr).text()).toMatch(/^weft up: the data folder .*file.* cannot be used: .*--data\n$/);
    }
  });

  test("wrong flags are refused with the word that is wrong; help is help", async () => {
    for (const [args, says] of [
      [["--nope"], "no flag --nope"],
      [["extra"], '"extra"'],
      [["--api-port", "70000"], '"70000"'],
      [["--listen", "somewhere"], '"somewhere"'],
      [["--log-format", "xml"], '"xml"'],
      [["--data"], "--data needs a value"],
    ] as const) {
      const child = await spawn("x", ...args);
      expect(await child.exited).toBe(2);
      expect(await new Response(child.stderr).text()).toContain(says);
    }
    const help = await spawn("x", "--help");
    expect(await help.exited).toBe(0);
    expect(await new Response(help.stdout).text()).toContain("Usage: weft up");
  });
});
