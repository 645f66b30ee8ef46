import { describe, expect, test } from "bun:test";
import { ClientHello, helloFault, parseClientHello, startsTls } from "./client-hello.ts";
import { netLimits } from "./limits.ts";
import captured from "./testdata/client-hellos.json";

const hello = new ClientHello();

/** One handshake message in records of at most `size` bytes. */
function records(message: Uint8Array, size: number): Uint8Array {
  const parts: number[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    parts.push(22, 3, 1, part.length >> 8, part.length & 255, ...part);
  }
  return Uint8Array.from(parts);
}

/** A message with these extensions (type, body). */
function message(extensions: readonly (readonly [number, readonly number[]])[]): Uint8Array {
  const list = extensions.flatMap(([type, body]) => [type >> 8, type & 255, body.length >> 8, body.length & 255, ...body]);
  const body = [3, 3, ...new Array<number>(32).fill(7), 0, 0, 2, 0x13, 0x01, 1, 0, list.length >> 8, list.length & 255, ...list];
  return Uint8Array.from([1, body.length >> 16, (body.length >> 8) & 255, body.length & 255, ...body]);
}

const name = (text: string): number[] => {
  const bytes = [...Buffer.from(text, "latin1")];
  return [0, bytes.length + 3, 0, 0, bytes.length, ...bytes];
};

describe("hellos of real clients", () => {
  for (const one of captured) {
    const bytes = Buffer.from(one.hex, "hex");
    test(one.name, () => {
      expect(parseClientHello(bytes, 0, bytes.length, hello)).toBe(bytes.length);
      expect({ serverName: hello.serverName, alpn: hello.alpn, version: hello.version }).toEqual({
        serverName: one.serverName,
        alpn: one.alpn,
        version: one.version,
      });
      // Every beginning asks for more and none is taken for something else.
      for (let to = 0; to < bytes.length; to++) {
        expect(parseClientHello(bytes, 0, to, hello)).toBe(0);
        expect(startsTls(bytes, 0, to)).toBe(to < 6 ? 0 : 1);
      }
      // What follows it belongs to the connection; where it stands does not matter.
      const shifted = Buffer.concat([Buffer.from("xyz"), bytes, Buffer.from("more")]);
      expect(parseClientHello(shifted, 3, shifted.length, hello)).toBe(bytes.length);
    });
  }

  test("in records of any size, at every split", () => {
    const bytes = Buffer.from(captured[0]?.hex ?? "", "hex").subarray(5);
    for (const size of [1, 2, 3, 5, 17, 100, bytes.length - 1]) {
      const split = records(bytes, size);
      expect(parseClientHello(split, 0, split.length, hello)).toBe(size < 4 ? helloFault.notTls : split.length);
      if (size < 4) continue;
      expect(hello.serverName).toBe("shop.example");
      for (let to = 0; to < split.length; to += size < 20 ? 7 : 1) expect(parseClientHello(split, 0, to, hello)).toBe(0);
    }
  });
});

describe("what is no hello", () => {
  test("other protocols say so at once", () => {
    for (const text of [
      "GET / HTTP/1.1\r\n",
      "SSH-2.0-x\r\n",
      "\u0000\u0000\u0000\u0008\u0004\u00d2\u0016\u002f",
      "PRI * HTTP/2.0\r\n\r\n",
    ]) {
      const bytes = Buffer.from(text, "latin1");
      expect(parseClientHello(bytes, 0, 1, hello)).toBe(helloFault.notTls);
    }
    // A handshake record that is not a ClientHello, an application record, an SSLv2 hello.
    for (const bytes of [
      [22, 3, 1, 0, 80, 2],
      [22, 4, 1, 0, 80, 1],
      [22, 3, 1, 0x50, 0, 1],
      [22, 3, 9, 0, 80, 1],
      [23, 3, 3, 0, 80, 1],
      [0x80, 0x2e, 1, 3, 1, 0],
    ])
      expect(parseClientHello(Uint8Array.from(bytes), 0, 6, hello)).toBe(helloFault.notTls);
  });

  test("one that announces too much is refused by its ninth byte", () => {
    const size = netLimits.clientHelloBytes;
    const bytes = Uint8Array.from([22, 3, 1, 0x40, 0, 1, size >> 16, (size >> 8) & 255, size & 255]);
    expect(parseClientHello(bytes, 0, 8, hello)).toBe(0);
    expect(parseClientHello(bytes, 0, 9, hello)).toBe(helloFault.tooLarge);
  });

  const malformed: Record<string, readonly (readonly [number, readonly number[]])[]> = {
    "two server names": [
      [0, name("a.example")],
      [0, name("b.example")],
    ],
    "a name with a blank": [[0, name("a b.example")]],
    "a name with a zero byte": [[0, name("a.example\u0000.evil")]],
    "an empty name": [[0, name("")]],
    "a name list longer than its extension": [[0, [0, 99, 0, 0, 1, 97]]],
    "a name of another kind": [[0, [0, 4, 1, 0, 1, 97]]],
    "an empty protocol": [[16, [0, 2, 0, 0]]],
    "a protocol beyond its list": [[16, [0, 3, 9, 104, 50]]],
    "protocols twice": [
      [16, [0, 3, 2, 104, 50]],
      [16, [0, 3, 2, 104, 50]],
    ],
    "an odd list of versions": [[43, [3, 3, 4, 3]]],
  };
  for (const [what, extensions] of Object.entries(malformed)) {
    test(what, () => {
      const bytes = records(message(extensions), 16_384);
      expect(parseClientHello(bytes, 0, bytes.length, hello)).toBe(helloFault.malformed);
    });
  }

  test("well-formed ones of the same making are taken", () => {
    const bytes = records(
      message([
        [0, name("a.example")],
        [16, [0, 3, 2, 104, 50]],
        [43, [4, 0x0a, 0x0a, 3, 4]],
      ]),
      16_384,
    );
    expect(parseClientHello(bytes, 0, bytes.length, hello)).toBe(bytes.length);
    expect([hello.serverName, hello.alpn, hello.version]).toEqual(["a.example", ["h2"], 0x0304]);
  });

  test("no byte that changes makes it read past its end or throw", () => {
    const bytes = Buffer.from(captured[0]?.hex ?? "", "hex");
    for (let at = 5; at < bytes.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff]) {
        const changed = Buffer.from(bytes);
        changed[at] = value;
        expect(parseClientHello(changed, 0, changed.length, hello)).toBeLessThanOrEqual(changed.length);
      }
    }
  });
});
