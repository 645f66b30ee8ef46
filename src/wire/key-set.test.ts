// Key sets as both processes take them, and the one set that nobody can sign with.

import { expect, test } from "bun:test";
import { createHash, createPublicKey } from "node:crypto";
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
