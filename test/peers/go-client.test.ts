// Judge: client-go, as controllers use it: typed and dynamic clients, server-side apply, the pager, shared informers, watches.
// The program is built on first use into a folder of its own under the system's temporary one, by its sources' hash.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type PeerServer, run, startPeerServer } from "./kubectl-setup.ts";

const sources = join(import.meta.dir, "go-client");

/** The program's path; builds it where it is not there yet. */
async function build(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const name of readdirSync(sources).sort()) hash.update(name).update(readFileSync(join(sources, name)));
  const folder = join(tmpdir(), `weft-go-client-${process.getuid?.() ?? 0}`);
  const program = join(folder, hash.digest("hex").slice(0, 20));
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const making = `${program}.${process.pid}`;
  const child = Bun.spawn([findPeer("go") as string, "build", "-buildvcs=false", "-o", making, "."], {
    cwd: sources,
    stdout: "pipe",
    stderr: "pipe",
  });
  const err = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(err);
  renameSync(making, program);
  return program;
}

describe.skipIf(!needsPeers("go-client.test.ts", "go"))("client-go", () => {
  let server: PeerServer;
  let program: string;
  beforeAll(async () => {
    program = await build();
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
      ["self", "admin"],
    ]);
  }, 60_000);
});
