// What a stream's account says of a Gateway's ports that are not open.

import { expect, test } from "bun:test";
import { closedListenersOf } from "./closed.ts";
import { Ledger } from "./ledger.ts";
import { snapshot } from "./support.ts";

test("ports that a Gateway's proxy refuses or could not open are known by the words of their own line, others are not; with the answer it is over", () => {
  const ledger = new Ledger("delta");
  ledger.setTarget(snapshot("w", { listener: ["gateway|80", "gateway|53|udp", "outbound"] }));
  expect(closedListenersOf(ledger)).toBeUndefined();
  ledger.receiveDelta("listener", [], [], {}, "", undefined);
  const first = ledger.next();
  expect(closedListenersOf(ledger)).toBeUndefined();
  const answer = (error?: string) => ledger.receiveDelta("listener", [], [], {}, first?.nonce ?? "", error);
  answer();
  expect(closedListenersOf(ledger)).toEqual([]);
  answer("listener gateway|80: port 80 is in use\nlistener gateway|53|udp: no such address\nlistener outbound: no");
  expect(closedListenersOf(ledger)).toEqual([
    { port: 53, transport: "udp", reason: "NotOpen", words: "no such address" },
    { port: 80, transport: "tcp", reason: "NotOpen", words: "port 80 is in use" },
  ]);
  answer("listener gateway|80: port 80 is in use");
  expect(closedListenersOf(ledger)?.map(({ port }) => port)).toEqual([80]);
  answer();
  expect(closedListenersOf(ledger)).toEqual([]);
  ledger.setTarget(snapshot("w", { listener: ["gateway|80=2", "gateway|53|udp", "outbound"] }));
  const second = ledger.next();
  ledger.receiveDelta("listener", [], [], {}, second?.nonce ?? "", "listener gateway|80: the certificate cannot be read");
  expect(closedListenersOf(ledger)).toEqual([{ port: 80, transport: "tcp", reason: "Outdated", words: "the certificate cannot be read" }]);
});
