import { describe, expect, test } from "bun:test";
import { ProxyHeader, parseProxyHeader } from "../net/proxy-protocol.ts";
import { proxyHeaderBytes, putProxyHeader } from "./proxy-header.ts";

type Ends = readonly [string, number, string, number];

function put(version: 1 | 2, ends: Ends): Buffer {
  const out = Buffer.alloc(proxyHeaderBytes);
  return out.subarray(0, putProxyHeader(version, ...ends, out));
}

const signature = "0d0a0d0a000d0a515549540a";

// The specification's own examples and layouts (HAProxy, "The PROXY protocol", sections 2.1 and 2.2), and the longest line it allows for.
describe("version 1", () => {
  const vectors: readonly (readonly [Ends, string])[] = [
    [["192.168.0.1", 56_324, "192.168.0.11", 443], "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"],
    [["255.255.255.255", 65_535, "255.255.255.255", 65_535], "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"],
    [["2001:db8::1", 1, "fe80::2%eth0", 2], "PROXY TCP6 2001:db8:0:0:0:0:0:1 fe80:0:0:0:0:0:0:2 1 2\r\n"],
    [["::ffff:10.0.0.1", 7, "10.0.0.2", 8], "PROXY TCP4 10.0.0.1 10.0.0.2 7 8\r\n"],
    [["10.0.0.1", 7, "::1", 8], "PROXY TCP6 0:0:0:0:0:ffff:a00:1 0:0:0:0:0:0:0:1 7 8\r\n"],
    [["", 0, "127.0.0.1", 8], "PROXY UNKNOWN\r\n"],
  ];
  for (const [ends, line] of vectors) test(JSON.stringify(line), () => expect(put(1, ends).toString("latin1")).toBe(line));

  test("the longest fits", () => {
    const longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    expect(put(1, [longest, 65_535, longest, 65_535]).length).toBe("PROXY TCP6 ".length + 2 * 39 + " 65535 65535\r\n".length + 1);
    expect(put(1, [longest, 65_535, longest, 65_535]).length).toBeLessThanOrEqual(proxyHeaderBytes);
  });
});

describe("version 2", () => {
  const vectors: readonly (readonly [string, Ends, string])[] = [
    ["IPv4", ["192.168.0.1", 56_324, "192.168.0.11", 443], "2111000c c0a80001 c0a8000b dc04 01bb"],
    ["IPv6", ["2001:db8::1", 1, "::1", 65_535], "21210024 20010db8000000000000000000000001 00000000000000000000000000000001 0001 ffff"],
    ["both families", ["10.0.0.1", 1, "::1", 2], "21210024 00000000000000000000ffff0a000001 00000000000000000000000000000001 0001 0002"],
    ["LOCAL", ["", 0, "", 0], "20000000"],
  ];
  for (const [name, ends, hex] of vectors) test(name, () => expect(put(2, ends).toString("hex")).toBe(signature + hex.replaceAll(" ", "")));
});

test("what is written is what is read, in both versions", () => {
  const header = new ProxyHeader();
  for (const version of [1, 2] as const)
    for (const ends of [
      ["192.0.2.7", 1234, "198.51.100.9", 80],
      ["2001:db8::7", 1234, "2001:db8::9", 80],
    ] as const) {
      const bytes = put(version, ends);
      expect(parseProxyHeader(bytes, 0, bytes.length, header)).toBe(bytes.length);
      expect(header).toMatchObject({ version, local: false, sourcePort: 1234, destinationPort: 80 });
    }
});
