// Owns: a real API server on a free port for foreign Kubernetes clients, with the real kinds, and where to find kubectl.
// Only tests import it.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kinds } from "../../src/api/kinds.ts";
import type { KubeObject, Violation } from "../../src/api/meta.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { VirtualSource } from "../../src/control/apiserver/deps.ts";
import { listenApi } from "../../src/control/apiserver/listen.ts";
import { makeTestServer } from "../../src/control/apiserver/testing.ts";
import { Collector } from "../../src/control/collector.ts";
import { openAuthority, serverNames } from "../../src/control/identity/authority.ts";
import { openSqliteStore } from "../../src/control/store/sqlite.ts";
import { findPeer, peerVenv } from "../support/peers.ts";

/** Live state that a test can set. */
export interface LiveState extends VirtualSource {
  readonly objects: Map<string, KubeObject[]>;
  changed(): void;
}

export interface PeerServer {
  readonly folder: string;
  readonly kubeconfig: string;
  readonly url: string;
  readonly caPem: string;
  readonly live: LiveState;
  stop(): Promise<void>;
}

export async function startPeerServer(
  admit: (candidate: KubeObject, existing: KubeObject | undefined) => readonly Violation[] = () => [],
): Promise<PeerServer> {
  const folder = mkdtempSync(join(tmpdir(), "weft-peers-"));
  const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
  const authority = await openAuthority({ dir: folder, trustDomain: undefined, clock: systemClock, random });
  const certificate = await authority.serverCertificate(serverNames("127.0.0.1"));
  const store = openSqliteStore(join(folder, "weft.db"));
  const live = makeLive();
  const { api } = makeTestServer({ store, kinds, admit, virtual: live });
  const collector = new Collector({ store, kinds, clock: systemClock, log: silentLogger });
  await collector.start();
  const listener = listenApi(api, {
    hostname: "127.0.0.1",
    port: 0,
    cert: certificate.certificatePem,
    key: certificate.keyPem.reveal(),
    after: systemClock.after,
  });
  const url = `https://127.0.0.1:${listener.port}`;
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, kubeconfigText(url, authority.rootPem, "admin"));
  return {
    folder,
    kubeconfig,
    url,
    caPem: authority.rootPem,
    live,
    async stop() {
      await listener.stop();
      await collector.stop();
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A kubeconfig with one cluster, one user, one context. */
export function kubeconfigText(url: string, caPem: string, token: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "weft", cluster: { server: url, "certificate-authority-data": Buffer.from(caPem).toString("base64") } }],
    users: [{ name: "me", user: { token } }],
    contexts: [{ name: "weft", context: { cluster: "weft", user: "me", namespace: "shop" } }],
    "current-context": "weft",
  });
}

function makeLive(): LiveState {
  const objects = new Map<string, KubeObject[]>();
  const listeners = new Map<string, Set<() => void>>();
  return {
    objects,
    list: (resource) => objects.get(resource) ?? [],
    subscribe(resource, onChange) {
      const set = listeners.get(resource) ?? new Set();
      listeners.set(resource, set.add(onChange));
      return () => set.delete(onChange);
    },
    changed() {
      for (const set of listeners.values()) for (const run of [...set]) run();
    },
  };
}

/** Every kubectl to be tried: the one `findPeer` finds, and the peers' own newest one when nobody named one in WEFT_KUBECTL. */
export function findKubectls(): readonly string[] {
  const newest = join(peerVenv, "bin", "kubectl");
  const named = process.env.WEFT_KUBECTL ?? "";
  return [...new Set([findPeer("kubectl"), named === "" && existsSync(newest) ? newest : undefined])].filter((path) => path !== undefined);
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end; `input` goes to its standard input. HOME is the folder, so that no cache or config of the user is read. */
export async function run(folder: string, cmd: readonly string[], input = ""): Promise<Ran> {
  const child = Bun.spawn({
    cmd: [...cmd],
    stdin: Buffer.from(input),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env.PATH ?? "", HOME: folder },
  });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  return { code, out, err };
}
