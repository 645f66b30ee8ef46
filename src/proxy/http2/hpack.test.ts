import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { defaultLimits } from "../http1/limits.ts";
import { compressionError, refuse } from "./errors.ts";
import { fault, found, headFrom, headTo, readSection, section, takeRequest, takeTrailers } from "./head-reader.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { DynamicTable } from "./hpack-table.ts";
import { limits } from "./limits.ts";

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");
const out = Buffer.alloc(200_000);

/** Every field as its line; or the refusal. */
function decode(decoder: HpackDecoder, block: Uint8Array): { lines: string[]; used: number } {
  const lines: string[] = [];
  let at = 0;
  while (at < block.length) {
    at = decoder.next(block, at, block.length, out, 0, lines.length === 0);
    if (at < 0) return { lines, used: at };
    if (decoder.written > 0) lines.push(out.toString("latin1", 0, decoder.written));
  }
  return { lines, used: at };
}
const plain = (lines: readonly string[]): string[] => lines.map((line) => line.slice(0, -2));

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
      const decoder = new HpackDecoder(4_096);
      one.blocks.forEach((block, n) => {
        const read = decode(decoder, bytes(block));
        expect(read.used).toBe(bytes(block).length);
        expect(plain(read.lines)).toEqual(one.wanted[n] as string[]);
        expect(decoder.table.size).toBe(one.sizes[n] as number);
      });
    });
  }

  test("C.1 integers: 10 and 1337 in five bits, 42 in eight", () => {
    const long = Buffer.alloc(1_337, 97);
    const read = decode(new HpackDecoder(4_096), Buffer.concat([bytes("00 01 61 7f ba 09"), long]));
    expect(plain(read.lines)[0]).toBe(`a: ${long.toString()}`);
    const ten = decode(new HpackDecoder(4_096), bytes("2a 82"));
    expect(plain(ten.lines)).toEqual([":method: GET"]);
  });

  test("C.2 single fields; what is never indexed says so by its missing space", () => {
    expect(plain(decode(new HpackDecoder(4_096), bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")).lines)).toEqual(
      ["custom-key: custom-header"],
    );
    expect(plain(decode(new HpackDecoder(4_096), bytes("040c 2f73 616d 706c 652f 7061 7468")).lines)).toEqual([":path: /sample/path"]);
    expect(plain(decode(new HpackDecoder(4_096), bytes("1008 7061 7373 776f 7264 0673 6563 7265 74")).lines)).toEqual(["password:secret"]);
    expect(plain(decode(new HpackDecoder(4_096), bytes("82")).lines)).toEqual([":method: GET"]);
  });

  test("C.5 and C.6 responses evict from a table of 256 bytes", () => {
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
    const literal = [
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "4803 3330 37c1 c0bf",
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    const coded = [
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      "4883 640e ffc1 c0bf",
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for (const blocks of [literal, coded]) {
      const decoder = new HpackDecoder(4_096);
      // 5.1: 31 + 225
      expect(decode(decoder, bytes("3f e1 01")).lines).toEqual([]);
      for (const [n, block] of blocks.entries()) expect(plain(decode(decoder, bytes(block)).lines)).toEqual(wanted[n] as string[]);
      expect(decoder.table.size).toBe(215);
    }
  });
});

describe("what must be refused (a connection error, RFC 9113 4.3)", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["6.1: index 0", "80"],
    ["2.3.3: an index beyond both tables", "be"],
    ["2.3.3: a name index beyond both tables", "7f 00 01 61"],
    ["4.2: a table size update after a field", "82 20"],
    ["6.3: a table size above what was offered", "3f e2 1f"],
    ["5.1: an integer without end", "ff ff ff ff ff ff ff ff ff 01"],
    ["5.2: a string beyond the block", "00 05 61"],
    ["5.2: no value", "00 01 61"],
    ["5.2: Huffman padding of zeros", "00 01 61 81 18"],
    ["5.2: Huffman padding above seven bits", "00 01 61 82 1f ff"],
    ["5.2: the end-of-string symbol", "00 01 61 84 ff ff ff ff"],
  ];
  for (const [name, block] of cases)
    test(name, () => expect(decode(new HpackDecoder(4_096), bytes(block)).used).toBe(refuse(compressionError)));

  test("random bytes never throw, never read beyond the block, and leave bounded tables", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (block) => {
        const decoder = new HpackDecoder(4_096);
        const read = decode(decoder, block);
        expect(read.used < 0 || read.used === block.length).toBe(true);
        expect(decoder.table.size).toBeLessThanOrEqual(4_096);
        expect(decoder.table.bytes.length).toBeLessThanOrEqual(16_384);
      }),
      { numRuns: 1_000 },
    );
  });

  test("a section is decoded to its end whatever is wrong in it", () => {
    const decoder = new HpackDecoder(4_096);
    const code = readSection(decoder, bytes("82 4001 4101 62 4001 6301 64"), 0, 11, section.request, 1_000, 100);
    expect(code).toBe(fault.fieldBytes);
    expect(decoder.table.count).toBe(2);
  });
});

