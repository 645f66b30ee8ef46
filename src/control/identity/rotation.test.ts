// The steps of a root's replacement, over deaths of the control plane at every write, and what each step waits for.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PausedClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type Authority, openAuthority } from "./authority.ts";
import { isEncrypted, readPassphrase } from "./key-file.ts";
import { type Holder, RootRotation, type TrustReport } from "./rotation.ts";
import { type CaFiles, finished, folderStore, readCaFolder, readRotation, writeRotation } from "./rotation-state.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const root = mkdtempSync(join(tmpdir(), "weft-rotation-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
const passphrase = readPassphrase(undefined, "correct horse battery staple");
const dayMs = 24 * 3_600_000;

async function world(name: string, secret = undefined as typeof passphrase) {
  const dir = join(root, name);
  const clock = new PausedClock(Date.now());
  const open = () => openAuthority({ dir, trustDomain: undefined, clock, random, passphrase: secret });
  const authority = await open();
  const state = { holders: [] as Holder[], others: [] as (TrustReport | string)[], known: [] as string[], leads: true };
  const steps: string[] = [];
  const make = (of: Authority) =>
    new RootRotation({
      authority: of,
      store: folderStore(dir),
      clock,
      log: silentLogger,
      own: () => ({ id: "a", rootsPem: of.rootPem, holders: state.holders }),
      others: async () => state.others,
      known: () => state.known,
      leads: () => state.leads,
      shared: false,
      onStep: (words) => steps.push(words),
    });
  const rotation = make(authority);
  /** As many rounds as it takes. */
  const tick = async (rounds = 3) => {
    for (let n = 0; n < rounds; n++) {
      clock.advance(1_000);
      await Bun.sleep(3);
    }
  };
  const holder = (key: string, more: Partial<Holder> = {}): Holder => ({
    key,
    rootsPem: authority.rootPem,
    problem: undefined,
    issuer: authority.issuing.certificate.fingerprint,
    ...more,
  });
  return { dir, clock, authority, rotation, state, steps, tick, holder, open, make };
}

