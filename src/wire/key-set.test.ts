// Key sets as both processes take them, and the one set that nobody can sign with.

import { expect, test } from "bun:test";
import { createHash, createPublicKey, generateKeyPairSync } from "node:crypto";
import { keysOfNobody, mostKeySetBytes, mostKeys, readKeySet, writeKeySet } from "./key-set.ts";

test("the key of nobody is a point of its curve whose x is the hash of a sentence", () => {
  const set = readKeySet(keysOfNobody);
  if (typeof set === "string") throw new Error(set);
  const [key] = set.keys;
  expect(set.keys).toHaveLength(1);
  expect(key?.x).toBe(createHash("sha256").update("weft: a key that nobody has 0").digest("base64url"));
  // Not on the curve, it would be refused here, and by Envoy.
  expect(createPublicKey({ key: { ...key }, format: "jwk" }).asymmetricKeyType).toBe("ec");
});

test("what is written is read the same, and says no more than it must", () => {
  const key = { kty: "OKP", kid: "a", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" } as const;
  const set = readKeySet(JSON.stringify({ keys: [{ x5c: ["AA"], use: "sig", ...key, d: "secret" }], more: 1 }));
  expect(set).toEqual({ keys: [key], passedOver: [] });
  expect(readKeySet(writeKeySet([key]))).toEqual({ keys: [key], passedOver: [] });
});

test("sets are bounded", () => {
  expect(readKeySet(" ".repeat(mostKeySetBytes + 1))).toBe(`is longer than ${mostKeySetBytes} characters`);
  expect(readKeySet(JSON.stringify({ keys: Array(mostKeys + 1).fill({}) }))).toBe(
    `has ${mostKeys + 1} keys; at most ${mostKeys} are taken`,
  );
});

test("keys that are none are passed over, or a proxy would refuse the set", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ format: "jwk" });
  const points = ["P-256", "P-384", "P-521"].map((namedCurve) =>
    generateKeyPairSync("ec", { namedCurve }).publicKey.export({ format: "jwk" }),
  );
  const good = readKeySet(JSON.stringify({ keys: [rsa, ...points] }));
  expect(typeof good === "string" ? good : good.passedOver).toEqual([]);
  const modulus = Buffer.from(rsa.n as string, "base64url");
  const even = Buffer.concat([modulus.subarray(0, -1), Buffer.of((modulus.at(-1) as number) & 0xfe)]);
  const short = Buffer.concat([Buffer.alloc(1), modulus.subarray(1)]);
  const bad = [
    { ...rsa, n: even.toString("base64url") },
    { ...rsa, n: short.toString("base64url") },
    { ...rsa, e: "AQ" },
    { ...rsa, e: "Ag" },
    ...points.map((point) => ({ ...point, y: point.x })),
  ];
  for (const key of bad) {
    const set = readKeySet(JSON.stringify({ keys: [key, rsa] }));
    if (typeof set === "string") throw new Error(set);
    expect([set.keys.length, set.passedOver.length]).toEqual([1, 1]);
  }
});
