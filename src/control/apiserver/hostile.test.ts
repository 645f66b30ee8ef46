// Hostile clients of the API: what they send costs little, is refused in words, and harms nobody else. Bodies, patches, watches.

import { beforeEach, describe, expect, test } from "bun:test";
import { readText } from "./body.ts";
import type { Status } from "./status.ts";
import { gadget, makeTestServer, type TestServer } from "./testing.ts";
import { maxWatchesOfUser } from "./watch.ts";

const shop = "/apis/test.weft.dev/v1/namespaces/shop/gadgets";
const yaml = { "content-type": "application/yaml" };
const patched = (type: string) => ({ "content-type": `application/${type}` });

let server: TestServer;
beforeEach(async () => {
  server = makeTestServer();
  expect((await server.ask("POST", shop, gadget("there", { size: 1 }))).status).toBe(201);
});

async function refusal(answer: Promise<Response>): Promise<Status> {
  return (await (await answer).json()) as Status;
}

const nested = (depth: number, open = "[", close = "]") => open.repeat(depth) + close.repeat(depth);
/** Each copy takes the copies before it along. */
const doubling = [
  { op: "add", path: "/spec/note", value: { a: "x".repeat(1_000) } },
  ...Array.from({ length: 900 }, () => ({ op: "copy", from: "/spec", path: "/spec/note/b" })),
];

describe("a body that would take minutes or gigabytes", () => {
  // All of these together take a second; one that is not bounded takes longer than the test may.
  test.each<[string, string, string, string | object, Record<string, string>, number, RegExp]>([
    ["JSON of a million levels", "POST", shop, nested(1_000_000), {}, 400, /nested deeper than 100 levels/],
    ["YAML of ten thousand levels", "POST", shop, `a: ${nested(10_000)}`, yaml, 400, /nested deeper than 100 levels/],
    [
      "YAML of a thousand indents",
      "POST",
      shop,
      Array.from({ length: 600 }, (_, n) => `${" ".repeat(n)}a:`).join("\n"),
      yaml,
      400,
      /nested deeper/,
    ],
    [
      "YAML of half a million items",
      "POST",
      shop,
      `a:\n${" - b\n".repeat(500_000)}`,
      yaml,
      413,
      /YAML is read up to 256 KiB.*send it as JSON/,
    ],
    [
      "a merge patch of many levels",
      "PATCH",
      `${shop}/there`,
      `{"spec":${nested(100_000, '{"a":', "}").replace(":}", ":1}")}}`,
      patched("merge-patch+json"),
      400,
      /nested deeper than 100 levels/,
    ],
    [
      "an apply patch of many levels",
      "PATCH",
      `${shop}/there?fieldManager=x`,
      `spec: ${nested(5_000, "{a: ", "}")}`,
      patched("apply-patch+yaml"),
      400,
      /nested deeper than 100 levels/,
    ],
    [
      "YAML of more levels than the reader has stack for",
      "PATCH",
      `${shop}/there?fieldManager=x`,
      `spec: ${nested(40_000, "{a: ", "}")}`,
      patched("apply-patch+yaml"),
      400,
      /nested deeper than 100 levels/,
    ],
    [
      "a JSON patch that doubles with each operation",
      "PATCH",
      `${shop}/there`,
      doubling,
      patched("json-patch+json"),
      400,
      /copies add up to more than 3145728 bytes/,
    ],
    [
      "a JSON patch with a path of many parts",
      "PATCH",
      `${shop}/there`,
      [{ op: "add", path: `/spec${"/a".repeat(100_000)}`, value: 1 }],
      patched("json-patch+json"),
      400,
      /there is nothing at/,
    ],
    [
      "a JSON patch of many operations",
      "PATCH",
      `${shop}/there`,
      Array.from({ length: 1_001 }, () => ({ op: "test", path: "", value: 1 })),
      patched("json-patch+json"),
      400,
      /at most 1000 are taken/,
    ],
    [
      "protobuf that ends early",
      "POST",
      shop,
      `k8s\0${"\n".repeat(100_000)}`,
      patched("vnd.kubernetes.protobuf"),
      400,
      /not valid protobuf/,
    ],
  ])("%s", async (_says, method, path, body, headers, code, message) => {
    const status = await refusal(server.ask(method, path, body, headers));
    expect([status.code, (status.message ?? "").slice(0, 300)]).toEqual([code, expect.stringMatching(message)]);
    expect((await server.ask("GET", `${shop}/there`)).status).toBe(200);
  });

  test("JSON that is sent as YAML may be as large as JSON", async () => {
    const large = JSON.stringify(gadget("large", { note: "x".repeat(400_000) }));
    expect((await server.ask("POST", shop, large, yaml)).status).toBe(201);
  });
});

describe("a body that comes by drops", () => {
  const dropping = (): { request: Request; cancelled: () => boolean } => {
    let timer: ReturnType<typeof setInterval>;
    let over = false;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        timer = setInterval(() => controller.enqueue(new Uint8Array([0x20])), 5);
      },
      cancel() {
        clearInterval(timer);
        over = true;
      },
    });
    return { request: new Request("https://weft/", { method: "POST", body }), cancelled: () => over };
  };

  test("is given up with 408, and no longer read", async () => {
    const { request, cancelled } = dropping();
    const error = await readText(request, 100).catch((cause: { status?: Status }) => cause);
    expect((error as { status: Status }).status).toMatchObject({
      code: 408,
      reason: "Timeout",
      message: expect.stringContaining("did not come within 0.1 s"),
    });
    expect(cancelled()).toBe(true);
  });

  test("of a stranger is not waited for", async () => {
    const { request } = dropping();
    const asked = new Request(`https://weft${shop}`, { method: "POST", body: request.body, headers: { authorization: "Bearer nobody" } });
    expect((await server.api.handle(asked, { timeout: () => {} })).status).toBe(401);
    await asked.body?.cancel();
  });
});

test("a flood of watches ends at the credential that makes it, and what it lets go may be had again", async () => {
  const owner = { authorization: "Bearer shop/cart" };
  const open: { cancel(): Promise<void> }[] = [];
  for (let n = 0; n < maxWatchesOfUser; n++) {
    const answer = await server.ask("GET", `${shop}?watch=true`, undefined, owner);
    expect(answer.status).toBe(200);
    open.push((answer.body as ReadableStream<Uint8Array>).getReader());
  }
  const late = await server.ask("GET", `${shop}?watch=true`, undefined, owner);
  expect([late.status, late.headers.get("retry-after")]).toEqual([429, "5"]);
  expect(((await late.json()) as Status).message).toContain("1000 watches open, the most that one credential may");
  // Others, and other requests of the same, are not held up.
  const other = await server.ask("GET", `${shop}?watch=true`);
  expect(other.status).toBe(200);
  expect((await server.ask("GET", `${shop}/there`)).status).toBe(200);
  // Refused ones leave nothing behind.
  expect((await server.ask("GET", `${shop}?watch=true&resourceVersion=x`, undefined, owner)).status).toBe(429);
  await open.pop()?.cancel();
  expect((await server.ask("GET", `${shop}?watch=true&resourceVersion=x`, undefined, owner)).status).toBe(400);
  const again = await server.ask("GET", `${shop}?watch=true`, undefined, owner);
  expect(again.status).toBe(200);
  await again.body?.cancel();
  await other.body?.cancel();
  await Promise.all(open.map((reader) => reader.cancel()));
  server.api.close();
}, 30_000);
