import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { compressionError, enhanceYourCalm, refuse } from "./errors.ts";
import { HpackDecoder, hpackEncode, maxHeaderListBytes } from "./hpack.ts";

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));

function decode(decoder: HpackDecoder, block: Uint8Array): { used: number; fields: string[] } {
  const fields: string[] = [];
  const used = decoder.decode(block, 0, block.length, (name, value) => fields.push(`${name}: ${value}`));
  return { used, fields };
}

describe("RFC 7541 appendix C", () => {
  const first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
  const second = [...first, "cache-control: no-cache"];
  const third = [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"];
  const requests = [first, second, third];
  const sequences: Record<string, { blocks: string[]; wanted: string[][]; sizes: number[] }> = {
    "C.3 requests without Huffman": {
      blocks: [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ],
      wanted: requests,
      sizes: [57, 110, 164],
    },
    "C.4 requests with Huffman": {
      blocks: [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ],
      wanted: requests,
      sizes: [57, 110, 164],
    },
  };
  for (const [name, one] of Object.entries(sequences)) {
    test(name, () => {
      const decoder = new HpackDecoder();
      one.blocks.forEach((block, n) => {
        const found = decode(decoder, bytes(block));
        expect(found.used).toBe(bytes(block).length);
        expect(found.fields).toEqual(one.wanted[n] as string[]);
        expect(decoder.tableSize).toBe(one.sizes[n] as number);
      });
    });
  }

  test("C.2 single fields", () => {
    expect(decode(new HpackDecoder(), bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")).fields).toEqual([
      "custom-key: custom-header",
    ]);
    expect(decode(new HpackDecoder(), bytes("040c 2f73 616d 706c 652f 7061 7468")).fields).toEqual([":path: /sample/path"]);
    expect(decode(new HpackDecoder(), bytes("1008 7061 7373 776f 7264 0673 6563 7265 74")).fields).toEqual(["password: secret"]);
    expect(decode(new HpackDecoder(), bytes("82")).fields).toEqual([":method: GET"]);
  });

  test("C.5 and C.6 responses evict from a table of 256 bytes", () => {
    const sized = bytes("3f e1 01"); // table size update to 256 (5.1: 31 + 225)
    const date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
    const location = "location: https://www.example.com";
    const wanted = [
      [":status: 302", "cache-control: private", date, location],
      [":status: 307", "cache-control: private", date, location],
      [
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        location,
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
      ],
    ];
    const plain = [
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "4803 3330 37c1 c0bf",
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    const coded = [
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      "4883 640e ffc1 c0bf",
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for (const blocks of [plain, coded]) {
      const decoder = new HpackDecoder();
      expect(decode(decoder, sized).fields).toEqual([]);
      for (const [n, block] of blocks.entries()) expect(decode(decoder, bytes(block)).fields).toEqual(wanted[n] as string[]);
      expect(decoder.tableSize).toBe(215);
    }
  });
});

describe("what must be refused", () => {
  const cases: readonly (readonly [string, string, number])[] = [
    ["index 0", "80", compressionError],
    ["an index beyond both tables", "be", compressionError],
    ["a name index beyond both tables", "7f 00 01 61", compressionError],
    ["a table size update after a field", "82 20", compressionError],
    ["a table size above what was offered", "3f e2 1f", compressionError],
    ["an integer without end", "ff ff ff ff ff ff ff ff ff 01", compressionError],
    ["a string beyond the block", "00 05 61", compressionError],
    ["no value", "00 01 61", compressionError],
    ["Huffman padding of zeros", "00 01 61 81 18", compressionError],
    ["Huffman padding above seven bits", "00 01 61 82 1f ff", compressionError],
    ["the end-of-string symbol", "00 01 61 84 ff ff ff ff", compressionError],
  ];
  for (const [name, block, code] of cases) test(name, () => expect(decode(new HpackDecoder(), bytes(block)).used).toBe(refuse(code)));

  test("a list above its limit, even if the block is small", () => {
    // One large entry, indexed again and again (a header bomb).
    const decoder = new HpackDecoder();
    const bomb = Buffer.concat([hpackEncodeIndexed("x", "y".repeat(3900)), Buffer.alloc(40, 0xbe)]);
    expect(bomb.length).toBeLessThan(4100);
    expect(decode(decoder, bomb).used).toBe(refuse(enhanceYourCalm));
    expect(maxHeaderListBytes).toBe(65_536);
  });
});

function hpackEncodeIndexed(name: string, value: string): Buffer {
  const length = value.length - 127;
  return Buffer.concat([
    Buffer.from([0x40, name.length]),
    Buffer.from(name),
    Buffer.from([0x7f, (length & 0x7f) | 0x80, length >> 7]),
    Buffer.from(value),
  ]);
}

test("every prefix of a block is refused or complete, never read beyond", () => {
  const block = hpackEncode([
    { name: ":method", value: "POST" },
    { name: ":path", value: "/a/b" },
    { name: "x-long", value: "v".repeat(300) },
  ]);
  for (let n = 0; n < block.length; n++) {
    const found = decode(new HpackDecoder(), block.slice(0, n));
    expect(found.used < 0 || found.used === n).toBe(true);
    expect(found.fields.length).toBeLessThan(3);
  }
});

test("what the encoder writes, the decoder reads; secrets are never indexed", () => {
  const text = fc.string({ unit: fc.integer({ min: 33, max: 126 }).map((c) => String.fromCharCode(c)), maxLength: 200 });
  const name = fc.stringMatching(/^[a-z0-9-]{1,40}$/);
  fc.assert(
    fc.property(fc.array(fc.record({ name, value: text, sensitive: fc.boolean() }), { maxLength: 20 }), (fields) => {
      const decoder = new HpackDecoder();
      const found = decode(decoder, hpackEncode(fields));
      expect(found.fields).toEqual(fields.map((f) => `${f.name}: ${f.value}`));
      expect(decoder.tableSize).toBe(0);
    }),
    { numRuns: 200 },
  );
  expect((hpackEncode([{ name: "authorization", value: "Bearer x", sensitive: true }])[0] as number) & 0xf0).toBe(0x10);
});

test("random bytes never throw and never read beyond the block", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (block) => {
      const found = decode(new HpackDecoder(), block);
      expect(found.used < 0 || found.used === block.length).toBe(true);
    }),
    { numRuns: 1000 },
  );
});
