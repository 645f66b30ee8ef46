// Judge: @kubernetes/client-node, as operators use it: typed client, custom objects, watch, informer.
// It runs in a process of its own: under Bun its `dispatcher` (the kubeconfig's CA) is not looked at, so the CA comes in by environment.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type PeerServer, startPeerServer } from "./kubectl-setup.ts";

let server: PeerServer;
beforeAll(async () => {
  server = await startPeerServer();
});
afterAll(() => server.stop());

test("an operator's day: create, conflict, patch, list, watch, informer", async () => {
  const ca = join(server.folder, "root.pem");
  writeFileSync(ca, server.caPem);
  const child = Bun.spawn({
    cmd: [process.execPath, join(import.meta.dir, "client-node-program.mjs"), server.kubeconfig],
    env: { PATH: process.env.PATH ?? "", HOME: server.folder, NODE_EXTRA_CA_CERTS: ca },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]);
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  const lines = out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as [string, unknown]);
  expect(lines).toEqual([
    ["created", ["reviews", true, 80]],
    ["again", { code: 409, reason: "AlreadyExists", message: 'services "reviews" already exists' }],
    ["replaced", ["v2", 2]],
    ["stale", { code: 409, reason: "Conflict", message: expect.stringContaining("the object has been modified") }],
    ["patched", "client-node"],
    ["missing", { code: 404, reason: "NotFound", message: 'services "nope" not found' }],
    ["custom", 1],
    ["invalid", { code: 422, reason: "Invalid", message: expect.stringContaining('spec.surprise: unknown field "surprise"') }],
    ["read by kind", "reviews"],
    ["watched", ["ADDED cart", "DELETED cart"]],
    ["watch ended", "closed"],
    ["informed", ["add reviews", "add ratings", "update ratings", "delete ratings"]],
    ["cache", ["reviews"]],
  ]);
}, 30_000);
