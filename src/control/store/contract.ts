// Owns: what every store must do, as one suite that is run against each implementation. Only tests import it.
// Never knows how a store keeps its data: files, crashes and full disks have their own tests beside each implementation.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeObject } from "../../api/meta.ts";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { startTrimming } from "../lease/trim.ts";
import type { Keep } from "./keep.ts";
import {
  CompactedError,
  type HistoryEntry,
  maxObjectBytes,
  type ObjectKey,
  ObjectTooLargeError,
  type Revision,
  type Store,
  type StoreEvent,
  type WriteResult,
} from "./store.ts";

/** One medium under test: `open` may be called again after the store was closed and must find the same data. */
export interface StoreMedium {
  open(): Promise<Store>;
  /** Opens what `backup` wrote. */
  openCopy(path: string): Promise<Store>;
  destroy(): Promise<void>;
}

const routes = "httproutes.gateway.networking.k8s.io";

export function storeContract(name: string, makeMedium: () => Promise<StoreMedium>): void {
  describe(`${name} keeps the store's contract`, () => {
    let medium: StoreMedium;
    let store: Store;
    beforeEach(async () => {
      medium = await makeMedium();
      store = await medium.open();
    });
    afterEach(async () => {
      await store.close();
      await medium.destroy();
    });

    test("create, get: the object comes back with its revision as resourceVersion", async () => {
      const made = must(await store.create(key("a"), object("a", 1)));
      expect(made.object.metadata.resourceVersion).toBe(String(made.revision));
      expect(await store.get(key("a"))).toEqual(made.object);
      expect(made.object.spec).toEqual({ value: 1 });
      expect(await store.revision()).toBe(made.revision);
      expect(await store.get(key("b"))).toBeUndefined();
      expect(await store.get({ ...key("a"), namespace: "other" })).toBeUndefined();
      expect(await store.get({ ...key("a"), resource: "services" })).toBeUndefined();
    });

    test("the store keeps a copy: what the writer does to his object afterwards changes nothing", async () => {
      const mine = object("a", 1);
      const writing = store.create(key("a"), mine);
      mine.spec = { value: 99 };
      const made = must(await writing);
      made.object.spec = { value: 98 };
      expect((await store.get(key("a")))?.spec).toEqual({ value: 1 });
    });

    test("create of an existing object, update and delete of a missing one are told apart", async () => {
      await store.create(key("a"), object("a", 1));
      const before = await store.revision();
      expect(await store.create(key("a"), object("a", 2))).toEqual({ ok: false, reason: "exists" });
      expect(await store.update(key("b"), object("b", 1), undefined)).toEqual({ ok: false, reason: "missing" });
      expect(await store.update(key("b"), object("b", 1), 1)).toEqual({ ok: false, reason: "missing" });
      expect(await store.delete(key("b"), undefined)).toEqual({ ok: false, reason: "missing" });
      expect(await store.revision()).toBe(before);
      expect((await store.get(key("a")))?.spec).toEqual({ value: 1 });
    });

    test("compare-and-set: only the holder of the newest revision writes", async () => {
      const first = must(await store.create(key("a"), object("a", 1)));
      const second = must(await store.update(key("a"), object("a", 2), first.revision));
      expect(second.revision).toBeGreaterThan(first.revision);
      expect(await store.update(key("a"), object("a", 3), first.revision)).toEqual({
        ok: false,
        reason: "conflict",
        current: second.revision,
      });
      expect(await store.delete(key("a"), first.revision)).toEqual({ ok: false, reason: "conflict", current: second.revision });
      must(await store.update(key("a"), object("a", 4), undefined));
      expect((await store.get(key("a")))?.spec).toEqual({ value: 4 });
    });

    test("delete answers with the last state and the deletion's own revision; the name is free again", async () => {
      const made = must(await store.create(key("a"), object("a", 1)));
      const gone = must(await store.delete(key("a"), made.revision));
      expect(gone.revision).toBeGreaterThan(made.revision);
      expect(gone.object.spec).toEqual({ value: 1 });
      expect(gone.object.metadata.resourceVersion).toBe(String(gone.revision));
      expect(await store.get(key("a"))).toBeUndefined();
      const again = must(await store.create(key("a"), object("a", 2)));
      expect(again.revision).toBeGreaterThan(gone.revision);
      expect(await store.update(key("a"), object("a", 3), made.revision)).toMatchObject({ ok: false, reason: "conflict" });
    });

    test("list: one resource, sorted by namespace then name, true at its revision", async () => {
      for (const [namespace, name] of [
        ["shop", "b"],
        ["bank", "z"],
        ["shop", "a"],
        ["shop", "a-1"],
      ] as const) {
        must(await store.create({ resource: routes, namespace, name }, object(name, 0, namespace)));
      }
      must(await store.create({ resource: "services", namespace: "shop", name: "s" }, object("s", 0)));
      const all = await store.list(routes);
      expect(all.items.map((item) => `${item.metadata.namespace}/${item.metadata.name}`)).toEqual([
        "bank/z",
        "shop/a",
        "shop/a-1",
        "shop/b",
      ]);
      expect(all.revision).toBe(await store.revision());
      expect((await store.list(routes, "shop")).items.map((item) => item.metadata.name)).toEqual(["a", "a-1", "b"]);
      expect((await store.list(routes, "none")).items).toEqual([]);
      const everything = await store.listAll();
      expect(everything.items.map((item) => `${item.key.resource} ${item.key.namespace}/${item.key.name}`)).toEqual([
        `${routes} bank/z`,
        `${routes} shop/a`,
        `${routes} shop/a-1`,
        `${routes} shop/b`,
        "services shop/s",
      ]);
      expect(everything.items.every((item) => item.object.metadata.resourceVersion !== undefined)).toBe(true);
    });

    test("cluster-scoped objects have the empty namespace", async () => {
      const namespaceKey: ObjectKey = { resource: "namespaces", namespace: "", name: "shop" };
      must(await store.create(namespaceKey, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } }));
      expect((await store.list("namespaces", "")).items).toHaveLength(1);
      expect((await store.list("namespaces")).items).toHaveLength(1);
    });

    test("of many concurrent compare-and-set writers exactly one wins each revision", async () => {
      must(await store.create(key("counter"), object("counter", 0)));
      const bump = async (): Promise<void> => {
        for (;;) {
          const now = await store.get(key("counter"));
          if (now === undefined) throw new Error("the counter is gone");
          const { value } = now.spec as { value: number };
          const result = await store.update(key("counter"), object("counter", value + 1), Number(now.metadata.resourceVersion));
          if (result.ok) return;
          expect(result.reason).toBe("conflict");
        }
      };
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          for (let round = 0; round < 5; round++) await bump();
        }),
      );
      expect((await store.get(key("counter")))?.spec).toEqual({ value: 40 });
    });

    test("of many concurrent creators of one name exactly one wins", async () => {
      const results = await Promise.all(Array.from({ length: 10 }, (_, at) => store.create(key("one"), object("one", at))));
      expect(results.filter((result) => result.ok)).toHaveLength(1);
      expect((await store.get(key("one")))?.metadata.resourceVersion).toBe(String(must(results.find((result) => result.ok)).revision));
    });

    test("watch: every event after the revision, in order, each once, old ones and new ones", async () => {
      const start = await store.revision();
      must(await store.create(key("a"), object("a", 1)));
      const seen: StoreEvent[] = [];
      const watch = await store.watch(start, undefined, (event) => seen.push(event));
      const two = must(await store.update(key("a"), object("a", 2), undefined));
      const gone = must(await store.delete(key("a"), undefined));
      await until(() => seen.length === 3);
      watch.stop();
      expect(seen.map((event) => event.type)).toEqual(["added", "modified", "deleted"]);
      expect(seen.map((event) => event.key)).toEqual([key("a"), key("a"), key("a")]);
      expect(seen[1]?.object).toEqual(two.object);
      expect(seen[2]?.object).toEqual(gone.object);
      expect(seen[2]?.revision).toBe(gone.revision);
      expect(seen[2]?.object.metadata.resourceVersion).toBe(String(gone.revision));
    });

    test("watch from a revision yet to come hears only what comes after it", async () => {
      const seen: string[] = [];
      const now = await store.revision();
      const watch = await store.watch(now + 2, undefined, (event) => seen.push(event.key.name));
      for (const name of ["a", "b", "c", "d"]) must(await store.create(key(name), object(name, 0)));
      await until(() => seen.length === 2);
      watch.stop();
      expect(seen).toEqual(["c", "d"]);
    });

    test("watch of one resource hears of no other", async () => {
      const seen: string[] = [];
      const watch = await store.watch(await store.revision(), routes, (event) => seen.push(event.key.name));
      must(await store.create({ resource: "services", namespace: "shop", name: "s" }, object("s", 0)));
      must(await store.create(key("r"), object("r", 0)));
      await until(() => seen.length === 1);
      watch.stop();
      expect(seen).toEqual(["r"]);
    });

    test("a stopped watch hears nothing more, and stopping twice is fine", async () => {
      const seen: string[] = [];
      const other: string[] = [];
      const from = await store.revision();
      const watch = await store.watch(from, undefined, (event) => seen.push(event.key.name));
      const control = await store.watch(from, undefined, (event) => other.push(event.key.name));
      must(await store.create(key("a"), object("a", 0)));
      await until(() => seen.length === 1);
      watch.stop();
      watch.stop();
      must(await store.create(key("b"), object("b", 0)));
      await until(() => other.length === 2);
      control.stop();
      expect(seen).toEqual(["a"]);
    });

    test("list then watch misses nothing and doubles nothing while others write", async () => {
      const writers = Array.from({ length: 4 }, async (_, writer) => {
        for (let at = 0; at < 400; at++) {
          const name = `w${writer}-${at % 7}`;
          const now = await store.get(key(name));
          if (now === undefined) await store.create(key(name), object(name, at));
          else if (at % 5 === 0) await store.delete(key(name), undefined);
          else await store.update(key(name), object(name, at), undefined);
        }
      });
      const replicas = Array.from({ length: 6 }, async () => {
        const listed = await store.list(routes);
        const state = new Map(listed.items.map((item) => [item.metadata.name, item]));
        let last: Revision = listed.revision;
        const watch = await store.watch(listed.revision, routes, (event) => {
          expect(event.revision).toBeGreaterThan(last);
          last = event.revision;
          expect(state.has(event.key.name)).toBe(event.type !== "added");
          if (event.type === "deleted") state.delete(event.key.name);
          else state.set(event.key.name, event.object);
        });
        return { state, watch, last: () => last };
      });
      const watching = await Promise.all(replicas);
      await Promise.all(writers);

      const end = must(await store.create(key("end"), object("end", 0))).revision;
      await until(() => watching.every((replica) => replica.last() === end));
      const truth = await store.list(routes);
      for (const replica of watching) {
        replica.watch.stop();
        expect([...replica.state.values()].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))).toEqual([...truth.items]);
      }
    });

    test("a watch from long ago gets the whole of a long history in order", async () => {
      const start = await store.revision();
      await Promise.all(Array.from({ length: 1500 }, (_, at) => store.create(key(`n${at}`), object(`n${at}`, at))));
      const seen: Revision[] = [];
      const watch = await store.watch(start, undefined, (event) => seen.push(event.revision));
      // Falls into the time in which the watch is still reading history.
      const late = must(await store.create(key("late"), object("late", 0)));
      await until(() => seen.at(-1) === late.revision);
      watch.stop();
      expect(seen).toHaveLength(1501);
      expect(seen).toEqual([...seen].sort((a, b) => a - b));
    });

    test("compaction forgets events, never objects, and a watch from before it is refused", async () => {
      const first = must(await store.create(key("kept"), object("kept", 1)));
      for (let at = 0; at < 5; at++)
        must(
          await store
            .update(key("busy"), object("busy", at), undefined)
            .then(async (r) => (r.ok ? r : store.create(key("busy"), object("busy", at)))),
        );
      const now = await store.revision();
      await store.compact(now);
      expect(await thrown(store.watch(first.revision - 1, undefined, () => {}))).toBeInstanceOf(CompactedError);
      const error = await thrown(store.watch(first.revision - 1, undefined, () => {}));
      expect((error as CompactedError).oldest).toBe(now);
      expect((await store.get(key("kept")))?.spec).toEqual({ value: 1 });
      expect((await store.get(key("busy")))?.spec).toEqual({ value: 4 });
      const seen: StoreEvent[] = [];
      const watch = await store.watch(now, undefined, (event) => seen.push(event));
      must(await store.delete(key("kept"), first.revision));
      await until(() => seen.length === 1);
      watch.stop();
      expect(seen[0]?.type).toBe("deleted");
      await store.compact(1);
      await store.compact((await store.revision()) + 1000);
      expect(await store.revision()).toBe(now + 1);
    });

    test("what is renewed all the time does not use up the history, up to a bound, and is watched and listed as all else", async () => {
      const lease = { resource: "leases.coordination.k8s.io", namespace: "shop", name: "l" };
      must(await store.create(key("a"), object("a", 1)));
      must(await store.create(lease, object("l", 2)));
      // Counting: 1, 7, 13, 19, 25.
      for (let at = 3; at <= 25; at++)
        must(await (at % 6 === 1 ? store.update(key("a"), object("a", at), undefined) : store.update(lease, object("l", at), undefined)));
      // What was written in the last minute is trimmed by steps only.
      const clock = new PausedClock(Date.now() + 3_600_000);
      const trimmed = async (keep: Keep, to: Revision) => {
        const timer = startTrimming(store, clock, silentLogger, { ...keep, transient: new Set([lease.resource]) }, 0);
        for (const end = performance.now() + 10_000; (await store.oldest()) !== to; await Bun.sleep(2)) {
          if (performance.now() > end) throw new Error(`trimmed to ${await store.oldest()}, not to ${to}`);
          clock.advance(10_000);
        }
        // Another round finds nothing more.
        clock.advance(10_000);
        await Bun.sleep(20);
        timer.cancel();
        expect(await store.oldest()).toBe(to);
      };
      await trimmed({ revisions: 3 }, 13);
      const seen: [Revision, unknown][] = [];
      const watch = await store.watch(13, lease.resource, ({ revision, object: { spec } }) => seen.push([revision, spec]));
      await until(() => seen.length === 10);
      watch.stop();
      expect(seen).toEqual([14, 15, 16, 17, 18, 20, 21, 22, 23, 24].map((at): [Revision, unknown] => [at, { value: at }]));
      expect((await store.listAt(14, lease.resource)).items[0]?.spec).toEqual({ value: 14 });
      await trimmed({ revisions: 3, all: 8 }, 18);
      expect((await store.get(key("a")))?.spec).toEqual({ value: 25 });
    });

    test("a list at an earlier revision is what it was then, whole or from a place on", async () => {
      must(await store.create(key("a"), object("a", 1)));
      const b = must(await store.create(key("b"), object("b", 1)));
      const bank = must(await store.create({ ...key("z"), namespace: "bank" }, object("z", 1, "bank")));
      must(await store.update(key("b"), object("b", 2), undefined));
      must(await store.delete(key("a"), undefined));
      must(await store.create(key("c"), object("c", 1)));
      const names = (list: { items: readonly KubeObject[] }) =>
        list.items.map((item) => `${item.metadata.name}=${(item.spec as { value: number }).value}`);
      expect(names(await store.listAt(bank.revision, routes))).toEqual(["z=1", "a=1", "b=1"]);
      expect(names(await store.listAt(bank.revision, routes, "shop"))).toEqual(["a=1", "b=1"]);
      expect(names(await store.listAt(bank.revision, routes, undefined, { namespace: "bank", name: "z" }))).toEqual(["a=1", "b=1"]);
      expect(names(await store.listAt(bank.revision, routes, "shop", { namespace: "shop", name: "a" }))).toEqual(["b=1"]);
      expect(names(await store.listAt(await store.revision(), routes))).toEqual(["z=1", "b=2", "c=1"]);
      expect(names(await store.listAt((await store.revision()) + 5, routes))).toEqual(["z=1", "b=2", "c=1"]);
      expect((await store.listAt(b.revision, routes)).items[1]?.metadata.resourceVersion).toBe(String(b.revision));
      expect((await store.listAllAt(b.revision)).items.map((item) => item.key.name)).toEqual(["a", "b"]);
    });

    test("after compaction every revision from the oldest on can still be listed, and none before it", async () => {
      const states = new Map<Revision, unknown>();
      for (let at = 0; at < 30; at++) {
        const name = `n${at % 4}`;
        const there = await store.get(key(name));
        if (there === undefined) must(await store.create(key(name), object(name, at)));
        else if (at % 7 === 0) must(await store.delete(key(name), undefined));
        else must(await store.update(key(name), object(name, at), undefined));
        states.set(await store.revision(), (await store.list(routes)).items);
      }
      await store.compact(12);
      const oldest = await store.oldest();
      expect(oldest).toBe(12);
      for (const [revision, items] of states) {
        if (revision >= oldest) expect((await store.listAt(revision, routes)).items).toEqual(items as KubeObject[]);
        else expect(await thrown(store.listAt(revision, routes))).toBeInstanceOf(CompactedError);
      }
      expect(await thrown(store.listAllAt(3))).toBeInstanceOf(CompactedError);
    });

    test("a transaction happens as a whole, in order, each write with its own revision", async () => {
      const old = must(await store.create(key("old"), object("old", 1)));
      must(await store.create(key("gone"), object("gone", 1)));
      const seen: string[] = [];
      const watch = await store.watch(await store.revision(), undefined, (event) => seen.push(`${event.type} ${event.key.name}`));
      const done = await store.transact(
        [
          { verb: "create", key: key("new"), object: object("new", 1) },
          { verb: "update", key: key("old"), object: object("old", 2), expected: old.revision },
          { verb: "delete", key: key("gone"), expected: undefined },
        ],
        "tester",
      );
      if (!done.ok) throw new Error(done.reason);
      expect(done.results.map((result) => result.revision)).toEqual([3, 4, 5]);
      await until(() => seen.length === 3);
      watch.stop();
      expect(seen).toEqual(["added new", "modified old", "deleted gone"]);
      const past = await store.history({ limit: 3 });
      expect(past.map((entry) => [entry.revision, entry.transaction, entry.by])).toEqual([
        [5, 3, "tester"],
        [4, 3, "tester"],
        [3, 3, "tester"],
      ]);
    });

    test("a transaction of which one condition fails writes nothing and says which", async () => {
      const old = must(await store.create(key("old"), object("old", 1)));
      must(await store.update(key("old"), object("old", 2), undefined));
      const before = await store.revision();
      const writes = (expected: Revision) => [
        { verb: "create", key: key("new"), object: object("new", 1) } as const,
        { verb: "update", key: key("old"), object: object("old", 3), expected } as const,
      ];
      expect(await store.transact(writes(old.revision))).toMatchObject({ ok: false, key: key("old"), reason: "conflict", current: before });
      expect(
        await store.transact([
          { verb: "delete", key: key("old"), expected: undefined },
          { verb: "delete", key: key("none"), expected: undefined },
        ]),
      ).toMatchObject({ ok: false, key: key("none"), reason: "missing" });
      expect(await store.get(key("new"))).toBeUndefined();
      expect((await store.get(key("old")))?.spec).toEqual({ value: 2 });
      expect(await store.revision()).toBe(before);
      expect(await thrown(store.transact([...writes(before), { verb: "delete", key: key("old"), expected: undefined }]))).toBeInstanceOf(
        RangeError,
      );
    });

    test("a guard is asked about the revision that its write follows, and what it refuses is not written", async () => {
      const asked: Revision[] = [];
      const made = must(await store.create(key("a"), object("a", 1), "me", (head) => asked.push(head) > 0));
      expect(asked).toEqual([made.revision - 1]);
      const before = await store.revision();
      expect(await store.create(key("b"), object("b", 1), "me", async () => false)).toEqual({ ok: false, reason: "refused" });
      expect(await store.update(key("a"), object("a", 2), made.revision, "me", () => false)).toEqual({ ok: false, reason: "refused" });
      const writes = [{ verb: "create", key: key("c"), object: object("c", 1) }] as const;
      expect(await store.transact(writes, "me", () => false)).toEqual({ ok: false, key: key("c"), reason: "refused" });
      expect(await thrown(store.create(key("b"), object("b", 1), "me", () => Promise.reject(new Error("cannot tell"))))).toMatchObject({
        message: "cannot tell",
      });
      expect(await store.revision()).toBe(before);
      expect(await store.get(key("b"))).toBeUndefined();
    });

    test("a deletion may carry a guard too", async () => {
      must(await store.create(key("a"), object("a", 1)));
      expect(await store.delete(key("a"), undefined, "me", () => false)).toEqual({ ok: false, reason: "refused" });
      expect((await store.get(key("a")))?.spec).toEqual({ value: 1 });
      must(await store.delete(key("a"), undefined, "me", async () => true));
      expect(await store.get(key("a"))).toBeUndefined();
    });

    test("nothing comes between a guard's word and its write: of writers that each want to be the first, one is", async () => {
      for (let round = 0; round < 10; round++) {
        const seen: Revision[] = [];
        const first = await store.revision();
        const contenders = Array.from({ length: 6 }, (_, at) =>
          // Each takes its time over the verdict, so that others would come between.
          store.create(key(`r${round}-${at}`), object(`r${round}-${at}`, at), "me", async (head) => {
            seen.push(head);
            await Bun.sleep(at % 3);
            return (await store.list(routes)).items.every((item) => !item.metadata.name.startsWith(`r${round}-`));
          }),
        );
        // Unguarded writes beside them overtake, and hold nobody off for good.
        const others = Array.from({ length: 6 }, (_, at) => store.create(key(`other${round}-${at}`), object("other", at)));
        const results = await Promise.all(contenders);
        expect(results.filter((result) => result.ok).length).toBe(1);
        expect(results.filter((result) => !result.ok && result.reason === "refused").length).toBe(5);
        expect((await Promise.all(others)).every((result) => result.ok)).toBe(true);
        expect(seen.every((head) => head >= first)).toBe(true);
      }
    }, 30_000);

    test("history tells what was written, by whom, newest first, of everything or of one object", async () => {
      must(await store.create(key("a"), object("a", 1), "alice"));
      must(await store.update(key("a"), object("a", 2), undefined));
      must(await store.create({ resource: "services", namespace: "shop", name: "s" }, object("s", 0), "bob"));
      must(await store.delete(key("a"), undefined, "bob"));
      const told = (entries: readonly HistoryEntry[]) =>
        entries.map((entry) => `${entry.revision} ${entry.by} ${entry.type} ${entry.key.name}`);
      expect(told(await store.history({ limit: 10 }))).toEqual(["4 bob deleted a", "3 bob added s", "2  modified a", "1 alice added a"]);
      expect(told(await store.history({ limit: 10, withAuthor: true, resource: routes, namespace: "shop", name: "a" }))).toEqual([
        "4 bob deleted a",
        "1 alice added a",
      ]);
      expect(told(await store.history({ limit: 1, before: 3 }))).toEqual(["2  modified a"]);
      const [last] = await store.history({ limit: 1 });
      expect(last?.object.spec).toEqual({ value: 2 });
      expect(Math.abs(Date.now() - (last?.atMs ?? 0))).toBeLessThan(60_000);
      await store.compact(3);
      expect(told(await store.history({ limit: 10 }))).toEqual(["4 bob deleted a", "3 bob added s"]);
    });

    test("a backup is a store of its own, true at the revision it names", async () => {
      const folder = mkdtempSync(join(tmpdir(), "weft-backup-"));
      try {
        must(await store.create(key("a"), object("a", 1), "alice"));
        const { revision } = await store.backup(join(folder, "copy"));
        must(await store.update(key("a"), object("a", 2), undefined));
        expect(statSync(join(folder, "copy")).mode & 0o777).toBe(0o600);
        const copy = await medium.openCopy(join(folder, "copy"));
        expect(await copy.revision()).toBe(revision);
        expect((await copy.get(key("a")))?.spec).toEqual({ value: 1 });
        expect((await copy.history({ limit: 1 }))[0]?.by).toBe("alice");
        await copy.close();
        expect(String(await thrown(store.backup(join(folder, "copy"))))).toMatch(/copy/);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });

    test("an object over the limit is refused by name and size, one just under it is kept", async () => {
      const large = object("large", 0);
      large.spec = { text: "x".repeat(maxObjectBytes) };
      expect(await thrown(store.create(key("large"), large))).toBeInstanceOf(ObjectTooLargeError);
      expect(String(await thrown(store.create(key("large"), large)))).toMatch(/shop\/large is 15\d+ bytes of JSON; the limit is 1572864/);
      // Three bytes in UTF-8, one unit in a JavaScript string.
      large.spec = { text: "€".repeat(maxObjectBytes / 3) };
      expect(await thrown(store.create(key("large"), large))).toBeInstanceOf(ObjectTooLargeError);
      expect(await store.revision()).toBe(0);
      large.spec = { text: "x".repeat(maxObjectBytes - 300) };
      const made = must(await store.create(key("large"), large));
      expect((await store.get(key("large")))?.spec).toEqual(made.object.spec);
    });

    test("text of every kind comes back as it was", async () => {
      const odd = object("odd", 0);
      odd.metadata.annotations = { note: "quotes \" ' ; -- \\ \u0000 \u2028 ü 🦊\ud800", "": "" };
      const made = must(await store.create(key("odd"), odd));
      expect((await store.get(key("odd")))?.metadata.annotations).toEqual(odd.metadata.annotations);
      expect(made.object.metadata.annotations).toEqual(odd.metadata.annotations);
    });

    test("closed and opened again: objects, revisions and history are all there", async () => {
      const start = await store.revision();
      const one = must(await store.create(key("a"), object("a", 1)));
      const two = must(await store.update(key("a"), object("a", 2), one.revision));
      must(await store.create(key("b"), object("b", 1)));
      const gone = must(await store.delete(key("b"), undefined));
      await store.close();
      store = await medium.open();
      expect(await store.revision()).toBe(gone.revision);
      expect(await store.get(key("a"))).toEqual(two.object);
      const seen: string[] = [];
      const watch = await store.watch(start, undefined, (event) => seen.push(`${event.type} ${event.key.name}`));
      await until(() => seen.length === 4);
      watch.stop();
      expect(seen).toEqual(["added a", "modified a", "added b", "deleted b"]);
      expect(must(await store.create(key("c"), object("c", 1))).revision).toBeGreaterThan(gone.revision);
    });

    test("a closed store says so", async () => {
      await store.close();
      expect(String(await thrown(store.create(key("a"), object("a", 1))))).toMatch(/closed/);
      expect(String(await thrown(store.get(key("a"))))).toMatch(/closed/);
      expect(String(await thrown(store.watch(0, undefined, () => {})))).toMatch(/closed/);
      store = await medium.open();
      expect((await store.listAll()).items).toEqual([]);
    });
  });
}

export function key(name: string): ObjectKey {
  return { resource: routes, namespace: "shop", name };
}

export function object(name: string, value: number, namespace = "shop"): KubeObject {
  return { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", metadata: { name, namespace }, spec: { value } };
}

export function must(result: WriteResult | undefined): Extract<WriteResult, { ok: true }> {
  if (result === undefined || !result.ok) throw new Error(`write failed: ${JSON.stringify(result)}`);
  return result;
}

/** What a promise was rejected with. Not `expect().rejects`: that holds up the loop on which a store over the network hears its answers. */
async function thrown(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected a rejection");
}

/** Polls until `true_` holds; fails loudly after five seconds. */
export async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited five seconds for: ${holds}`);
    await Bun.sleep(1);
  }
}
