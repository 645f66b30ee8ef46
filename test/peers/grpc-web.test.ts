// Judge: gRPC-Web as browsers speak it, translated for a gRPC server (grpc-js on Node): by hand over fetch in Chromium (HTTP/1.1 and, over TLS, HTTP/2),
// binary and text, across origins; and the same frames by curl.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { denyFilter, type JsonObject } from "../support/bootstrap.ts";
import { frontCertificate } from "../support/certificate.ts";
import { execute } from "../support/execute.ts";
import { findPeer, needsPeers } from "../support/peers.ts";
import { type Program, startProgram } from "../support/program.ts";
import { judged } from "../support/proxy.ts";
import { openWay, shapes, type Way } from "../support/way.ts";

const run = needsPeers("test/peers/grpc-web.test.ts", "node", "chromium", "curl", "openssl");

const grpcWeb: JsonObject = {
  name: "envoy.filters.http.grpc_web",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb" },
};

/** Runs in the page: one call, told as the page saw it. `text` is the base64 form. */
const callInPage = `async ({ path, text, message, accept }) => {
  const bytes = new TextEncoder().encode(message);
  const frame = new Uint8Array(5 + bytes.length);
  new DataView(frame.buffer).setUint32(1, bytes.length);
  frame.set(bytes, 5);
  const type = text ? "application/grpc-web-text" : "application/grpc-web+proto";
  const body = text ? btoa(String.fromCharCode(...frame)) : frame;
  const answer = await fetch(path, { method: "POST", headers: { "content-type": type, "x-grpc-web": "1", accept: accept ?? type }, body });
  let raw = new Uint8Array(await answer.arrayBuffer());
  if (text) {
    // Each flush may end in padding of its own.
    const parts = new TextDecoder().decode(raw).match(/[^=]+=*/g) ?? [];
    raw = Uint8Array.from(parts.flatMap((part) => [...atob(part)].map((char) => char.charCodeAt(0))));
  }
  const messages = [];
  let trailers = null;
  for (let at = 0; at < raw.length; ) {
    const size = new DataView(raw.buffer).getUint32(at + 1);
    const words = new TextDecoder().decode(raw.subarray(at + 5, at + 5 + size));
    if (raw[at] & 0x80) trailers = words;
    else messages.push(words.length > 40 ? words.length : words);
    at += 5 + size;
  }
  return { status: answer.status, type: answer.headers.get("content-type"), messages, trailers, grpcStatus: answer.headers.get("grpc-status"), grpcMessage: answer.headers.get("grpc-message") };
}`;

interface Seen {
  readonly status: number;
  readonly type: string;
  readonly messages: readonly (string | number)[];
  readonly trailers: string | null;
  readonly grpcStatus: string | null;
  readonly grpcMessage: string | null;
}

