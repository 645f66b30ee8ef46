import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { coreBusyTicks, freePorts, pickCores } from "./machine.ts";
import { groupCpu, groupMembers, groupRssAnonMb, Workshop } from "./proc.ts";

const linux = process.platform === "linux" && existsSync("/usr/bin/taskset");

describe.skipIf(!linux)("processes of the bench", () => {
  test("a started group is seen, counted and ended whole, and its folder goes", async () => {
    const shop = new Workshop();
    const core = String(pickCores().subject);
    const started = shop.start("busy", ["sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 30 & wait"], core);
    const deadline = performance.now() + 5000;
    const total = () => {
      const { userMs, kernelMs } = groupCpu([started.pid]);
      return userMs + kernelMs;
    };
    while ((groupMembers(started.pid).length < 2 || total() === 0) && performance.now() < deadline) await Bun.sleep(5);
    expect(groupMembers(started.pid).length).toBeGreaterThanOrEqual(2);
    expect(total()).toBeGreaterThan(0);
    expect(groupRssAnonMb([started.pid])).toBeGreaterThan(0);
    expect(started.alive()).toBe(true);
    await shop.close();
    expect(started.alive()).toBe(false);
    expect(groupMembers(started.pid)).toEqual([]);
    expect(existsSync(shop.dir)).toBe(false);
  });

  test("a program that does not exist leaves its complaint", async () => {
    const shop = new Workshop();
    const started = shop.start("nothing", ["/no/such/program"], "0");
    while (started.alive()) await Bun.sleep(2);
    expect(started.output()).toContain("/no/such/program");
    await shop.close();
  });
});

test("free ports differ, and the clock of a core runs", async () => {
  const ports = await freePorts(20);
  expect(new Set(ports).size).toBe(20);
  if (linux) expect(coreBusyTicks(pickCores().subject)).toBeGreaterThan(0);
});
