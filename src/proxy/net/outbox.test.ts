// What waits in an outbox stays what it was, whatever becomes of the buffer it came from.

import { expect, test } from "bun:test";
import { discard, Outbox, type Wire } from "./outbox.ts";

/** Takes at most `takes` bytes a write. */
function stingyWire(takes: number): { wire: Wire; sent: () => string } {
  const parts: Buffer[] = [];
  const write = (bytes: Uint8Array, from = 0, size = bytes.length - from): number => {
    const taken = Math.min(size, takes);
    parts.push(Buffer.from(bytes.subarray(from, from + taken)));
    return taken;
  };
  return { wire: { write } as Wire, sent: () => Buffer.concat(parts).toString("latin1") };
}

test("a large read is given back at once, a small one and a part of a pool are left", () => {
  const large = new Uint8Array(65_536);
  discard(large.subarray(10));
  expect(large.length).toBe(0);
  const small = new Uint8Array(1_000);
  discard(small);
  expect(small.length).toBe(1_000);
});

test("what waits is a copy: its source can be given back, and is sent all the same", () => {
  const { wire, sent } = stingyWire(30_000);
  const box = new Outbox();
  box.wire = wire;
  const read = new Uint8Array(100_000).fill(97);
  expect(box.write(read, 0, read.length)).toBe(false);
  discard(read);
  for (let turns = 0; !box.drain() && turns < 20; turns++);
  expect(sent()).toBe("a".repeat(100_000));
});

test("h2load with large windows: a gather buffer filled again does not change what waits of it", () => {
  const { wire, sent } = stingyWire(4);
  const box = new Outbox();
  box.wire = wire;
  const gathered = Buffer.from("frames of one event");
  expect(box.write(gathered, 0, gathered.length)).toBe(false);
  gathered.fill("x");
  for (let turns = 0; !box.drain() && turns < 20; turns++);
  expect(sent()).toBe("frames of one event");
});
