// Checksums that stand in files must be the same in every version and on every runtime.

import { expect, test } from "bun:test";
import { stateSum, sumOf, Witness } from "./witness.ts";

const row = {
  revision: 12,
  type: "modified",
  resource: "services",
  namespace: "shop",
  name: "cart",
  body: '{"kind":"Service","note":"naïve 🛒"}',
  at: 1_700_000_000_000,
  author: "alice",
  tx: 11,
} as const;

test("the hash is XXH64 as its specification has it", () => {
  expect(Bun.hash.xxHash64("")).toBe(0xef46db3751d8e999n);
  expect(Bun.hash.xxHash64("abc")).toBe(0x44bc2cf5ad770999n);
  expect(Bun.hash.xxHash64("é")).toBe(Bun.hash.xxHash64(Buffer.from("é")));
});

test("sums are what they were in the first file that had them", () => {
  expect(sumOf(row)).toBe(250_590_122_173_982);
  expect(stateSum({ revision: 12, oldest: 3, entries: 2, digest: 99 })).toBe(279_600_282_229_880);
  const witness = new Witness();
  witness.found(row, 12);
  expect(witness.digest).toBe(36_037_814_098_141);
});

test("every part of a row counts", () => {
  const others = [
    { revision: 13 },
    { type: "added" },
    { resource: "service" },
    { namespace: "shopc", name: "art" },
    { name: "cars" },
    { body: row.body.replace("Service", "Servicf") },
    { at: row.at + 1 },
    { author: "" },
    { tx: 12 },
  ] as const;
  const sums = new Set([row, ...others.map((other) => ({ ...row, ...other }))].map(sumOf));
  expect(sums.size).toBe(others.length + 1);
});

test("the digest of what is there does not depend on how it came about", () => {
  const one = new Witness();
  const key = (name: string) => ({ resource: "services", namespace: "shop", name });
  for (let at = 1; at <= 50; at++) one.written(key(`n${at % 7}`), at % 5 === 0 ? "deleted" : "modified", at);
  one.begin();
  one.written(key("x"), "added", 51);
  one.written(key("n1"), "deleted", 52);
  one.rollback();
  const two = new Witness();
  const last = new Map<string, number | undefined>();
  for (let at = 1; at <= 50; at++) last.set(`n${at % 7}`, at % 5 === 0 ? undefined : at);
  for (const [name, at] of [...last].reverse()) if (at !== undefined) two.found(key(name), at);
  expect([one.entries, one.digest]).toEqual([two.entries, two.digest]);
  expect(one.entries).toBeGreaterThan(3);
});
