// What a run leaves for the next of the same instance, and whose it is.

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parse } from "../parse.ts";
import type { VerbSpec } from "../spec.ts";
import { verbNamed } from "../verbs.ts";
import { instanceKey, type Memory, type Remembered, takeMemory } from "./memory.ts";
import { planFrom } from "./plan.ts";

const home = mkdtempSync(join(tmpdir(), "weft-memory-"));
afterAll(() => rmSync(home, { recursive: true }));

const env = { HOME: home, XDG_RUNTIME_DIR: join(home, "runtime") };
const root = join(home, ".local", "state", "weft", "run");
const take = (key: string): Memory => takeMemory(key, env, Date.now()) as Memory;
const facts: Remembered = {
  name: "cart-1",
  namespace: "shop",
  serviceAccount: "cart",
  ports: { inbound: 1, httpProxy: 2, admin: 3 },
  chosen: { name: "http", port: 80, protocol: "http" },
  trustDomain: "t",
  xdsAddress: "127.0.0.1:1",
  caBundle: "PEM",
};
const leaveSnapshot = (of: Memory): void => {
  mkdirSync(of.snapshot, { recursive: true, mode: 0o700 });
  writeFileSync(join(of.snapshot, "snapshot"), "x");
};

test("kept for the next run, if there is a snapshot with it; private", () => {
  const first = take("cart");
  expect(first.last).toBeUndefined();
  first.keep(facts);
  first.leave();
  const second = take("cart");
  expect(second.last).toBeUndefined();
  leaveSnapshot(second);
  second.leave();
  const third = take("cart");
  expect(third.last).toMatchObject(facts);
  expect(third.snapshot).toBe(first.snapshot);
  const folder = dirname(third.snapshot);
  expect([statSync(folder).mode & 0o777, statSync(join(folder, "run.json")).mode & 0o777]).toEqual([0o700, 0o600]);
  third.forget();
  third.leave();
  const fourth = take("cart");
  expect(fourth.last).toBeUndefined();
  fourth.leave();
});

test.each(["", "{", "[]", '{"format":2}', JSON.stringify({ ...facts, format: 1, ports: { inbound: 0, httpProxy: 1, admin: 2 } })])(
  "what is not a whole record of this format is none: %j",
  (text) => {
    const one = take("bad");
    leaveSnapshot(one);
    writeFileSync(join(dirname(one.snapshot), "run.json"), text);
    one.leave();
    const next = take("bad");
    expect(next.last).toBeUndefined();
    next.leave();
  },
);

test("two at once have a place each; one whose process is gone, or is another of the same number, is free", () => {
  const [first, second] = [take("job"), take("job")];
  expect(second.snapshot).not.toBe(first.snapshot);
  first.leave();
  second.leave();
  const lock = join(dirname(first.snapshot), "run.lock");
  for (const holder of ["4194305 1", `${process.pid} 1`]) {
    writeFileSync(lock, holder);
    const again = take("job");
    expect(again.snapshot).toBe(first.snapshot);
    expect(again.lock.file).toBe(lock);
    again.leave();
  }
  writeFileSync(lock, "");
  const beside = take("job");
  expect(beside.snapshot).not.toBe(first.snapshot);
  beside.leave();
});

test("what nobody has used for a month is removed", () => {
  const old = take("old");
  old.leave();
  const longAgo = new Date(Date.now() - 31 * 24 * 3600 * 1000);
  mkdirSync(old.snapshot, { recursive: true });
  utimesSync(old.snapshot, longAgo, longAgo);
  utimesSync(dirname(old.snapshot), longAgo, longAgo);
  take("new").leave();
  expect(readdirSync(root).some((name) => name.startsWith("old"))).toBe(false);
});

test("other flags, another mesh or another name are another instance", () => {
  const key = (server: string, account: string, ...flags: string[]): string =>
    instanceKey(planFrom(parse(verbNamed("run") as VerbSpec, [...flags, "--", "app"])), "shop", account, server);
  const keys = [
    key("https://a", "cart", "--service", "cart", "--port", "1"),
    key("https://b", "cart", "--service", "cart", "--port", "1"),
    key("https://a", "other", "--service", "cart", "--port", "1"),
    key("https://a", "cart", "--service", "cart", "--port", "2"),
    key("https://a", "cart", "--service", "cart", "--port", "1", "--version", "v2"),
    key("https://a", "cart", "--service", "cart", "--port", "1", "--upstream", "db=5"),
    key("https://a", "cart", "--service", "carts", "--port", "1"),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys[0]).toBe(key("https://a", "cart", "--service", "cart", "--port", "1"));
  expect(keys[0]).toStartWith("cart.shop-");
});
