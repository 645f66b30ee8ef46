// What etcd and the network do to a store: compaction under a watch, lost answers, logins refused, quotas, keys of others.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeObject } from "../../src/api/meta.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { copyStore } from "../../src/control/copy.ts";
import { offerShared, readShared, seal, shareFiles, unseal } from "../../src/control/lease/secrets.ts";
import { breakLease, Session } from "../../src/control/lease/session.ts";
import { key, must, object, until } from "../../src/control/store/contract.ts";
import type { EtcdAddress } from "../../src/control/store/etcd/connection.ts";
import { type EtcdStore, openEtcdStore } from "../../src/control/store/etcd/store.ts";
import { FencedError } from "../../src/control/store/fence.ts";
import { openSqliteStore } from "../../src/control/store/sqlite.ts";
import type { Store } from "../../src/control/store/store.ts";
import { frontCertificate } from "../support/certificate.ts";
import { EtcdServers } from "../support/etcd.ts";
import { needsPeers } from "../support/peers.ts";
import { Relay } from "../support/relay.ts";

describe.skipIf(!needsPeers("etcd-faults.test.ts", "etcd", "openssl"))("a store in etcd", () => {
  let servers: EtcdServers;
  let serial = 0;
  const stores: EtcdStore[] = [];
  beforeAll(async () => {
    servers = await EtcdServers.start();
  }, 30_000);
  afterAll(async () => {
    for (const store of stores) await store.close();
    await servers?.stop();
  }, 30_000);
  const fresh = () => `/faults-${++serial}`;
  const address = (prefix: string, more: Partial<EtcdAddress> = {}): EtcdAddress => ({
    members: servers.addresses.split(","),
    prefix,
    tls: undefined,
    user: undefined,
    ...more,
  });
  const open = async (prefix: string, more: Partial<EtcdAddress> = {}, options: Parameters<typeof openEtcdStore>[1] = {}) => {
    const store = await openEtcdStore(address(prefix, more), options);
    stores.push(store);
    return store;
  };
  const why = async (run: () => Promise<unknown>): Promise<string> => {
    try {
      await run();
    } catch (cause) {
      expect((cause as Error).name).toMatch(/StoreFailure|IdentityError/);
      return (cause as Error).message;
    }
    throw new Error("expected a refusal");
  };
  const gateway = async (at: string, path: string, body: unknown): Promise<void> => {
    const answer = await fetch(`http://${at}/v3/${path}`, { method: "POST", body: JSON.stringify(body), proxy: "" });
    if (!answer.ok) throw new Error(await answer.text());
  };

  test("is followed through etcd's own compaction and broken connections, each event once", async () => {
    const prefix = fresh();
    const writer = await open(prefix);
    const relay = await Relay.start(() => servers.members[0]?.clientPort as number);
    const reader = await open(prefix, { members: [`127.0.0.1:${relay.port}`] });
    const seen: number[] = [];
    await reader.watch(0, undefined, (event) => seen.push(event.revision));
    let last = must(await writer.create(key("a"), object("a", 0))).revision;
    for (let round = 0; round < 4; round++) {
      relay.cut();
      for (let at = 0; at < 10; at++) last = must(await writer.update(key("a"), object("a", at), undefined)).revision;
      // Everything that a watch would have begun at is gone.
      const { etcd } = await writer.rows.head();
      await gateway(servers.addresses, "kv/compaction", { revision: String(etcd) });
      relay.open();
      await until(() => seen.at(-1) === last);
    }
    expect(seen).toEqual(Array.from({ length: last }, (_, at) => at + 1));
    relay.stop();
  }, 20_000);

  test("that was trimmed beyond what a cut-off control plane had seen tells it to begin anew", async () => {
    const prefix = fresh();
    const writer = await open(prefix);
    const relay = await Relay.start(() => servers.members[0]?.clientPort as number);
    let lost = "";
    const reader = await open(prefix, { members: [`127.0.0.1:${relay.port}`] }, { onLost: (said) => (lost = said) });
    must(await writer.create(key("a"), object("a", 0)));
    await until(() => reader.silence.forMs === 0);
    relay.cut();
    for (let at = 0; at < 10; at++) must(await writer.update(key("a"), object("a", at), undefined));
    await writer.compact(9);
    relay.open();
    await until(() => lost !== "");
    expect(lost).toMatch(/history is kept from 9 on only/);
    relay.stop();
  }, 20_000);

  test("loses no acknowledged write and makes none twice while connections break", async () => {
    const prefix = fresh();
    const relays = await Promise.all([0, 1, 2].map(() => Relay.start(() => servers.members[0]?.clientPort as number)));
    const planes = await Promise.all(relays.map((relay) => open(prefix, { members: [`127.0.0.1:${relay.port}`] })));
    must(await (planes[0] as Store).create(key("counter"), object("counter", 0)));
    let acknowledged = 0;
    let unknown = 0;
    let running = true;
    const breaking = (async () => {
      while (running) {
        await Bun.sleep(15 + Math.random() * 30);
        relays[Math.floor(Math.random() * 3)]?.breakAll();
      }
    })();
    await Promise.all(
      planes.map(async (plane) => {
        for (let done = 0; done < 20; ) {
          try {
            const now = await plane.get(key("counter"));
            const { value } = (now as KubeObject).spec as { value: number };
            const result = await plane.update(
              key("counter"),
              object("counter", value + 1),
              Number((now as KubeObject).metadata.resourceVersion),
            );
            if (!result.ok) continue;
            acknowledged++;
            done++;
          } catch (cause) {
            if (/not known whether/.test(String(cause))) unknown++;
          }
        }
      }),
    );
    running = false;
    await breaking;
    const end = ((await (planes[1] as Store).get(key("counter"))) as KubeObject).spec as { value: number };
    expect(acknowledged).toBe(60);
    expect(end.value).toBeGreaterThanOrEqual(acknowledged);
    expect(end.value).toBeLessThanOrEqual(acknowledged + unknown);
    // One revision a write: none was carried out twice.
    expect(await (planes[2] as Store).revision()).toBe(end.value + 1);
    for (const relay of relays) relay.stop();
  }, 30_000);

  test("refuses a writer whose lease has ended, whatever it believes", async () => {
    const prefix = fresh();
    const [one, two] = [await open(prefix), await open(prefix)];
    const terms = new Map<string, Store>();
    const session = (store: EtcdStore, id: string) =>
      new Session({
        store,
        clock: systemClock,
        random: Math.random,
        log: silentLogger,
        id,
        begin: (fenced) => terms.set(id, fenced),
        end: () => undefined,
      });
    const [a, b] = [session(one, "a"), session(two, "b")];
    const self = (id: string) => ({ id, xdsAddress: "127.0.0.1:1", apiUrl: "", version: "" });
    await a.start(self("a"));
    await b.start(self("b"));
    expect([a.leading, b.leading]).toEqual([true, false]);
    expect(b.members.map((member) => member.id).sort()).toEqual(["a", "b"]);
    for (let at = 0; at < 4; at++) must(await (terms.get("a") as Store).create(key(`by-a-${at}`), object("by-a", at)));
    await breakLease(one, "a");
    const refused = await why(async () => (terms.get("a") as Store).create(key("late"), object("late", 1)));
    expect(refused).toContain('no longer holds the lease "leader"');
    await (terms.get("a") as Store).compact(3).then(
      () => {
        throw new Error("expected a refusal");
      },
      (cause: unknown) => expect(String(cause)).toMatch(/another control plane/),
    );
    expect(await one.get(key("late"))).toBeUndefined();
    await a.stop();
    await until(() => b.leading);
    must(await (terms.get("b") as Store).create(key("by-b"), object("by-b", 1)));
    await b.stop();
    expect(new FencedError("x").name).toBe("StoreFailure");
  }, 20_000);

  test("that cannot be reached, or holds keys of others, is refused in words", async () => {
    expect(await why(() => openEtcdStore(address("/x", { members: ["127.0.0.1:1"] }), { totalTimeoutMs: 300 }))).toMatch(
      /etcd \(127\.0\.0\.1:1\) cannot be reached/,
    );
    const store = await open(fresh());
    await store.rows.connection.txn(
      (await import("../../src/control/store/etcd/requests.ts")).transaction(
        [],
        [(await import("../../src/control/store/etcd/requests.ts")).put("/other/key", "1")],
        [],
      ),
      true,
    );
    expect(await why(() => openEtcdStore(address("/other")))).toMatch(/keys of another program below \/other \(\/other\/key\)/);
  });

  test("asks for a login in words, and takes the right one", async () => {
    const guarded = await EtcdServers.start();
    try {
      const at = guarded.addresses;
      await gateway(at, "auth/role/add", { name: "root" });
      for (const name of ["root", "weft", "guest"]) await gateway(at, "auth/user/add", { name, password: `${name}-secret` });
      await gateway(at, "auth/user/grant", { user: "root", role: "root" });
      await gateway(at, "auth/role/add", { name: "weft" });
      const bytes = (text: string) => Buffer.from(text).toString("base64");
      await gateway(at, "auth/role/grant", {
        name: "weft",
        perm: { permType: "READWRITE", key: bytes("/weft/"), range_end: bytes("/weft0") },
      });
      await gateway(at, "auth/user/grant", { user: "weft", role: "weft" });
      await gateway(at, "auth/enable", {});
      const as = (name: string | undefined, password = "") =>
        openEtcdStore({
          members: [at],
          prefix: "/weft",
          tls: undefined,
          user: name === undefined ? undefined : { name, password: () => password },
        });
      expect(await why(() => as(undefined))).toMatch(/asks for a user and a password; give --etcd-user/);
      expect(await why(() => as("weft", "wrong"))).toMatch(/refuses the password of user "weft"/);
      expect(await why(() => as("guest", "guest-secret"))).toMatch(/does not let user "guest" read and write/);
      const store = await as("weft", "weft-secret");
      const seen: string[] = [];
      await store.watch(0, undefined, (event) => seen.push(event.key.name));
      must(await store.create(key("a"), object("a", 1)));
      await until(() => seen.length === 1);
      await store.close();
    } finally {
      await guarded.stop();
    }
  }, 30_000);

  test("is reached by TLS with a client certificate, and says what is wrong with others", async () => {
    const dir = mkdtempSync(join(tmpdir(), "weft-tls-"));
    await frontCertificate(dir);
    const [certificateFile, keyFile] = [join(dir, "front.crt"), join(dir, "front.key")];
    const flags = ["--cert-file", certificateFile, "--key-file", keyFile, "--trusted-ca-file", certificateFile, "--client-cert-auth"];
    const secure = await EtcdServers.start({ tls: true, flags });
    const by = (tls: EtcdAddress["tls"], totalTimeoutMs = 6_000) =>
      openEtcdStore({ members: [secure.addresses], prefix: "/weft", tls, user: undefined }, { totalTimeoutMs });
    try {
      const store = await by({ caFile: certificateFile, certificateFile, keyFile }, 15_000);
      must(await store.create(key("a"), object("a", 1)));
      await store.close();
      // Its certificate names the address, and no host.
      const named = secure.addresses.replace("127.0.0.1", "localhost");
      const other = () =>
        openEtcdStore(
          { members: [named], prefix: "/weft", tls: { caFile: certificateFile, certificateFile, keyFile }, user: undefined },
          { totalTimeoutMs: 500 },
        );
      expect(await why(other)).toMatch(/cannot be reached.*localhost/);
      expect(await why(() => by({ caFile: certificateFile }, 500))).toMatch(/etcd \(127\.0\.0\.1:\d+\) cannot be reached/);
      expect(await why(() => by({ certificateFile, keyFile }, 500))).toMatch(/cannot be reached.*(self.signed|certificate)/i);
      expect(await why(() => by({ caFile: join(dir, "none.crt") }, 500))).toMatch(/--etcd-ca .*none\.crt cannot be read \(ENOENT\)/);
    } finally {
      await secure.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  }, 30_000);

  test("whose quota is used up says so, and reads go on", async () => {
    const small = await EtcdServers.start({ flags: ["--quota-backend-bytes", String(1024 * 1024)] });
    const store = await openEtcdStore({ members: [small.addresses], prefix: "/weft", tls: undefined, user: undefined });
    try {
      must(await store.create(key("kept"), object("kept", 1)));
      const words = await why(async () => {
        for (let at = 0; at < 100; at++) await store.create(key(`n${at}`), { ...object(`n${at}`, at), spec: { text: "x".repeat(30_000) } });
      });
      expect(words).toMatch(/has used up its space quota; nothing was written\..*etcdctl compact/);
      expect((await store.get(key("kept")))?.spec).toEqual({ value: 1 });
    } finally {
      await store.close();
      await small.stop();
    }
  }, 30_000);

  test("shares one certificate authority, sealed if asked, and refuses a second one", async () => {
    const prefix = fresh();
    const { rows } = await open(prefix);
    const root = mkdtempSync(join(tmpdir(), "weft-shared-"));
    const folder = (name: string) => mkdtempSync(join(root, name));
    try {
      const { openAuthority } = await import("../../src/control/identity/authority.ts");
      const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
      const make = async (dir: string) => {
        await openAuthority({ dir, trustDomain: "mesh.test", clock: systemClock, random });
      };
      const sealKey = new Uint8Array(32).fill(7);
      const [a, b, c] = [folder("a"), folder("b"), folder("c")];
      // Two first starts at once: one authority comes out.
      const made = await Promise.all([shareFiles(rows, a, sealKey, make), shareFiles(rows, b, sealKey, make)]);
      expect(made.filter(Boolean)).toHaveLength(1);
      const text = async (dir: string, name: string) => await Bun.file(join(dir, name)).text();
      expect(await text(a, "ca.key")).toBe(await text(b, "ca.key"));
      expect(await shareFiles(rows, a, sealKey, make)).toBe(false);
      await make(c);
      expect(await why(() => shareFiles(rows, c, sealKey, make))).toMatch(
        /two certificate authorities claim one mesh: .*trust domain mesh\.test.*empty folder/,
      );
      const raw = await rows.several([{ from: `${rows.layout.secrets}ca.key` }]);
      expect(Buffer.from(raw[0]?.kvs[0]?.value ?? []).toString()).not.toContain("PRIVATE KEY");
      expect(await why(() => readShared(rows, undefined))).toMatch(/is sealed; give the file/);
      expect(await why(() => readShared(rows, new Uint8Array(32)))).toMatch(/sealed with another key/);
      expect(unseal(sealKey, "n", seal(sealKey, "n", "text"))).toBe("text");
      expect(await offerShared(rows, sealKey, new Map([["ca.key", "another"]]))).toBe(false);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  }, 20_000);

  test("is copied from SQLite and back with every revision, and the copies are the same", async () => {
    const root = mkdtempSync(join(tmpdir(), "weft-copy-"));
    try {
      const from = join(root, "from");
      const store = (await import("node:fs")).mkdirSync(from) === undefined ? openSqliteStore(join(from, "weft.db")) : undefined;
      if (store === undefined) throw new Error("no store");
      for (let at = 0; at < 300; at++) must(await store.create(key(`n${at}`), object(`n${at}`, at), at % 3 === 0 ? "alice" : ""));
      must(await store.update(key("n3"), { ...object("n3", 0), spec: { text: "y".repeat(900_000) } }, undefined));
      must(await store.delete(key("n3"), undefined, "bob"));
      must(await store.create(key("n3"), { ...object("n3", 0), spec: { text: "z".repeat(900_000) } }));
      await store.compact(100);
      await store.close();
      for (const name of ["ca.crt", "ca.key", "signing.key", "admin.token"])
        writeFileSync(join(from, name), `${name} of the test\n`, { mode: 0o600 });
      const prefix = fresh();
      const middle = { kind: "etcd", address: address(prefix) } as const;
      const options = { online: false, sealKey: undefined };
      const there = await copyStore({ kind: "sqlite", dir: from }, middle, options);
      const back = await copyStore(middle, { kind: "sqlite", dir: join(root, "back") }, options);
      expect(there).toEqual(back);
      expect(there).toMatchObject({ revision: 303, objects: 300 });
      expect(await Bun.file(join(root, "back", "ca.key")).text()).toBe("ca.key of the test\n");
      const shared = await open(prefix);
      expect((await shared.history({ limit: 2 })).map((entry) => [entry.revision, entry.type, entry.by])).toEqual([
        [303, "added", ""],
        [302, "deleted", "bob"],
      ]);
      expect((await shared.listAt(301, key("").resource)).items.find((item) => item.metadata.name === "n3")?.spec).toEqual({
        text: "y".repeat(900_000),
      });
      const words = await why(() => copyStore({ kind: "sqlite", dir: from }, middle, options));
      expect(words).toMatch(/etcd holds a store at revision 303/);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  }, 30_000);
});
