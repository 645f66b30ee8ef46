// What waits in an outbox stays what it was, whatever becomes of the buffer it came from.

import { expect, test } from "bun:test";
import { Outbox, type Wire } from "./outbox.ts";

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

test("h2load with large windows: a gather buffer filled again does not change what waits of it", () => {
  const { wire, sent } = stingyWire(4);
  const box = new Outbox();
  box.wire = wire;
  const gathered = Buffer.from("frames of one event");
  expect(box.write(gathered, 0, gathered.length, true)).toBe(false);
  gathered.fill("x");
  for (let turns = 0; !box.drain() && turns < 20; turns++);
  expect(sent()).toBe("frames of one event");
});
