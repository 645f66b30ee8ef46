// Tokens that somebody has bent: none makes the reader throw, and none but the one that was signed passes the check.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { compileKeys } from "./keys.ts";
import { longestToken } from "./limits.ts";
import { faults, readToken } from "./token.ts";

const pair = await generateKeyPair("ES256", { extractable: true });
const token = await new SignJWT({ iss: "i", sub: "s", a: { b: [1, "x"] } }).setProtectedHeader({ alg: "ES256" }).sign(pair.privateKey);
const check = compileKeys(JSON.stringify({ keys: [await exportJWK(pair.publicKey)] }));

function passes(text: string): boolean {
  const read = readToken(text);
  if ("sentence" in read) return false;
  if (typeof check === "string") throw new Error(check);
  return check(read) === null;
}

test("the token itself passes", () => expect(passes(token)).toBe(true));

test("no change of a token passes (random changes, bounded)", () => {
  const characters = fc.constantFrom(..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/= \u0000\u00ff");
  fc.assert(
    fc.property(fc.nat(token.length), fc.nat(3), fc.string({ unit: characters, maxLength: 4 }), (at, gone, put) => {
      const bent = token.slice(0, at) + put + token.slice(at + gone);
      return bent === token || !passes(bent);
    }),
    { numRuns: 400 },
  );
});

test("whatever stands in its parts, nothing is thrown", () => {
  const part = fc.oneof(
    fc.json().map((text) => Buffer.from(text).toString("base64url")),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
    fc.string({ maxLength: 20 }),
  );
  const header = fc
    .constantFrom("ES256", "none", "HS256", "", 7, null)
    .map((alg) => Buffer.from(JSON.stringify({ alg })).toString("base64url"));
  fc.assert(
    fc.property(fc.oneof(header, part), part, part, (a, b, c) => !passes(`${a}.${b}.${c}`)),
    { numRuns: 500 },
  );
});

test("depth and length are bounded before anything is looked into", () => {
  expect(readToken("x".repeat(longestToken + 1))).toBe(faults.size);
  const header = Buffer.from('{"alg":"ES256"}').toString("base64url");
  const deep = Buffer.from(`${'{"a":'.repeat(2_000)}1${"}".repeat(2_000)}`).toString("base64url");
  expect(readToken(`${header}.${deep}.AA`)).toBe(faults.depth);
});
