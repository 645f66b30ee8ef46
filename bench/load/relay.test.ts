import { expect, test } from "bun:test";
import { RecordCounter } from "./relay.ts";

const record = (type: number, size: number): Buffer => {
  const bytes = Buffer.alloc(5 + size);
  bytes[0] = type;
  bytes.writeUInt16BE(0x0303, 1);
  bytes.writeUInt16BE(size, 3);
  return bytes;
};

test("records of application data are counted however the stream is cut", () => {
  const stream = Buffer.concat([record(22, 90), record(20, 1), record(23, 300), record(23, 0), record(23, 16_384)]);
  for (const piece of [1, 2, 4, 5, 7, 1000, stream.length]) {
    const counter = new RecordCounter();
    for (let at = 0; at < stream.length; at += piece) counter.take(stream.subarray(at, at + piece));
    expect([piece, counter.records, counter.bytes]).toEqual([piece, 3, stream.length]);
  }
});