describe.skipIf(!run)("gRPC-Web", () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-grpc-web-"));
  let server: Program<{ port: number }>;
  let browser: Browser;
  beforeAll(async () => {
    server = await startProgram<{ port: number }>([findPeer("node") as string, `${import.meta.dir}/grpc-js-program.mjs`, "server"]);
    browser = await chromium.launch({
      executablePath: findPeer("chromium") as string,
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic"],
    });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    rmSync(dir, { recursive: true, force: true });
  });

  for (const shape of shapes) {
    for (const tls of [false, true]) {
      describe(`${shape}, ${tls ? "HTTP/2 over TLS" : "HTTP/1.1"}`, () => {
        let way: Way;
        let page: Page;
        const origin = (): string => `${tls ? "https" : "http"}://127.0.0.1:${way.port}`;
        beforeAll(async () => {
          const front = await frontCertificate(dir);
          way = await openWay({
            shape,
            origin: server.ready.port,
            originHttp2: true,
            filters: [grpcWeb, denyFilter("/denied.Service")],
            ...(tls ? { entryTls: { kind: "server" as const, own: front, alpn: ["h2", "http/1.1"] } } : {}),
          });
          const context = await browser.newContext({ ignoreHTTPSErrors: true });
          page = await context.newPage();
          // A page of the gateway's own origin, which needs no answer from it.
          await page.route("**/page", (route) => route.fulfill({ contentType: "text/html", body: "<title>judge</title>" }));
          await page.goto(`${origin()}/page`);
        });
        afterAll(async () => {
          await page?.context().close();
          await way?.stop();
        });
        const call = (path: string, message: string, text: boolean): Promise<Seen> =>
          page.evaluate(`(${callInPage})(${JSON.stringify({ path, message, text })})`);

        for (const text of [false, true]) {
          const type = text ? "application/grpc-web-text" : "application/grpc-web";
          describe(text ? "text" : "binary", () => {
            test("a unary call", async () => {
              const seen = await call("/judge.Judge/Unary", "hello", text);
              expect(seen).toMatchObject({ status: 200, messages: ["hello"], type: expect.stringContaining(type) });
              expect(seen.trailers).toMatch(/^grpc-status: ?0\r\n/m);
            });
            test("a stream of messages", async () => {
              const seen = await call("/judge.Judge/Pour", "30 5000", text);
              expect(seen.messages).toEqual(Array.from({ length: 30 }, () => 5_000));
              expect(seen.trailers).toMatch(/^grpc-status: ?0\r\n/m);
            });
            test("a failure without a message", async () => {
              const seen = await call("/judge.Judge/Fail", "x", text);
              const words = `${seen.trailers ?? ""}grpc-status: ${seen.grpcStatus}\r\ngrpc-message: ${seen.grpcMessage}`;
              expect({ status: seen.status, messages: seen.messages }).toEqual({ status: 200, messages: [] });
              expect(words).toMatch(/grpc-status: ?9\r\n/);
              expect(decodeURIComponent(words)).toContain("not ready: 50 % ünder way\n");
            });
            test("a failure after messages", async () => {
              const seen = await call("/judge.Judge/FailLate", "x", text);
              expect(seen.messages).toEqual(["first", "second"]);
              expect(seen.trailers).toMatch(/^grpc-status: ?15\r\n/m);
            });
            test("a call that is denied", async () => {
              const seen = await call("/denied.Service/Call", "x", text);
              const words = `${seen.trailers ?? ""}grpc-status: ${seen.grpcStatus}\r\n`;
              expect(words).toMatch(/grpc-status: ?7\r\n/);
              expect(seen.status).toBe(judged === "weft" ? 200 : 403);
            });
          });
        }
      });
    }
  }

  test("raw frames by curl, binary and text", async () => {
    const way = await openWay({ shape: "one", origin: server.ready.port, originHttp2: true, filters: [grpcWeb] });
    const curl = (type: string, body: Uint8Array | string, ...more: string[]): ReturnType<typeof execute> => {
      const argv = ["-sS", "-H", `content-type: ${type}`, "--data-binary", "@-", ...more, `http://127.0.0.1:${way.port}/judge.Judge/Unary`];
      return execute([findPeer("curl") as string, ...argv], { stdin: body });
    };
    const frame = Buffer.from("\0\0\0\0\x05hello");
    for (const version of ["--http1.1", "--http2-prior-knowledge"]) {
      const binary = await curl("application/grpc-web", frame, version);
      expect(Buffer.from(binary.bytes).subarray(0, 10)).toEqual(frame);
      expect(binary.bytes[10]).toBe(0x80);
      // Chunks of base64 with padding in the middle: clients may flush whenever they like.
      const text = await curl(
        "application/grpc-web-text",
        `${frame.subarray(0, 4).toString("base64")}${frame.subarray(4).toString("base64")}`,
        version,
      );
      const back = Buffer.concat((text.out.match(/[^=]+=*/g) ?? []).map((part) => Buffer.from(part, "base64")));
      expect(back.subarray(0, 10)).toEqual(frame);
      expect(back.subarray(15).toString()).toMatch(/^grpc-status: ?0\r\n/);
    }
    await way.stop();
  });
});
