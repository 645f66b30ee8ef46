import { beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import type { KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { until } from "../store/contract.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import type { Status } from "./status.ts";
import { gadget, makeTestServer, type TestServer } from "./testing.ts";

const shop = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
const merge = { "content-type": "application/merge-patch+json" };

interface Watching {
  readonly events: { type: string; object: KubeObject & Status & { rows?: { cells: unknown[] }[]; columnDefinitions?: unknown[] } }[];
  /** `ADDED a`, `DELETED b`. */
  readonly words: string[];
  readonly ended: Promise<void>;
  cancel(): Promise<void>;
}

let server: TestServer;
beforeEach(() => {
  server = makeTestServer();
});

async function watch(query: string, headers: Record<string, string> = {}, path = shop): Promise<Watching> {
  const response = await server.ask("GET", `${path}?watch=true&${query}`, undefined, headers);
  expect(response.status).toBe(200);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const events: Watching["events"] = [];
  const words: string[] = [];
  const decoder = new TextDecoder();
  const read = async () => {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const event = JSON.parse(line) as Watching["events"][number];
        events.push(event);
        words.push(`${event.type} ${event.object.metadata?.name ?? ""}`.trim());
      }
    }
  };
  return { events, words, ended: read(), cancel: () => reader.cancel() };
}

async function write(name: string, labels: Record<string, string> = {}, path = shop): Promise<KubeObject> {
  return (await (await server.ask("POST", path, gadget(name, {}, { labels }))).json()) as KubeObject;
}

const label = (name: string, labels: Record<string, string | null>) =>
  server.ask("PATCH", `${shop}/${name}`, { metadata: { labels } }, merge);

