// What the proxy knows of gRPC and gRPC-Web, as pure functions; whole calls are judged by foreign clients in test/peers.
import { describe, expect, test } from "bun:test";
import { Head, parseAnswer, parseRequest } from "../http1/head.ts";
import { scratch } from "../net/outbox.ts";
import { grpcStatusIn, grpcStatusOf, grpcTimeoutMs, isGrpc, MessageCounter, methodOf, writeGrpcReply } from "./grpc.ts";
import { grpcHead, WebCall, webCallOf } from "./grpc-web.ts";

function request(...fields: string[]): { bytes: Uint8Array; head: Head } {
  const bytes = Buffer.from(`POST /shop.Cart/Add HTTP/1.1\r\nHost: cart\r\n${fields.map((f) => `${f}\r\n`).join("")}\r\n`, "latin1");
  const head = new Head();
  expect(parseRequest(bytes, 0, bytes.length, head)).toBe(bytes.length);
  return { bytes, head };
}

test.each([
  ["application/grpc", true],
  ["application/grpc+proto", true],
  ["Application/gRPC;charset=utf-8", true],
  ["application/grpc-web", false],
  ["application/grpcish", false],
  ["application/json", false],
])("content type %s: %p", (type, wanted) => {
  const { bytes, head } = request(`content-type: ${type}`);
  expect(isGrpc(bytes, head)).toBe(wanted);
});

test.each([
  ["1S", 1_000],
  ["250m", 250],
  ["2M", 120_000],
  ["1H", 3_600_000],
  ["500u", 0.5],
  ["1000n", 0.001],
  ["99999999m", 99_999_999],
  ["123456789m", -1],
  ["S", -1],
  ["1", -1],
  ["-1S", -1],
  ["1x", -1],
])("grpc-timeout %s is %p ms", (value, wanted) => {
  const { bytes, head } = request(`grpc-timeout: ${value}`);
  expect(grpcTimeoutMs(bytes, head)).toBeCloseTo(wanted, 6);
});

test("the method of a path", () => {
  const path = (text: string) => methodOf(Buffer.from(text), 0, text.length);
  expect(path("/shop.Cart/Add")).toEqual({ service: "shop.Cart", method: "Add" });
  for (const other of ["/Add", "shop/Add", "/a/b/c", "//b", "/a/", ""]) expect(path(other)).toBeNull();
});

test("messages are counted however their bytes are split", () => {
  const message = (size: number) => Buffer.concat([Uint8Array.of(0, 0, 0, size >> 8, size & 255), Buffer.alloc(size, 7)]);
  const all = Buffer.concat([message(0), message(3), message(300), message(1)]);
  for (let step = 1; step <= all.length; step += step < 12 ? 1 : 37) {
    const counter = new MessageCounter();
    for (let at = 0; at < all.length; at += step) counter.scan(all, at, Math.min(all.length, at + step));
    expect(counter.messages).toBe(4);
  }
  const half = new MessageCounter();
  half.scan(all, 0, all.length - 1);
  expect(half.messages).toBe(3);
});

test("a status is found in trailers and in the head of a trailers-only answer", () => {
  const lines = Buffer.from("x-grpc-status: 9\r\nGrpc-Status: 14\r\ngrpc-message: no\r\n");
  expect(grpcStatusIn(lines, 0, lines.length)).toBe(14);
  expect(grpcStatusIn(Buffer.from("grpc-status: x\r\n"), 0, 16)).toBe(-1);
  expect(grpcStatusIn(Buffer.from("a: b\r\n"), 0, 6)).toBe(-1);
});

test("a reply of ours is a trailers-only answer that survives any sentence", () => {
  const size = writeGrpcReply(14, "UF", 'nobody at "kärt"\r\nset-cookie: 100%', true);
  const bytes = Buffer.from(scratch.subarray(0, size));
  const head = new Head();
  expect(parseAnswer(bytes, 0, size, head)).toBe(size);
  expect(head.status).toBe(200);
  expect(grpcStatusOf(bytes, head)).toBe(14);
  expect(bytes.toString()).toContain('grpc-message: nobody at "k%C3%A4rt"%0D%0Aset-cookie: 100%25\r\n');
});

describe("gRPC-Web", () => {
  test("is told by its content type", () => {
    const of = (type: string) => {
      const { bytes, head } = request(`content-type: ${type}`);
      return webCallOf(bytes, head);
    };
    expect(of("application/grpc-web")).toMatchObject({ isText: false, suffix: "" });
    expect(of("application/grpc-web+proto")).toMatchObject({ isText: false, suffix: "+proto" });
    expect(of("application/grpc-web-text+proto; x=y")).toMatchObject({ isText: true, suffix: "+proto" });
    expect(of("application/grpc")).toBeNull();
    expect(of("application/grpc-website")).toBeNull();
  });

  test("its head becomes gRPC's; framing and type go, the rest stays in order", () => {
    const { bytes, head } = request("content-type: application/grpc-web-text", "Content-Length: 8", "X-User: a", "x-grpc-web: 1");
    const made = grpcHead(new WebCall(true, ""), bytes, head, new Head());
    expect(Buffer.from(made).toString()).toBe(
      "POST /shop.Cart/Add HTTP/1.1\r\nHost: cart\r\nX-User: a\r\nx-grpc-web: 1\r\ncontent-type: application/grpc\r\nte: trailers\r\n\r\n",
    );
  });

  test("base64 is undone at every split, with padding within the stream", () => {
    const parts = [Buffer.from([0, 0, 0, 0, 2, 8, 1]), Buffer.from([0, 0, 0, 0, 0]), Buffer.from([1, 2])];
    const wire = Buffer.from(parts.map((part) => part.toString("base64")).join(""));
    for (let step = 1; step <= wire.length; step++) {
      const call = new WebCall(true, "");
      const out: Uint8Array[] = [];
      for (let at = 0; at < wire.length; at += step)
        out.push(call.decode(wire, at, Math.min(wire.length, at + step)) ?? Buffer.from("bad"));
      expect(Buffer.concat(out)).toEqual(Buffer.concat(parts));
      expect(call.torn).toBe(false);
    }
    expect(new WebCall(true, "").decode(Buffer.from("ab!="), 0, 4)).toBeNull();
    const torn = new WebCall(true, "");
    torn.decode(Buffer.from("AAA"), 0, 3);
    expect(torn.torn).toBe(true);
  });
});
