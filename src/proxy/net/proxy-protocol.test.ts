import { describe, expect, test } from "bun:test";
import { formatIp } from "./address.ts";
import { firstBytes, inspectHttp, matchPreface } from "./http-preface.ts";
import { netLimits } from "./limits.ts";
import { ProxyHeader, parseProxyHeader, proxyFault } from "./proxy-protocol.ts";

const header = new ProxyHeader();
const parse = (bytes: Uint8Array, to = bytes.length): number => parseProxyHeader(bytes, 0, to, header);
const ends = () =>
  header.local ? "local" : `${header.sourceHost}:${header.sourcePort} ${header.destinationHost}:${header.destinationPort}`;

const signature = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
/** Version 2: command, family and transport, what follows. */
const two = (command: number, family: number, rest: readonly number[], length = rest.length): Buffer =>
  Buffer.from([...signature, command, family, length >> 8, length & 255, ...rest]);
const v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];
const v6 = [
  ...Buffer.from("20010db8000000000000000000000001", "hex"),
  ...Buffer.from("fe800000000000000000000000000abc", "hex"),
  0,
  80,
  0,
  22,
];

const good: Record<string, readonly [Buffer, string]> = {
  // The examples of section 2.1.
  "TCP/IPv4": [Buffer.from("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255:65535 255.255.255.255:65535"],
  "TCP/IPv6, the longest": [
    Buffer.from("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:65535 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:65535",
  ],
  "unknown, short": [Buffer.from("PROXY UNKNOWN\r\n"), "local"],
  "unknown, the worst case": [
    Buffer.from("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
    "local",
  ],
  "what HAProxy sends": [Buffer.from("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"), "192.168.0.1:56324 192.168.0.11:443"],
  "version 2, IPv4": [two(0x21, 0x11, v4), "192.0.2.1:56324 198.51.100.7:443"],
  "version 2, IPv6": [two(0x21, 0x21, v6), "2001:db8::1:80 fe80::abc:22"],
  "version 2, IPv4 with a TLV": [two(0x21, 0x11, [...v4, 0x04, 0, 2, 0, 0]), "192.0.2.1:56324 198.51.100.7:443"],
  "version 2, LOCAL": [two(0x20, 0, []), "local"],
  "version 2, LOCAL with addresses": [two(0x20, 0x11, v4), "local"],
  "version 2, UNSPEC": [two(0x21, 0, [1, 2, 3]), "local"],
};

describe("headers that are read, at every split", () => {
  for (const [what, [bytes, expected]] of Object.entries(good)) {
    test(what, () => {
      const followed = Buffer.concat([bytes, Buffer.from("GET /")]);
      expect(parse(followed)).toBe(bytes.length);
      expect(ends()).toBe(expected);
      for (let to = 0; to < bytes.length; to++) expect(parse(bytes, to)).toBe(0);
    });
  }
});

describe("headers that are refused", () => {
  const bad: Record<string, readonly [Buffer, number]> = {
    "no header": [Buffer.from("GET / HTTP/1.1\r\n"), proxyFault.absent],
    "another protocol that begins alike": [Buffer.from("PROXX"), proxyFault.absent],
    "a signature that breaks off": [Buffer.from("\r\n\r\n\u0000\r\nQUIX"), proxyFault.absent],
    "a line feed alone": [Buffer.from("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"), proxyFault.malformed],
    "a line that does not end": [Buffer.from(`PROXY UNKNOWN ${"x".repeat(100)}\r\n`), proxyFault.tooLarge],
    "another family": [Buffer.from("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n"), proxyFault.malformed],
    "two blanks": [Buffer.from("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n"), proxyFault.malformed],
    "an address of the other family": [Buffer.from("PROXY TCP4 ::1 2.2.2.2 1 2\r\n"), proxyFault.malformed],
    "an octal address": [Buffer.from("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n"), proxyFault.malformed],
    "a port with a leading zero": [Buffer.from("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n"), proxyFault.malformed],
    "a port too large": [Buffer.from("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n"), proxyFault.malformed],
    "a field too many": [Buffer.from("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n"), proxyFault.malformed],
    "version 3": [two(0x31, 0x11, v4), proxyFault.malformed],
    "a command that is not defined": [two(0x22, 0x11, v4), proxyFault.malformed],
    "addresses cut short": [two(0x21, 0x11, v4.slice(0, 11)), proxyFault.malformed],
    datagrams: [two(0x21, 0x12, v4), proxyFault.unsupported],
    "a socket of the file system": [two(0x21, 0x31, new Array<number>(216).fill(47)), proxyFault.unsupported],
    "more than we keep": [two(0x21, 0x11, v4, netLimits.proxyBlockBytes + 1), proxyFault.tooLarge],
  };
  for (const [what, [bytes, fault]] of Object.entries(bad)) test(what, () => expect(parse(bytes)).toBe(fault));
});

test("addresses are written as the kernel writes them", () => {
  const text = (hex: string): string => {
    const bytes = Buffer.from(hex, "hex");
    return formatIp(bytes, 0, bytes.length);
  };
  expect(text("7f000001")).toBe("127.0.0.1");
  expect(text("00000000000000000000000000000000")).toBe("::");
  expect(text("00000000000000000000000000000001")).toBe("::1");
  expect(text("20010db8000000010001000100010001")).toBe("2001:db8:0:1:1:1:1:1");
  expect(text("20010000000000010000000000000001")).toBe("2001:0:0:1::1");
  expect(text("20010db8000100000000000000000000")).toBe("2001:db8:1::");
  expect(text("00000000000000000000ffffc0000201")).toBe("192.0.2.1");
});

describe("plain HTTP by its first bytes", () => {
  const cases: Record<string, readonly [string, number]> = {
    "GET / HTTP/1.1\r\n": ["HTTP/1.1", firstBytes.http11],
    "OPTIONS * HTTP/1.0\n": ["HTTP/1.0", firstBytes.http10],
    "PROPFIND /a?b=%20 HTTP/1.1\r\n": ["a WebDAV method", firstBytes.http11],
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": ["the preface", firstBytes.http2],
    "PRI * HTTP/2.0\r\n\r\nXX": ["almost the preface", firstBytes.other],
    "EHLO mail.example\r\n": ["SMTP", firstBytes.other],
    "PING\r\n": ["Redis inline", firstBytes.other],
    "*1\r\n$4\r\nPING\r\n": ["Redis", firstBytes.other],
    "SSH-2.0-OpenSSH_9\r\n": ["SSH", firstBytes.other],
    "\u0000\u0000\u0000\u0008": ["PostgreSQL", firstBytes.other],
    "GET / HTTP/2.0\r\n": ["a version that HTTP/1 has not", firstBytes.other],
    "GET /\r\n": ["HTTP/0.9", firstBytes.other],
  };
  for (const [text, [what, expected]] of Object.entries(cases)) {
    test(what, () => {
      const bytes = Buffer.from(text, "latin1");
      let decided = 0;
      // Bytes come one by one: undecided until it is certain, then the same for ever.
      for (let to = 1; to <= bytes.length; to++) {
        const found = inspectHttp(bytes, 0, to);
        if (decided !== 0) expect(found).toBe(decided);
        decided = found;
      }
      expect(decided).toBe(expected);
    });
  }
  test("a line without end is given up on", () => {
    const bytes = Buffer.from(`GET /${"a".repeat(netLimits.requestLineBytes)}`);
    expect(inspectHttp(bytes, 0, bytes.length)).toBe(firstBytes.other);
    expect(inspectHttp(Buffer.from("A".repeat(40)), 0, 40)).toBe(firstBytes.other);
  });
  test("the preface is told from the first three bytes on", () => {
    expect(matchPreface(Buffer.from("PRI"), 0, 3)).toBe(3);
    expect(matchPreface(Buffer.from("PUT"), 0, 3)).toBe(-1);
  });
});
