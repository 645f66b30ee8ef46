// What a control plane says of trust, as a proxy takes it: roots that overlap, a deny list, and what is refused although it was told.

import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { PausedClock } from "../../base/clock.ts";
import { type Logger, silentLogger } from "../../base/log.ts";
import { MetricRegistry } from "../../base/metric.ts";
import { meshRootsSecret } from "../../wire/names.ts";
import { backdateMs, emptyDenyList, readDenyList, writeDenyList } from "../../wire/trust.ts";
import { contentOf, decodeSnapshot, encodeSnapshot } from "../snapshot/format.ts";
import { Denied } from "../tls/denied.ts";
import { secretOf, svidResponse } from "../workload-api/answers.ts";
import { decodeBinary } from "../xds/proto/binary.ts";
import { Secret, X509SvidResponse } from "../xds/proto/types.ts";
import { createTestAuthority, type TestAuthority } from "../xds/testing.ts";
import { checkIssuedChain } from "./chain.ts";
import { createKeyAndRequest } from "./csr.ts";
import { Identity } from "./identity.ts";
import { KeyPair } from "./key-pair.ts";

// Programs are started, and keys stretched: a busy machine takes its time.
setDefaultTimeout(60_000);

const uri = "spiffe://cluster.local/ns/shop/sa/cart";
let first: TestAuthority;
let second: TestAuthority;
let stranger: TestAuthority;
beforeAll(() => {
  [first, second, stranger] = [createTestAuthority("one"), createTestAuthority("two"), createTestAuthority("stranger")];
});
afterAll(() => {
  for (const authority of [first, second, stranger]) authority.close();
});
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

function held(denied?: string) {
  const told = { changed: 0, accepted: 0, words: [] as string[] };
  const note = (_facts: object, words: string) => told.words.push(words);
  const log: Logger = { ...silentLogger, info: note, warn: note, error: note };
  const clock = new PausedClock(Date.now());
  const identity = new Identity({
    clock,
    log,
    random: () => 0.5,
    metrics: new MetricRegistry(),
    uri,
    changed: () => told.changed++,
    accepted: () => told.accepted++,
  });
  stops.push(() => identity.stop());
  const { cert, key } = first.issue(`URI:${uri}`);
  const kept = { certificate: new KeyPair(cert, key), rootsPem: first.caPem, ...(denied === undefined ? {} : { denied }) };
  const problem = identity.restore(kept);
  return { identity, told, problem, serial: identity.status()[0]?.serial ?? "" };
}

const roots = (...pems: string[]) => ({ rootsPem: pems.join(""), crlPem: "", denyList: undefined });
const count = (pem: string | undefined): number => pem?.match(/BEGIN/g)?.length ?? 0;

describe("roots", () => {
  test("that overlap are taken, told on, and kept; the same again changes nothing", async () => {
    const { identity, told } = held();
    const before = identity.generation;
    expect(await identity.takeTrust(roots(first.caPem, second.caPem))).toBeUndefined();
    expect(count(identity.roots(meshRootsSecret))).toBe(2);
    expect(count(identity.trusted())).toBe(2);
    expect(count(identity.kept()?.rootsPem)).toBe(2);
    expect(identity.generation).toBe(before + 1);
    expect(told).toMatchObject({ changed: 1, accepted: 1 });
    expect(await identity.takeTrust(roots(first.caPem, second.caPem))).toBeUndefined();
    expect(told).toMatchObject({ changed: 1, accepted: 1 });
    expect(told.words.join()).not.toContain("renewed");
  });

  test("of which another one issues make it renew", async () => {
    const { identity, told } = held();
    await identity.takeTrust(roots(second.caPem, first.caPem));
    expect(told.words.at(-1)).toBe("Another root issues now: the certificate is renewed.");
    // And on: the old one is dropped. What vouches for us no more was trusted a moment ago, and so is its successor.
    expect(await identity.takeTrust(roots(second.caPem))).toBeUndefined();
    expect(count(identity.roots(meshRootsSecret))).toBe(1);
  });

  test("of another authority are refused in words, and what was held stays", async () => {
    const { identity, told } = held();
    expect(await identity.takeTrust(roots(stranger.caPem))).toMatch(
      /two certificate authorities claim the trust domain of spiffe:\/\/cluster\.local/,
    );
    expect(await identity.takeTrust(roots(""))).toBe("the bundle of roots is empty");
    expect(identity.roots(meshRootsSecret)?.trim()).toBe(first.caPem.trim());
    expect(told.changed).toBe(0);
  });

  test("of an issued chain may overlap; one that has had its time does not spoil the others", async () => {
    const key = await createKeyAndRequest(uri);
    const leaf = second.signRequest(key.csrPem);
    const found = await checkIssuedChain([leaf, second.caPem + first.caPem], key.publicKey, uri, Date.now());
    expect(found).toMatchObject({ uri });
    expect(await checkIssuedChain([leaf, first.caPem + stranger.caPem], key.publicKey, uri, Date.now())).toMatch(
      /does not lead to the root/,
    );
  });
});