describe("the dynamic table (RFC 7541 section 4)", () => {
  test("entries keep their bytes while the store moves and grows", () => {
    const table = new DynamicTable(4_096);
    const entry = Buffer.alloc(4_096);
    for (let n = 0; n < 5_000; n++) {
      const size = 1 + ((n * 37) % 300);
      entry.fill(n & 255, 0, size);
      table.insert(entry, 0, size, size, 0, n);
      for (let i = table.inserted - table.count; i < table.inserted; i++) {
        const from = table.from(i);
        expect(table.mark(i)).toBe(i);
        if (table.bytes[from] !== (i & 255) || table.bytes[from + table.nameSize(i) - 1] !== (i & 255))
          throw new Error(`entry ${i} is damaged`);
      }
      expect(table.size).toBeLessThanOrEqual(4_096);
    }
    expect(table.bytes.length).toBeLessThanOrEqual(8_192);
  });

  test("4.4: an entry larger than the table empties it", () => {
    const table = new DynamicTable(100);
    expect(table.insert(Buffer.from("ab"), 0, 2, 1, 1, 0)).toBe(true);
    expect(table.insert(Buffer.alloc(200), 0, 200, 100, 100, 0)).toBe(false);
    expect([table.count, table.size]).toEqual([0, 0]);
  });
});

describe("the encoder", () => {
  function encode(encoder: HpackEncoder, fields: readonly (readonly [string, string, boolean?])[]): Buffer {
    const block = Buffer.alloc(100_000);
    encoder.begin(block, 0);
    for (const [name, value, never] of fields) {
      const line = Buffer.from(`${name}${value}`, "latin1");
      encoder.field(line, 0, name.length, name.length, line.length, never === true);
    }
    return block.subarray(0, encoder.at);
  }

  test("a field that comes again is one byte from the third time on, and the decoder agrees", () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder(4_096);
    const sizes = [1, 2, 3, 4].map(() => {
      const block = encode(encoder, [["x-app", "front"]]);
      expect(plain(decode(decoder, block).lines)).toEqual(["x-app: front"]);
      return block.length;
    });
    expect(sizes).toEqual([13, 13, 1, 1]);
  });

  test("names of the static table are used, also for what HTTP/1 spelt otherwise", () => {
    expect([...encode(new HpackEncoder(), [["Accept-Encoding", "gzip, deflate"]])]).toEqual([0x80 | 16]);
    expect(encode(new HpackEncoder(), [["User-Agent", "x"]]).length).toBe(4);
  });

  test("secrets are never indexed (7.1.3), nor what came so", () => {
    const encoder = new HpackEncoder();
    for (let n = 0; n < 4; n++) {
      for (const name of ["authorization", "Cookie", "set-cookie", "proxy-authorization"])
        expect((encode(encoder, [[name, "secret"]])[0] as number) & 0xf0).toBe(0x10);
      expect((encode(encoder, [["x-key", "secret", true]])[0] as number) & 0xf0).toBe(0x10);
    }
    expect(encoder.table.count).toBe(0);
  });

  test("what differs each time does not fill the table", () => {
    const encoder = new HpackEncoder();
    for (let n = 0; n < 500; n++)
      encode(encoder, [
        ["x-request-id", crypto.randomUUID()],
        ["x-app", "front"],
      ]);
    expect(encoder.table.count).toBeLessThan(4);
  });

  test("4.2: the peer's smaller table is said at the start of the next block, its lowest first", () => {
    const encoder = new HpackEncoder();
    const decoder = new HpackDecoder(4_096);
    for (let n = 0; n < 3; n++) decode(decoder, encode(encoder, [["x-app", "front"]]));
    encoder.resize(10);
    encoder.resize(200);
    const block = encode(encoder, [["x-app", "front"]]);
    // 5.1: 200 is 31 and 169.
    expect([...block.subarray(0, 4)]).toEqual([0x20 | 10, 0x3f, 0xa9, 0x01]);
    expect(plain(decode(decoder, block).lines)).toEqual(["x-app: front"]);
    expect(decoder.table.limit).toBe(200);
    encoder.resize(0);
    for (let n = 0; n < 3; n++) expect(plain(decode(decoder, encode(encoder, [["x-app", "front"]])).lines)).toEqual(["x-app: front"]);
    expect(encoder.table.count).toBe(0);
  });

  test("property: what a connection's encoder writes, its peer's decoder reads, through any sequence of blocks and sizes", () => {
    const value = fc.string({
      unit: fc.integer({ min: 33, max: 255 }).map((c) => String.fromCharCode(c === 127 ? 33 : c)),
      maxLength: 300,
    });
    const field = fc.tuple(fc.stringMatching(/^[a-z0-9-]{1,30}$/), value, fc.boolean());
    const few = fc.constantFrom<[string, string, boolean]>(
      ["a", "1", false],
      ["x-app", "front", false],
      ["accept", "*/*", false],
      ["b", "z".repeat(900), false],
    );
    const step = fc.oneof(
      { weight: 9, arbitrary: fc.array(fc.oneof(few, field), { maxLength: 12 }) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 5_000 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder(limits.headerTable);
        for (const one of steps) {
          if (typeof one === "number") {
            encoder.resize(one);
            continue;
          }
          const read = decode(decoder, encode(encoder, one));
          expect(plain(read.lines).map((line) => line.replace(/^([^:]+): ?/, "$1|"))).toEqual(one.map(([name, text]) => `${name}|${text}`));
          expect(decoder.table.size).toBe(encoder.table.size);
        }
      }),
      { numRuns: 150 },
    );
  });
});

test("a request out of Huffman code and tables is the text it stands for", () => {
  const decoder = new HpackDecoder(4_096);
  const block = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
  expect(readSection(decoder, block, 0, block.length, section.request, defaultLimits.headBytes, 100)).toBe(fault.none);
  expect(takeRequest(0, Math.random).toString("latin1", headFrom, headTo)).toBe("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n");
  expect(headTo - headFrom).toBe(41);
  expect(found.connect).toBe(false);
  expect(readSection(decoder, bytes("4001 6101 62"), 0, 5, section.trailers, 100, 100)).toBe(fault.none);
  expect(takeTrailers().toString("latin1", headFrom, headTo)).toBe("a: b\r\n");
});
