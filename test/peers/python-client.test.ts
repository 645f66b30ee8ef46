// Judge: Python's kubernetes client, as scripts and operators use it: typed, custom and dynamic objects, pages, watches.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { needsPeers, peerVenv } from "../support/peers.ts";
import { type PeerServer, run, startPeerServer } from "./kubectl-setup.ts";

describe.skipIf(!needsPeers("python-client.test.ts", "python-kubernetes"))("Python's kubernetes client", () => {
  let server: PeerServer;
  beforeAll(async () => {
    server = await startPeerServer();
  });
  afterAll(() => server?.stop());

  test("a script's day", async () => {
    const program = join(import.meta.dir, "python-client-program.py");
    const { code, out, err } = await run(server.folder, [join(peerVenv, "bin", "python"), program, server.kubeconfig]);
    expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
    const seen = out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as [string, unknown]);
    expect(seen).toEqual([
      ["created", ["reviews", 80, "python"]],
      ["again", [409, "AlreadyExists", 'services "reviews" already exists']],
      ["replaced", "v2"],
      ["stale", [409, "Conflict", expect.stringContaining("the object has been modified")]],
      ["patched", "python"],
      ["missing", [404, "NotFound", 'services "nope" not found']],
      ["custom", 1],
      ["invalid", [422, "Invalid", expect.stringContaining('unknown field "surprise"')]],
      ["applied", ["applied", "Apply"]],
      ["apply conflict", [409, "Conflict", 'Apply failed with 1 conflict: conflict with "one": .spec.ports[port=80,protocol="TCP"].name']],
      ["paged", ["s0", "s1", "s2", "s3", "s4"]],
      ["selected", ["s1", "s2"]],
      ["selected by what cannot be", [400, "BadRequest", expect.stringContaining("services can be selected by metadata.name")]],
      ["watched", ["ADDED cart", "DELETED cart"]],
      ["from the future", [410, "Expired"]],
      ["namespaces", ["made", "many", "shop"]],
      ["self", "admin"],
      ["may", true],
      ["left", ["s0"]],
    ]);
  }, 60_000);
});