describe("the deny list", () => {
  const list = (serials: string[], identities: { uri: string; issuedBefore: number | null }[] = []) =>
    writeDenyList({ serials, identities });

  test("is taken, survives in the snapshot, and an empty one is none", async () => {
    const { identity } = held();
    expect(identity.denied()).toBeNull();
    await identity.takeTrust({ rootsPem: undefined, crlPem: "", denyList: list(["AB"]) });
    expect(identity.denied()?.why({ serial: "00ab", notBeforeMs: 0, principal: null })).toContain("has been revoked");
    const resources = { cluster: [], endpoint: [], listener: [], route: [] };
    const owner = { node: "sidecar~shop~cart", trustDomain: "cluster.local" };
    const file = encodeSnapshot(contentOf({ resources, identity: identity.kept() } as never, owner, "0.1.0"), 1);
    const read = decodeSnapshot(file, owner);
    if ("message" in read) throw new Error(read.message);
    expect(held(read.identity?.denied).identity.denied()?.list).toEqual(readDenyList(list(["AB"])));
    await identity.takeTrust({ rootsPem: undefined, crlPem: "", denyList: writeDenyList(emptyDenyList) });
    expect(identity.denied()).toBeNull();
  });

  test("that cannot be understood whole is refused, and the one before stays", async () => {
    const { identity } = held();
    await identity.takeTrust({ rootsPem: undefined, crlPem: "", denyList: list(["AB"]) });
    for (const text of ["", "null", "{}", '{"serials":["x"],"identities":[]}', '{"serials":[],"identities":[{"uri":1}]}'])
      await expect(identity.takeTrust({ rootsPem: undefined, crlPem: "", denyList: text })).rejects.toThrow();
    expect(identity.denied()?.list.serials).toEqual(["AB"]);
    expect(held("{").problem).toBeDefined();
  });

  test("that names this proxy makes it ask anew", async () => {
    const { identity, told, serial } = held();
    await identity.takeTrust({ rootsPem: undefined, crlPem: "", denyList: list([serial]) });
    expect(told.words.at(-1)).toContain("This proxy's certificate is refused by everybody from now on");
  });

  test("names identities for good, or for what was issued before", () => {
    const at = Date.parse("2026-06-01T00:00:00Z");
    const denied = new Denied({
      serials: [],
      identities: [
        { uri: "spiffe://a/ns/x/sa/gone", issuedBefore: null },
        { uri: "spiffe://a/ns/x/sa/anew", issuedBefore: at / 1000 },
      ],
    });
    const why = (name: string, issuedMs: number) =>
      denied.why({ serial: "1", notBeforeMs: issuedMs - backdateMs, principal: `spiffe://a/ns/x/sa/${name}` });
    expect(why("gone", at + 1e9)).toContain("has been revoked");
    expect(why("anew", at - 1)).toContain("issued before 2026-06-01");
    expect(why("anew", at)).toBeNull();
    expect(why("other", 0)).toBeNull();
  });
});

test("lists for others are told at the local socket, beside the roots", () => {
  const crlPem = `-----BEGIN X509 CRL-----\n${Buffer.from("one").toString("base64")}\n-----END X509 CRL-----\n`;
  const svid = { uri, certificatePem: "", privateKeyPem: "", rootsPem: first.caPem };
  const read = (bytes: Uint8Array) => decodeBinary(X509SvidResponse, bytes, () => {});
  expect(read(svidResponse({ ...svid, crlPem })).crl.map((each) => Buffer.from(each).toString())).toEqual(["one"]);
  expect(read(svidResponse(svid)).crl).toEqual([]);
  const context = (of: typeof svid & { crlPem?: string }) => {
    const { type } = decodeBinary(Secret, secretOf(of, meshRootsSecret) as Uint8Array, () => {});
    return type.case === "validationContext" ? type.value : undefined;
  };
  expect(context({ ...svid, crlPem })).toMatchObject({ onlyVerifyLeafCertCrl: true, crl: { specifier: { case: "inlineBytes" } } });
  expect(context(svid)?.crl).toBeUndefined();
});
