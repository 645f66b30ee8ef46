// Three control planes on three members of etcd, under client load and configuration changes: killed, stopped, cut off, restarted. No request fails, no
// acknowledged write is lost, and everybody agrees within seconds.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../demo/cast.ts";
import { Processes } from "../../demo/processes.ts";
import type { KubeObject } from "../../src/api/meta.ts";
import { annotations } from "../../src/wire/names.ts";
import { EtcdServers } from "../support/etcd.ts";
import { app, eventually } from "../support/mesh.ts";
import { needsPeers } from "../support/peers.ts";
import { Relay } from "../support/relay.ts";

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** One control plane: its process, its way to etcd, and its API as a program uses it. */
class Plane {
  readonly processes: Processes;
  readonly relays: readonly Relay[];
  readonly #dir: string;

  constructor(dir: string, relays: readonly Relay[]) {
    this.#dir = dir;
    this.relays = relays;
    this.processes = new Processes(dir);
  }

  start(): Promise<void> {
    const members = this.relays.map((relay) => `127.0.0.1:${relay.port}`).join(",");
    return this.processes.startControlPlane([
      "--api-port",
      "0",
      "--xds-port",
      "0",
      "--dashboard-port",
      "0",
      "--store",
      `etcd://${members}/mesh`,
    ]);
  }

  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM"): void {
    this.processes.controlPlane?.kill(name);
  }

  async end(name: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.signal(name);
    await this.processes.controlPlane?.exited;
  }

  /** undefined = no answer: nobody knows what became of it. */
  async ask(method: string, path: string, body?: unknown, limitMs = 4_000): Promise<Answer | undefined> {
    const config = Bun.YAML.parse(readFileSync(join(this.#dir, "admin.kubeconfig"), "utf8")) as {
      clusters: [{ cluster: { server: string; "certificate-authority-data": string } }];
      users: [{ user: { token: string } }];
    };
    const { cluster } = config.clusters[0];
    try {
      const response = await fetch(cluster.server + path, {
        method,
        tls: { ca: Buffer.from(cluster["certificate-authority-data"], "base64").toString() },
        headers: {
          authorization: `Bearer ${config.users[0].user.token}`,
          "content-type": method === "PATCH" ? "application/merge-patch+json" : "application/json",
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(limitMs),
        proxy: "",
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    } catch {
      return undefined;
    }
  }
}

const route = (value: string) => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "echo", namespace: "shop" },
  spec: {
    parentRefs: [{ group: "", kind: "Service", name: "echo" }],
    rules: [
      {
        filters: [{ type: "ResponseHeaderModifier", responseHeaderModifier: { set: [{ name: "x-round", value }] } }],
        backendRefs: [{ name: "echo", port: 80 }],
      },
    ],
  },
});

const routes = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";

describe.skipIf(!needsPeers("high-availability.test.ts", "etcd"))("three control planes on three members of etcd", () => {
  let root: string;
  let etcd: EtcdServers;
  const planes: Plane[] = [];
  const peerRelays: Relay[] = [];
  let httpProxy = "";
  /** Writes that were answered with success. */
  const acknowledged: string[] = [];
  const failures: string[] = [];
  let requests = 0;
  let serial = 0;
  let loading = true;
  let load: Promise<void> = Promise.resolve();

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), "weft-ha-"));
    const targets: number[] = [];
    for (let at = 0; at < 3; at++) peerRelays.push(await Relay.start(() => targets[at] as number));
    etcd = await EtcdServers.start({
      members: 3,
      peerPortSeen: (at, port) => {
        targets[at] = port;
        return (peerRelays[at] as Relay).port;
      },
    });
    for (let at = 0; at < 3; at++) {
      const relays = await Promise.all(etcd.members.map((member) => Relay.start(() => member.clientPort)));
      planes.push(new Plane(join(root, `plane-${at}`), relays));
    }
    // All at once: one of them makes the mesh.
    await Promise.all(planes.map((plane) => plane.start()));
    const { processes } = planes[0] as Plane;
    const port = await freePort();
    const clientPort = await freePort();
    processes.startInstance({ service: "echo", name: "echo-a", port, command: app("echo.ts") });
    processes.startInstance({ service: "client", name: "client", port: clientPort, command: app("echo.ts") });
    await processes.waitFor("both are registered", 20_000, async () => {
      const found = (await (planes[1] as Plane).ask("GET", "/apis/networking.istio.io/v1/namespaces/shop/workloadentries"))?.body as
        | { items?: KubeObject[] }
        | undefined;
      const entry = found?.items?.find((item) => item.metadata.labels?.app === "client");
      const noted = entry?.metadata.annotations?.[annotations.httpProxyPort];
      if (noted !== undefined) httpProxy = `http://127.0.0.1:${noted}`;
      const conditions = JSON.stringify(found?.items?.map((item) => item.status) ?? []);
      return httpProxy !== "" && (conditions.match(/"type":"Healthy","status":"True"/g)?.length ?? 0) === 2;
    });
    expect((await (planes[2] as Plane).ask("POST", routes, route("0")))?.status).toBe(201);
    await eventually(5_000, round, (now) => now === "0");
    load = (async () => {
      while (loading) {
        requests++;
        try {
          const answer = await fetch("http://echo/", { proxy: httpProxy, signal: AbortSignal.timeout(5_000) });
          await answer.text();
          if (answer.status !== 200) failures.push(`${answer.status} ${answer.headers.get("x-weft-reason") ?? ""}`);
        } catch (cause) {
          failures.push(String(cause));
        }
        await Bun.sleep(20);
      }
    })();
  }, 60_000);

  afterAll(async () => {
    loading = false;
    await load;
    for (const plane of planes) plane.signal("SIGCONT");
    await Promise.all(planes.map((plane) => plane.processes.stopAll()));
    await etcd?.stop();
    for (const relay of [...peerRelays, ...planes.flatMap((plane) => plane.relays)]) relay.stop();
    rmSync(root, { recursive: true, force: true });
  }, 40_000);

  const round = async (): Promise<string> => {
    const answer = await fetch("http://echo/", { proxy: httpProxy, signal: AbortSignal.timeout(5_000) });
    await answer.text();
    return answer.headers.get("x-round") ?? "";
  };

  /** Writes by whichever control plane answers, while `fault` goes on; then all must agree. */
  const through = async (fault: () => Promise<void>): Promise<void> => {
    let going = true;
    const writing = (async () => {
      while (going) {
        const name = `round-${++serial}`;
        const plane = planes[serial % 3] as Plane;
        const answer = await plane.ask("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name } }, 2_500);
        if (answer?.status === 201) acknowledged.push(name);
        await Bun.sleep(30);
      }
    })();
    const before = acknowledged.length;
    await fault();
    going = false;
    await writing;
    // Somebody could write all along.
    expect(acknowledged.length).toBeGreaterThan(before);
    const value = String(++serial);
    const changed = await eventually(
      8_000,
      async () => (await (planes[serial % 3] as Plane).ask("PUT", `${routes}/echo`, await current(value)))?.status,
      (status) => status === 200,
    );
    expect(changed).toBe(200);
    expect(await eventually(8_000, round, (now) => now === value)).toBe(value);
    for (const plane of planes) {
      const names = await eventually(
        8_000,
        async () =>
          new Set(
            ((await plane.ask("GET", "/api/v1/namespaces"))?.body as { items?: KubeObject[] })?.items?.map((item) => item.metadata.name) ??
              [],
          ),
        (found) => found.size > 0,
      );
      expect(acknowledged.filter((name) => !names.has(name))).toEqual([]);
    }
    expect(failures).toEqual([]);
  };

  const current = async (value: string): Promise<unknown> => {
    const now = (await (planes[serial % 3] as Plane).ask("GET", `${routes}/echo`))?.body as KubeObject | undefined;
    return { ...route(value), metadata: { ...route(value).metadata, resourceVersion: now?.metadata.resourceVersion } };
  };

  /** The control plane that the callee's proxy is connected to. */
  const holder = async (): Promise<Plane> => {
    const found = await eventually(
      10_000,
      async () => {
        for (const plane of planes) {
          const proxies = (await plane.ask("GET", "/apis/weft.dev/v1alpha1/proxies"))?.body as { items?: KubeObject[] } | undefined;
          const mine = proxies?.items?.find((proxy) => proxy.metadata.name.startsWith("echo-"));
          if ((mine?.status as { connected?: boolean } | undefined)?.connected === true) return plane;
        }
        return undefined;
      },
      (plane) => plane !== undefined,
    );
    return found as Plane;
  };

  test("go on when one control plane is killed, and when it comes back", async () => {
    await through(async () => {
      const plane = await holder();
      await plane.end("SIGKILL");
      await Bun.sleep(1_500);
      await plane.start();
    });
  }, 40_000);

  test("go on when one stands still, as a machine that is paged out", async () => {
    await through(async () => {
      const plane = await holder();
      plane.signal("SIGSTOP");
      await Bun.sleep(9_000);
      plane.signal("SIGCONT");
    });
  }, 40_000);

  test("go on when one is cut off from etcd, and it catches up", async () => {
    await through(async () => {
      const plane = await holder();
      for (const relay of plane.relays) relay.silent();
      // Its proxies are sent to those that reach etcd.
      const other = await eventually(14_000, holder, (now) => now !== plane);
      expect(other).not.toBe(plane);
      for (const relay of plane.relays) relay.cut();
      await Bun.sleep(1_000);
      for (const relay of plane.relays) relay.open();
    });
  }, 40_000);

  test("go on when a member of etcd is killed, stopped, and cut off from the others", async () => {
    await through(async () => {
      await etcd.members[0]?.kill();
      await Bun.sleep(2_000);
      etcd.members[0]?.start();
      await etcd.ready();
      etcd.members[1]?.signal("SIGSTOP");
      await Bun.sleep(3_000);
      etcd.members[1]?.signal("SIGCONT");
      await etcd.ready();
      peerRelays[2]?.cut();
      await Bun.sleep(3_000);
      peerRelays[2]?.open();
      await etcd.ready();
    });
  }, 60_000);

  test("leave traffic alone while etcd as a whole stands still, say so, and go on with it", async () => {
    await through(async () => {
      for (const member of etcd.members) member.signal("SIGSTOP");
      const answers = await Promise.all(planes.map((plane) => plane.ask("GET", "/api/v1/namespaces/default", undefined, 12_000)));
      for (const answer of answers) {
        expect(answer?.status).toBe(503);
        expect(String(answer?.body.message)).toMatch(/etcd \(127\.0\.0\.1:\d+\) cannot be reached, or has no leader/);
      }
      for (const member of etcd.members) member.signal("SIGCONT");
      await etcd.ready();
      const before = acknowledged.length;
      await eventually(
        10_000,
        async () => acknowledged.length,
        (count) => count > before,
      );
    });
  }, 50_000);

  test("are restarted one after the other unseen by traffic", async () => {
    await through(async () => {
      for (const plane of planes) {
        await plane.end("SIGTERM");
        await plane.start();
      }
    });
    expect(requests).toBeGreaterThan(300);
  }, 60_000);
});
