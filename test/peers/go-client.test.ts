// Judge: client-go, as controllers use it: typed and dynamic clients, server-side apply, the pager, shared informers, watches, leader election.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { goProgram } from "../support/go-program.ts";
import { needsPeers } from "../support/peers.ts";
import { type PeerServer, run, startPeerServer } from "./kubectl-setup.ts";

const sources = join(import.meta.dir, "go-client");

describe.skipIf(!needsPeers("go-client.test.ts", "go"))("client-go", () => {
  let server: PeerServer;
  let program: string;
  beforeAll(async () => {
    program = await goProgram(sources, "go-client");
    server = await startPeerServer();
  }, 600_000);
  afterAll(() => server?.stop());

  test("a controller's day", async () => {
    const { code, out, err } = await run(server.folder, [program, server.kubeconfig]);
    expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
    const seen = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as [string, unknown]);
    expect(seen).toEqual([
      ["version", true],
      ["groups", expect.arrayContaining(["", "gateway.networking.k8s.io", "networking.istio.io", "security.istio.io", "weft.dev"])],
      ["versions of HTTPRoute", 2],
      ["openapi", true],
      ["created", ["reviews", 80, true, "go-client"]],
      ["again", true],
      ["updated", ["v2", 2]],
      ["stale", true],
      ["retried", 2],
      ["strategic patch", 2],
      ["json patch", 1],
      ["missing", true],
      ["invalid", [true, "spec.type"]],
      ["applied", [8080, "Apply"]],
      ["extracted", "http"],
      ["apply conflict", [true, true]],
      ["forced", 9090],
      ["paged", 7],
      ["left", 4],
      ["informed", ["add applied", "add reviews", "add ratings", "update ratings", "delete ratings"]],
      ["last of a watch that times out", "BOOKMARK"],
      ["owned and finalized", true],
      ["elected", ["first leads", "first", "first", "first stopped", "second leads", "second", "second stopped"]],
      ["self", "admin"],
    ]);
  }, 60_000);
});
