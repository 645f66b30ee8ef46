// The API after its root was replaced: it shows a certificate of the new one without a restart, and nobody who trusts the bundle notices. Judge: curl.

import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CaStatus } from "../../src/control/identity/rotation.ts";
import { type ControlPlane, startControlPlane } from "../../src/control/plane.ts";
import { findPeer, needsPeers } from "../support/peers.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const run of cleanups.splice(0).reverse()) await run();
});

describe.skipIf(!needsPeers("rotated-api.test.ts", "curl"))("after weft ca rotate the API is known by the new root", () => {
  for (const [what, more] of [
    ["with tokens alone", {}],
    ["with client certificates too", { clientCaFile: "own" }],
  ] as const) {
    test(what, async () => {
      const dir = mkdtempSync(join(tmpdir(), "weft-rotated-"));
      cleanups.push(() => rmSync(dir, { recursive: true, force: true }));
      const plane = await startControlPlane({ dataDir: dir, apiPort: 0, xdsPort: 0, dashboardPort: 0, apiRate: 0, ...more });
      cleanups.push(() => plane.stop());
      const token = readFileSync(join(dir, "admin.token"), "utf8").trim();
      const oldRoot = readFileSync(join(dir, "ca.crt"), "utf8");
      const oldFile = join(dir, "old.pem");
      writeFileSync(oldFile, oldRoot);
      const bundle = () => readFileSync(join(dir, "ca.crt"), "utf8");

      expect((await ask(plane, "POST", "/weft/v1alpha1/ca/rotate")).code).toBe(200);
      await until("the new root issues", async () => (await status(plane)).rotation?.phase === "issuing");
      // Both are in the kubeconfig before the certificate changes; what was given out before goes on meanwhile.
      const both = rootsOf(plane);
      expect(both.match(/BEGIN/g)?.length).toBe(2);
      expect(await curl(plane, oldFile, token)).toBe("200");

      // A watch, connections kept and connections made, none of which may fail while the certificate changes.
      const heard: string[] = [];
      const watching = watch(plane, both, token, heard);
      await until("the watch is there", () => heard.length > 0);
      const count = { done: 0 };
      const wrong: unknown[] = [];
      let on = true;
      const load = async (agent: Agent | false) => {
        while (on) {
          await get(plane, both, token, agent).then(
            (code) => {
              count.done++;
              if (code !== 200) wrong.push(code);
            },
            (cause: unknown) => wrong.push(cause),
          );
        }
      };
      const kept = new Agent({ keepAlive: true, maxSockets: 1 });
      cleanups.push(() => kept.destroy());
      const loads = [load(false), load(false), load(kept)];
      await until("some requests", () => count.done > 20);
      await until("nobody is cut off", async () => (await ask(plane, "POST", "/weft/v1alpha1/ca/finish")).code === 200);
      await until("the kubeconfig has the new root alone", () => rootsOf(plane).trim() === bundle().trim());
      expect(bundle().trim()).not.toBe(oldRoot.trim());
      const before = count.done;
      await until("some more", () => count.done > before + 40);
      on = false;
      await Promise.all(loads);
      expect(wrong).toEqual([]);

      const newFile = join(dir, "new.pem");
      writeFileSync(newFile, bundle());
      for (let n = 0; n < 5; n++) expect(await curl(plane, newFile, token)).toBe("200");
      // CURLE_PEER_FAILED_VERIFICATION
      expect(await curl(plane, oldFile, token)).toBe("exit 60");
      const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "later" } };
      expect((await ask(plane, "POST", "/api/v1/namespaces", namespace)).code).toBe(201);
      await until("the watch goes on", () => heard.join("").includes('"later"'));
      watching();

      // Once more, at once: the listener of before is still there for those who have not come back.
      expect((await ask(plane, "POST", "/weft/v1alpha1/ca/rotate")).code).toBe(200);
      await until("the next root issues", async () => (await status(plane)).rotation?.phase === "issuing");
      await until("nobody is cut off", async () => (await ask(plane, "POST", "/weft/v1alpha1/ca/finish")).code === 200);
      await until("the kubeconfig has the next root alone", () => rootsOf(plane).trim() === bundle().trim());
      writeFileSync(oldFile, bundle());
      for (let n = 0; n < 5; n++) expect(await curl(plane, oldFile, token)).toBe("200");
      expect(await curl(plane, newFile, token)).toBe("exit 60");
    }, 60_000);
  }
});

function rootsOf(plane: ControlPlane): string {
  const config = Bun.YAML.parse(readFileSync(plane.kubeconfigPath, "utf8")) as {
    clusters: [{ cluster: { "certificate-authority-data": string } }];
  };
  return Buffer.from(config.clusters[0].cluster["certificate-authority-data"], "base64").toString();
}

/** As the administrator, over a connection of its own. */
async function ask(plane: ControlPlane, method: string, path: string, body?: unknown): Promise<{ code: number; body: unknown }> {
  const token = (Bun.YAML.parse(readFileSync(plane.kubeconfigPath, "utf8")) as { users: [{ user: { token: string } }] }).users[0].user
    .token;
  const response = await fetch(plane.apiUrl + path, {
    method,
    tls: { ca: rootsOf(plane) },
    keepalive: false,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    proxy: "",
  });
  return { code: response.status, body: await response.json() };
}

async function status(plane: ControlPlane): Promise<CaStatus> {
  return (await ask(plane, "GET", "/weft/v1alpha1/ca")).body as CaStatus;
}

/** The status code, or how it failed. */
async function curl(plane: ControlPlane, ca: string, token: string): Promise<string> {
  const words = ["-q", "--silent", "--noproxy", "*", "--max-time", "10", "--cacert", ca, "-H", `Authorization: Bearer ${token}`];
  const child = Bun.spawn(
    [findPeer("curl") as string, ...words, "-o", "/dev/null", "-w", "%{http_code}", `${plane.apiUrl}/api/v1/namespaces`],
    {
      stdout: "pipe",
      stderr: "ignore",
    },
  );
  const said = await new Response(child.stdout).text();
  const code = await child.exited;
  return code === 0 ? said : `exit ${code}`;
}

function get(plane: ControlPlane, ca: string, token: string, agent: Agent | false): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(`${plane.apiUrl}/api/v1/namespaces`, { ca, agent, headers: { authorization: `Bearer ${token}` } }, (answer) => {
      answer.on("error", reject);
      answer.on("end", () => resolve(answer.statusCode ?? 0));
      answer.resume();
    });
    sent.on("error", reject);
    sent.end();
  });
}

function watch(plane: ControlPlane, ca: string, token: string, heard: string[]): () => void {
  const sent = request(
    `${plane.apiUrl}/api/v1/namespaces?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan`,
    { ca, agent: false, headers: { authorization: `Bearer ${token}` } },
    (answer) => {
      answer.on("data", (chunk: Buffer) => heard.push(chunk.toString()));
      answer.on("error", () => undefined);
    },
  );
  sent.on("error", () => undefined);
  sent.end();
  const end = () => sent.destroy();
  cleanups.push(end);
  return end;
}

async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 20_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within ${limitMs} ms: ${what}`);
    await Bun.sleep(20);
  }
}