describe("each step waits for those whom it would cut off", () => {
  test("from the first to the last", async () => {
    const w = await world("steps");
    const { authority, rotation, state } = w;
    const oldRoot = authority.rootPem;
    const oldIssuer = authority.issuing.certificate.fingerprint;
    state.known = ["shop/a", "shop/b"];
    state.holders = [w.holder("shop/a")];
    await rotation.start();
    expect(authority.rootPem).toStartWith(oldRoot);
    expect(authority.issuing.certificate.fingerprint).toBe(oldIssuer);
    await expect(rotation.start()).rejects.toThrow(/is being replaced already/);
    await w.tick();
    expect((await rotation.status()).rotation).toMatchObject({ phase: "distributing", waitingFor: ["shop/b (not connected)", "shop/a"] });
    await expect(rotation.finish(false)).rejects.toThrow(/have not got the new root yet: shop\/b \(not connected\); shop\/a\. .*--force/);

    state.holders = [w.holder("shop/a"), w.holder("shop/b", { rootsPem: oldRoot, problem: "does not like it" })];
    await w.tick();
    expect((await rotation.status()).rotation?.waitingFor).toEqual(["shop/b (does not like it)"]);
    state.holders = [w.holder("shop/a"), w.holder("shop/b")];
    state.others = ["control plane b at https://b does not answer"];
    await w.tick();
    expect((await rotation.status()).rotation?.phase).toBe("distributing");
    state.others = [{ id: "b", rootsPem: oldRoot, holders: [] }];
    await w.tick();
    expect((await rotation.status()).rotation?.waitingFor).toEqual(["control plane b has not taken it up yet"]);
    state.others = [{ id: "b", rootsPem: authority.rootPem, holders: [] }];
    state.leads = false;
    await w.tick();
    expect((await rotation.status()).rotation?.phase).toBe("distributing");
    state.leads = true;
    await w.tick();
    expect((await rotation.status()).rotation?.phase).toBe("issuing");
    expect(authority.issuing.certificate.fingerprint).not.toBe(oldIssuer);
    expect(authority.rootPem).toEndWith(oldRoot);

    state.others = [];
    state.holders = [w.holder("shop/a"), w.holder("shop/b", { issuer: oldIssuer })];
    await expect(rotation.finish(false)).rejects.toThrow(/shop\/b \(has a certificate of the other root still\)/);
    // By itself it ends when no certificate can be alive.
    w.clock.advance(dayMs + 660_000);
    await w.tick();
    expect((await rotation.status()).rotation?.phase).toBe("issuing");
    state.holders = [w.holder("shop/a"), w.holder("shop/b")];
    await w.tick();
    expect((await rotation.status()).rotation).toBeNull();
    expect(authority.rootPem).not.toContain(oldRoot.trim());
    expect(readFileSync(join(w.dir, "ca.crt"), "utf8").trim()).toBe(authority.rootPem.trim());
    expect(readFileSync(join(w.dir, "ca.retired"), "utf8")).toContain(oldRoot.trim());
    expect(w.steps.length).toBe(3);
  });

  test("force goes on, and giving up goes back", async () => {
    const w = await world("force");
    const { authority, rotation, state } = w;
    const oldRoot = authority.rootPem;
    state.known = ["shop/away"];
    await rotation.start();
    await rotation.abandon();
    expect(authority.rootPem).toBe(oldRoot);
    await expect(rotation.abandon()).rejects.toThrow(/there is nothing to give up/);
    await rotation.start();
    const { startedAt } = (await rotation.status()).rotation!;
    await expect(rotation.start()).rejects.toThrow(`(distributing, since ${startedAt})`);
    w.clock.advance(600_000);
    await rotation.finish(true);
    expect((await rotation.status()).rotation?.phase).toBe("issuing");
    // As `weft ca status` says it: how long it has been in this phase.
    const { switchedAt } = (await rotation.status()).rotation!;
    expect(switchedAt).not.toBe(startedAt);
    await expect(rotation.start()).rejects.toThrow(`(issuing, since ${switchedAt})`);
    await rotation.abandon();
    expect((await rotation.status()).rotation?.phase).toBe("returning");
    await expect(rotation.start()).rejects.toThrow(/weft ca finish ends it at once/);
    expect(authority.issuing.certificate.pem.trim()).toBe(oldRoot.trim());
    await expect(rotation.abandon()).rejects.toThrow(/has been given up already/);
    await expect(rotation.finish(false)).rejects.toThrow(/shop\/away \(not connected\)/);
    await rotation.finish(true);
    expect(authority.rootPem).toBe(oldRoot);
    expect(authority.rotation).toBeUndefined();
  });

  test("two at once: one is told that the other was first", async () => {
    const w = await world("twice");
    const second = w.make(await w.open());
    const outcomes = await Promise.allSettled([w.rotation.start(), second.start()]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  });

  test("a given authority is replaced by its files", async () => {
    const w = await world("given");
    const rotation = new RootRotation({
      authority: w.authority,
      store: undefined,
      clock: w.clock,
      log: silentLogger,
      own: () => ({ id: "a", rootsPem: w.authority.rootPem, holders: [] }),
      others: async () => [],
      known: () => [],
      leads: () => true,
      shared: false,
      onStep: () => {},
    });
    await expect(rotation.start()).rejects.toThrow(/is given by --ca-cert: put the new root beside the old one into the file of --ca-root/);
  });
});

describe("what is kept", () => {
  test("is taken up by the next start, in each phase, under the passphrase", async () => {
    const w = await world("kept", passphrase);
    await w.rotation.start();
    let again = await w.open();
    expect(again.rotation?.phase).toBe("distributing");
    expect(again.rootPem).toBe(w.authority.rootPem);
    expect(isEncrypted(again.rotation?.next.keyPem ?? "")).toBe(true);
    await w.rotation.finish(true);
    again = await w.open();
    expect(again.rotation?.phase).toBe("issuing");
    expect(again.issuing.certificate.pem).toBe(w.authority.issuing.certificate.pem);
    await w.rotation.finish(true);
    again = await w.open();
    expect(again.rotation).toBeUndefined();
    expect(again.rootPem).toBe(w.authority.rootPem);
    expect(isEncrypted(readFileSync(join(w.dir, "ca.key"), "utf8"))).toBe(true);
  });

  test("survives a death between any two of its files", async () => {
    const w = await world("cut");
    await w.rotation.start();
    await w.rotation.finish(true);
    const before = readCaFolder(w.dir) as CaFiles;
    const state = readRotation(before.rotation as string);
    const after = finished(before, state);
    // As the folder is written: note, retired, key, certificate, note gone.
    const writes: readonly (readonly [name: string, text: string])[] = [
      ["ca.rotation", writeRotation({ ...state, phase: "finishing" })],
      ["ca.retired", after.retired],
      ["ca.key", after.keyPem],
      ["ca.crt", after.certificatePem],
    ];
    for (let cut = 0; cut <= writes.length; cut++) {
      const dir = join(root, `cut-${cut}`);
      cpSync(w.dir, dir, { recursive: true });
      for (const [name, text] of writes.slice(0, cut)) writeFileSync(join(dir, name), text, { mode: 0o600 });
      const opened = await openAuthority({ dir, trustDomain: undefined, clock: w.clock, random });
      expect(opened.issuing.certificate.pem.trim()).toBe(state.next.certificatePem.trim());
      expect(opened.rotation?.phase).toBe(cut === 0 ? "issuing" : undefined);
      if (cut > 0) expect(readFileSync(join(dir, "ca.retired"), "utf8").match(/BEGIN/g)?.length).toBe(1);
    }
  });

  test("that is damaged is said by name", async () => {
    const w = await world("damaged");
    writeFileSync(join(w.dir, "ca.rotation"), "{");
    await expect(w.open()).rejects.toThrow(/ca\.rotation cannot be read: it is damaged/);
  });
});