describe("watch", () => {
  test("from a list's revision gives every later event of the namespace once, in order", async () => {
    await write("before");
    const list = (await (await server.ask("GET", shop)).json()) as { metadata: { resourceVersion: string } };
    await write("old");
    const seen = await watch(`resourceVersion=${list.metadata.resourceVersion}`);
    await write("new");
    await write("elsewhere", {}, "/apis/test.weft.dev/v1/namespaces/bank/gadgets");
    await label("new", { a: "b" });
    await server.ask("DELETE", `${shop}/old`);
    await until(() => seen.words.length === 4);
    expect(seen.words).toEqual(["ADDED old", "ADDED new", "MODIFIED new", "DELETED old"]);
    const revisions = seen.events.map((event) => Number(event.object.metadata.resourceVersion));
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
    expect(seen.events[2]?.object).toMatchObject({ apiVersion: "test.weft.dev/v1", kind: "Gadget", metadata: { labels: { a: "b" } } });
    expect(server.held).toHaveLength(1);
    await seen.cancel();
  });

  test("without a revision begins with what is there", async () => {
    await write("a");
    for (const query of ["", "resourceVersion=0"]) {
      const seen = await watch(query);
      await until(() => seen.words.length === 1);
      expect(seen.words).toEqual(["ADDED a"]);
      await seen.cancel();
    }
  });

  test("sendInitialEvents ends what is there with a bookmark", async () => {
    await write("a");
    const seen = await watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    await write("b");
    await until(() => seen.words.length === 3);
    expect(seen.words).toEqual(["ADDED a", "BOOKMARK", "ADDED b"]);
    expect(seen.events[1]?.object).toMatchObject({
      kind: "Gadget",
      metadata: { annotations: { "k8s.io/initial-events-end": "true" }, resourceVersion: "2" },
    });
    await seen.cancel();
    expect((await server.ask("GET", `${shop}?watch=true&sendInitialEvents=true`)).status).toBe(400);
  });

  test("with a selector: what begins to pass is added, what ceases to is deleted", async () => {
    const start = await write("a", { app: "x" });
    await write("b", { app: "y" });
    const seen = await watch(`resourceVersion=${(await write("c", { app: "x" })).metadata.resourceVersion}&labelSelector=app=x`);
    await label("b", { n: "1" });
    await label("b", { app: "x" });
    await label("b", { n: "2" });
    await label("a", { app: "y" });
    await label("a", { n: "3" });
    await server.ask("DELETE", `${shop}/a`);
    await server.ask("DELETE", `${shop}/b`);
    await until(() => seen.words.length === 4);
    expect(seen.words).toEqual(["ADDED b", "MODIFIED b", "DELETED a", "DELETED b"]);
    await seen.cancel();
    expect(start.metadata.name).toBe("a");
  });

  test("by name, in the two ways clients ask", async () => {
    await write("a");
    const byField = await watch("resourceVersion=2&fieldSelector=metadata.name=b");
    const byPath = await watch("resourceVersion=2", {}, `${shop}/b`);
    await write("b");
    await label("a", { x: "y" });
    await server.ask("DELETE", `${shop}/b`);
    await until(() => byField.words.length === 2 && byPath.words.length === 2);
    expect(byField.words).toEqual(["ADDED b", "DELETED b"]);
    expect(byPath.words).toEqual(byField.words);
    await byField.cancel();
    await byPath.cancel();
  });

  test("shows a narrowed caller his own objects only", async () => {
    const reviews = { authorization: "Bearer shop/reviews" };
    const seen = await watch("", reviews);
    await server.ask("POST", shop, gadget("theirs", { note: "cart" }));
    await server.ask("POST", shop, gadget("mine", { note: "reviews" }));
    await until(() => seen.words.length === 1);
    expect(seen.words).toEqual(["ADDED mine"]);
    await seen.cancel();
    expect((await server.ask("GET", "/api/v1/services?watch=true", undefined, reviews)).status).toBe(403);
  });

  test("as tables: the columns come with the first event only", async () => {
    await write("a");
    const seen = await watch("", { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" });
    await label("a", { x: "y" });
    await until(() => seen.events.length === 2);
    expect(seen.events[0]?.object).toMatchObject({ kind: "Table", rows: [{ cells: ["a", 1, "", expect.any(String)] }] });
    expect(seen.events.map((event) => event.object.columnDefinitions?.length)).toEqual([4, 0]);
    await seen.cancel();
  });

  test("from a revision that was compacted away, or that is yet to come, ends with 410", async () => {
    const first = await write("a");
    await label("a", { x: "1" });
    await label("a", { x: "2" });
    await server.store.compact(await server.store.revision());
    for (const revision of [first.metadata.resourceVersion, "99999"]) {
      const seen = await watch(`resourceVersion=${revision}`);
      await seen.ended;
      expect(seen.events).toHaveLength(1);
      expect(seen.events[0]).toMatchObject({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } });
    }
  });

  test("ends after timeoutSeconds, with a last bookmark; bookmarks come in between and tell of other kinds' revisions", async () => {
    const clock = new PausedClock();
    server = makeTestServer({}, clock);
    await write("a");
    const seen = await watch("resourceVersion=2&timeoutSeconds=90&allowWatchBookmarks=true");
    await server.ask("POST", "/api/v1/namespaces/shop/services", { apiVersion: "v1", kind: "Service", metadata: { name: "s" }, spec: {} });
    clock.advance(60_000);
    clock.advance(30_000);
    await seen.ended;
    expect(seen.words).toEqual(["BOOKMARK", "BOOKMARK"]);
    expect(seen.events[0]?.object).toMatchObject({ apiVersion: "test.weft.dev/v1", kind: "Gadget", metadata: { resourceVersion: "3" } });
    expect((await server.ask("GET", `${shop}?watch=true&timeoutSeconds=soon`)).status).toBe(400);
  });

  test("ends when the server closes, and hears nothing after the client left", async () => {
    const seen = await watch("");
    server.api.close();
    await seen.ended;
    const left = await watch("");
    await left.cancel();
    await write("a");
    expect(left.words).toEqual([]);
  });
});

describe("live state", () => {
  const proxies = "/apis/weft.dev/v1alpha1/namespaces/shop/proxies";
  const proxy = (name: string, connected: boolean): KubeObject => ({
    apiVersion: "weft.dev/v1alpha1",
    kind: "Proxy",
    metadata: { name, namespace: "shop" },
    status: { connected },
  });

  test("is listed, got and watched like stored objects", async () => {
    server.live.set("a", proxy("a", true));
    const list = (await (await server.ask("GET", proxies)).json()) as { items: KubeObject[]; metadata: { resourceVersion: string } };
    expect(list.items).toMatchObject([{ kind: "Proxy", status: { connected: true } }]);
    expect((await server.ask("GET", `${proxies}/b`)).status).toBe(404);
    server.live.set("b", proxy("b", true));
    const seen = await watch(`resourceVersion=${list.metadata.resourceVersion}`, {}, proxies);
    await until(() => seen.words.length === 1);
    server.live.set("a", proxy("a", false));
    server.liveChanged();
    server.liveChanged();
    server.live.delete("b");
    server.liveChanged();
    await until(() => seen.words.length === 3);
    expect(seen.words).toEqual(["ADDED b", "MODIFIED a", "DELETED b"]);
    expect(seen.events[1]?.object).toMatchObject({ status: { connected: false } });
    await seen.cancel();
  });

  test("a revision of an earlier process is 410", async () => {
    server.live.set("a", proxy("a", true));
    const seen = await watch("resourceVersion=17", {}, proxies);
    await seen.ended;
    expect(seen.events[0]).toMatchObject({ type: "ERROR", object: { code: 410 } });
  });
});

describe("over a socket", () => {
  test("headers come before the first event, a watch outlives the idle timeout, and its client's leaving ends it", async () => {
    let stops = 0;
    const inner = openSqliteStore(":memory:");
    const store = Object.assign(Object.create(inner) as typeof inner, {
      revision: inner.revision.bind(inner),
      list: inner.list.bind(inner),
      get: inner.get.bind(inner),
      create: inner.create.bind(inner),
      watch: async (...args: Parameters<typeof inner.watch>) => {
        const handle = await inner.watch(...args);
        return {
          stop: () => {
            stops++;
            handle.stop();
          },
        };
      },
    });
    server = makeTestServer({ store });
    const bun = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      idleTimeout: 1,
      fetch: (request, holder) => server.api.handle(request, holder),
    });
    const leave = new AbortController();
    const response = await fetch(`${bun.url.origin}${shop}?watch=true`, {
      headers: { authorization: "Bearer admin" },
      signal: leave.signal,
    });
    expect(response.headers.get("content-type")).toBe("application/json");
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    // Bun's timeouts have a resolution of about four seconds below; two are enough to have been cut off at one.
    await Bun.sleep(2200);
    await write("late");
    let text = "";
    while (!text.includes("\n")) text += new TextDecoder().decode((await reader.read()).value);
    expect(JSON.parse(text)).toMatchObject({ type: "ADDED", object: { metadata: { name: "late" } } });
    leave.abort();
    await until(() => stops === 1);
    await bun.stop(true);
  }, 10_000);

  test("a client that does not read is let go before its buffer grows without end", async () => {
    const bun = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request, holder) => server.api.handle(request, holder) });
    let started = false;
    let stopped = false;
    const inner = server.store.watch.bind(server.store);
    server.store.watch = async (...args) => {
      const handle = await inner(...args);
      started = true;
      return {
        stop: () => {
          stopped = true;
          handle.stop();
        },
      };
    };
    const socket = connect(bun.port as number, "127.0.0.1");
    socket.on("error", () => {});
    socket.pause();
    socket.write(`GET ${shop}?watch=true HTTP/1.1\r\nHost: weft\r\nAuthorization: Bearer admin\r\n\r\n`);
    await until(() => started);
    const filler = "x".repeat(1_000_000);
    for (let at = 0; at < 60 && !stopped; at++) await server.ask("POST", shop, gadget(`n${at}`, { note: filler }));
    expect(stopped).toBe(true);
    socket.destroy();
    await bun.stop(true);
  }, 20_000);
});
