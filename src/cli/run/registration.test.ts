import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Condition, KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { Client } from "../client.ts";
import { Registration } from "./registration.ts";
import type { Say } from "./say.ts";

const collection = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries";
const entry: KubeObject = {
  apiVersion: "networking.istio.io/v1",
  kind: "WorkloadEntry",
  metadata: { name: "cart-1", namespace: "shop" },
  spec: {},
};

/** An API that knows this one entry. `away`: it hangs up; `refuse`: it answers 403. */
let stored: KubeObject | undefined;
let calls: string[] = [];
let mode: "well" | "away" | "refuse" = "well";
let server: Bun.Server<undefined>;
let words: string[] = [];
let clock: PausedClock;
let registration: Registration;
let make: (of: KubeObject) => Registration;

/** uid of the WorkloadGroup that owns the entry; undefined: there is none. */
let group: string | undefined;

const status = (code: number, reason: string) => Response.json({ kind: "Status", message: reason, reason, code }, { status: code });
const health = () => (stored?.status as { conditions?: Condition[] } | undefined)?.conditions?.[0]?.reason;

async function answer(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  calls.push(`${request.method} ${pathname.slice(collection.length)}`);
  if (mode === "away") return new Response("bad gateway", { status: 502 });
  if (mode === "refuse") return status(403, "not yours");
  if (pathname.includes("/workloadgroups/"))
    return group === undefined ? status(404, "not found") : Response.json({ metadata: { name: "carts", uid: group } });
  if (request.method === "POST") {
    stored = (await request.json()) as KubeObject;
    return Response.json(stored, { status: 201 });
  }
  if (stored === undefined) return status(404, "not found");
  if (request.method === "DELETE") stored = undefined;
  if (request.method === "PATCH") stored = { ...stored, ...((await request.json()) as KubeObject) };
  return Response.json(stored ?? {});
}

beforeEach(() => {
  stored = undefined;
  calls = [];
  words = [];
  mode = "well";
  clock = new PausedClock();
  server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  const say: Say = { info: (text) => void words.push(text), warn: (text) => void words.push(text), error: (text) => void words.push(text) };
  const access = {
    server: `http://127.0.0.1:${server.port}`,
    ca: undefined,
    token: "t",
    namespace: "shop",
    serverName: undefined,
    skipVerify: false,
    file: "k",
  };
  make = (of) => new Registration(new Client(access), clock, say, "shop", of);
  registration = make(entry);
});
afterEach(() => server.stop(true));

describe("one entry's life", () => {
  test("starting, healthy, draining, gone", async () => {
    await registration.create();
    expect(health()).toBe("Starting");
    for (const [wanted, reason] of [
      ["healthy", "Answering"],
      ["draining", "Draining"],
    ] as const) {
      registration.want(wanted);
      expect(await registration.settled(1000)).toBe(true);
      expect(health()).toBe(reason);
    }
    registration.want("gone");
    expect(await registration.settled(1000)).toBe(true);
    expect(stored).toBeUndefined();
    expect(calls).toEqual(["POST ", "PATCH /cart-1/status", "PATCH /cart-1/status", "PATCH /cart-1/status", "DELETE /cart-1"]);
  });

  test("only the last wish counts when several come at once", async () => {
    await registration.create();
    registration.want("healthy");
    registration.want("draining");
    registration.want("gone");
    expect(await registration.settled(1000)).toBe(true);
    expect(stored).toBeUndefined();
  });

  test("a wish right after another is settled is not lost", async () => {
    await registration.create();
    for (let round = 0; round < 20; round++) {
      registration.want(round % 2 === 0 ? "healthy" : "sidecar-down");
      expect(await registration.settled(1000)).toBe(true);
      expect(health()).toBe(round % 2 === 0 ? "Answering" : "SidecarDown");
    }
  });

  test("the control plane away: said once, tried on, made good", async () => {
    await registration.create();
    mode = "away";
    registration.want("healthy");
    expect(await registration.settled(250)).toBe(false);
    expect(registration.away).toBe(true);
    mode = "well";
    expect(await registration.settled(3000)).toBe(true);
    expect(health()).toBe("Answering");
    expect(words.filter((w) => w.includes("cannot be noted as healthy"))).toHaveLength(1);
    expect(words.at(-1)).toBe("the control plane is back");
  });

  test("a refusal is said and not tried on", async () => {
    await registration.create();
    mode = "refuse";
    registration.want("healthy");
    expect(await registration.settled(1000)).toBe(false);
    expect(words).toEqual(["the control plane refuses to note that this instance is healthy: not yours"]);
    expect(calls).toHaveLength(3);
  });

  test("an entry that is gone already is gone", async () => {
    await registration.create();
    stored = undefined;
    registration.want("gone");
    expect(await registration.settled(1000)).toBe(true);
  });

  test("an entry that vanished is made again: at the next wish, or when the watch finds out", async () => {
    await registration.create();
    stored = undefined;
    registration.want("healthy");
    expect(await registration.settled(1000)).toBe(true);
    expect(health()).toBe("Answering");
    registration.watch();
    stored = undefined;
    clock.advance(30_000);
    while (stored === undefined) await Bun.sleep(1);
    expect(await registration.settled(1000)).toBe(true);
    expect(health()).toBe("Answering");
    expect(words).toEqual(["the registration of this instance is gone; registering it again"]);
  });
});

describe("an entry that a WorkloadGroup owns", () => {
  const owner = { apiVersion: "networking.istio.io/v1", kind: "WorkloadGroup", name: "carts", uid: "u1", controller: true };
  const owned = { ...entry, metadata: { ...entry.metadata, ownerReferences: [owner] } };
  const again = async (now: string | undefined): Promise<unknown> => {
    group = "u1";
    registration = make(owned);
    await registration.create();
    expect(stored?.metadata.ownerReferences).toEqual([owner]);
    // Deleted with its owner.
    [stored, group] = [undefined, now];
    registration.want("healthy");
    expect(await registration.settled(1000)).toBe(true);
    expect(health()).toBe("Answering");
    return (stored as KubeObject | undefined)?.metadata.ownerReferences;
  };

  test("is registered on its own when that is gone: it would be deleted again", async () => {
    expect(await again(undefined)).toBeUndefined();
    expect(words).toEqual(["WorkloadGroup carts, which this instance was registered by, is gone; it is registered on its own"]);
  });

  test("is owned by the one of that name that came since", async () => {
    expect(await again("u2")).toEqual([{ ...owner, uid: "u2" }]);
    expect(words).toEqual([]);
  });
});
