import { afterAll, expect, test } from "bun:test";
import { ApiFailure, Client, Unreachable, warningsOf } from "./client.ts";
import type { Access } from "./kubeconfig.ts";

const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/echo") return Response.json({ auth: request.headers.get("authorization"), accept: request.headers.get("accept") });
    if (pathname === "/refused") {
      const details = { causes: [{ field: "spec.port", message: "must be at least 1", reason: "FieldValueInvalid" }] };
      return Response.json({ kind: "Status", message: "Service is invalid", reason: "Invalid", details }, { status: 422 });
    }
    if (pathname === "/html") return new Response("<html>bad gateway</html>", { status: 502 });
    if (pathname === "/slow") return new Response(new ReadableStream({ start() {} }));
    // Lines cut at the worst places, one of them inside a letter of two bytes.
    const bytes = new TextEncoder().encode('{"a":1}\n{"b":"é"}\n{"c":3}');
    return new Response(
      new ReadableStream({
        async start(controller) {
          for (let i = 0; i < bytes.length; i += 3) {
            controller.enqueue(bytes.slice(i, i + 3));
            await Bun.sleep(0);
          }
          controller.close();
        },
      }),
    );
  },
});
afterAll(() => server.stop(true));

const access = (change: Partial<Access> = {}): Access => ({
  server: `http://127.0.0.1:${server.port}`,
  ca: undefined,
  token: "secret",
  namespace: "default",
  serverName: undefined,
  skipVerify: false,
  file: "k",
  ...change,
});

test("the token goes along, and proxies in the environment are not used for loopback", async () => {
  process.env.HTTP_PROXY = "http://127.0.0.1:1";
  try {
    expect(await new Client(access()).json<{ auth: string }>("/echo")).toEqual({
      auth: "Bearer secret",
      accept: "application/json",
    } as never);
  } finally {
    delete process.env.HTTP_PROXY;
  }
});

test("a Status becomes a failure with its causes", async () => {
  const error = await new Client(access()).json("/refused").catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ApiFailure);
  expect(error).toMatchObject({
    code: 422,
    reason: "Invalid",
    message: "Service is invalid",
    causes: [{ field: "spec.port", message: "must be at least 1" }],
  });
});

test("an answer that is no Status is quoted", async () => {
  await expect(new Client(access()).json("/html")).rejects.toThrow("answered 502: <html>bad gateway</html>");
});

test("lines come whole, however they were cut", async () => {
  const lines: string[] = [];
  for await (const line of new Client(access()).lines("/lines")) lines.push(line);
  expect(lines).toEqual(['{"a":1}', '{"b":"é"}', '{"c":3}']);
});

test("a stream ends quietly when it is stopped", async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 30);
  const lines: string[] = [];
  for await (const line of new Client(access()).lines("/slow", { signal: stop.signal })) lines.push(line);
  expect(lines).toEqual([]);
});

test("nobody there: who was asked, by which file, and what to do", async () => {
  const error = await new Client(access({ server: "http://127.0.0.1:1" })).json("/x").catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Unreachable);
  expect(error).toMatchObject({
    retryable: true,
    message: 'no control plane answers at http://127.0.0.1:1 (from k). Is "weft up" running?',
  });
});

test("no answer in time", async () => {
  await expect(new Client(access()).json("/slow", { timeoutMs: 50 })).rejects.toThrow("did not answer in time");
});

test("warnings are read out of a joined header", () => {
  expect(warningsOf('299 - "a, \\"b\\"", 299 - "c"')).toEqual(['a, "b"', "c"]);
  expect(warningsOf(null)).toEqual([]);
});
