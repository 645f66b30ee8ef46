// A snapshot is believed whole or not at all, whatever has happened to its bytes.

import { describe, expect, test } from "bun:test";
import { KeyPair } from "../identity/key-pair.ts";
import { contentOf, decodeSnapshot, encodeSnapshot, formatVersion, type Kept } from "./format.ts";

const owner = { node: "sidecar~shop~cart", trustDomain: "cluster.local" };
const bytes = (...of: number[]): Uint8Array => new Uint8Array(of);
const kept: Kept = {
  resources: {
    cluster: [
      { name: "a", version: "1", bytes: bytes(1, 2, 3) },
      { name: "b", version: "2", bytes: bytes() },
    ],
    endpoint: [{ name: "é\u0000\n", version: "", bytes: bytes(255) }],
    listener: [{ name: "l", version: "3", bytes: new Uint8Array(700).fill(7) }],
    route: [],
  },
  identity: { certificate: new KeyPair("the chain", "the key"), rootsPem: "the roots" },
};
const file = encodeSnapshot(contentOf(kept, owner, "0.1.0"), 1_700_000_000_123);

/** The label of the refusal, or "taken". */
const fate = (of: Uint8Array, as = owner): string => {
  const read = decodeSnapshot(of, as);
  return "message" in read ? read.reason : "taken";
};

test("what goes in comes out", () => {
  const read = decodeSnapshot(file, owner);
  if ("message" in read) throw new Error(read.message);
  expect(read.resources).toEqual(kept.resources);
  expect([read.identity?.certificate.certificatePem, read.identity?.certificate.privateKeyPem, read.identity?.rootsPem]).toEqual([
    "the chain",
    "the key",
    "the roots",
  ]);
  expect([read.writtenAtMs, read.program]).toEqual([1_700_000_000_123, "0.1.0"]);
  expect(JSON.stringify(read)).not.toContain("the key");
});

test("without an identity, and with nothing at all", () => {
  const empty: Kept = { resources: { cluster: [], endpoint: [], listener: [], route: [] }, identity: null };
  expect(decodeSnapshot(encodeSnapshot(contentOf(empty, owner, "x"), 0), owner)).toMatchObject(empty);
});

test("with virtual hosts that were asked for one by one it is of the next format, so that no older program takes it for half a one", () => {
  const more: Kept = { ...kept, resources: { ...kept.resources, host: [{ name: "out/cart", version: "9", bytes: bytes(4, 5) }] } };
  const made = encodeSnapshot(contentOf(more, owner, "0.1.0"), 0);
  const read = decodeSnapshot(made, owner);
  if ("message" in read) throw new Error(read.message);
  expect(read.resources).toEqual(more.resources);
  expect([new DataView(file.buffer).getUint32(8), new DataView(made.buffer).getUint32(8)]).toEqual([formatVersion, formatVersion + 1]);
});

describe("nothing of it is taken", () => {
  test("cut anywhere", () => {
    for (let length = 0; length < file.length; length++) expect(fate(file.subarray(0, length))).toBe("corrupt");
  });

  test("with any bit turned", () => {
    for (let at = 0; at < file.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const turned = file.slice();
        turned[at]! ^= 1 << bit;
        expect([at, fate(turned)]).toEqual([at, at >= 8 && at < 12 ? "format" : "corrupt"]);
      }
    }
  });

  test("with more behind it, with a part of it zeroed as after a power cut, or something else altogether", () => {
    expect(fate(new Uint8Array([...file, 0]))).toBe("corrupt");
    for (let from = 0; from < file.length; from += 64) expect(fate(file.slice().fill(0, from, from + 64))).not.toBe("taken");
    for (const text of ["", "{}", "WEFTSNAP", "x".repeat(4096)]) expect(fate(new TextEncoder().encode(text))).toBe("corrupt");
  });

  test("of another format, node or trust domain", () => {
    const other = file.slice();
    new DataView(other.buffer).setUint32(8, formatVersion + 2);
    expect(decodeSnapshot(other, owner)).toEqual({
      reason: "format",
      message: `it is of format ${formatVersion + 2}, and this program reads formats ${formatVersion} and ${formatVersion + 1}`,
    });
    expect(decodeSnapshot(file, { ...owner, node: "sidecar~shop~stock" })).toEqual({
      reason: "foreign",
      message: 'it is of node "sidecar~shop~cart", and this proxy is "sidecar~shop~stock"',
    });
    expect(fate(file, { ...owner, trustDomain: "elsewhere" })).toBe("foreign");
  });

  test("whose header is not this program's, although its hash holds", () => {
    const strange = { ...contentOf(kept, owner, "x"), body: [] };
    for (const header of ["[]", "{}", '{"node":1}', "no JSON", JSON.stringify({ ...owner, program: "x", identity: null, resources: {} })]) {
      const made = new TextEncoder().encode(header);
      expect(fate(encodeSnapshot({ ...strange, header: made, size: 60 + made.length }, 0))).toBe("corrupt");
    }
    const short = contentOf(kept, owner, "x");
    expect(fate(encodeSnapshot({ ...short, body: [], size: 60 + short.header.length }, 0))).toBe("corrupt");
  });
});

test("equal content has an equal fingerprint, whatever the time; any other has not", () => {
  const print = (of: Kept): string => contentOf(of, owner, "0.1.0").fingerprint;
  expect(print(kept)).toBe(print({ ...kept }));
  const [first, ...rest] = kept.resources.cluster;
  const changed = { ...kept.resources, cluster: [{ ...first!, bytes: bytes(1, 2, 4) }, ...rest] };
  expect(print({ ...kept, resources: changed })).not.toBe(print(kept));
  expect(print({ ...kept, identity: null })).not.toBe(print(kept));
});
