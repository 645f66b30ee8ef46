// Owns: reading one JSON Web Token (RFC 7519 in the compact form of RFC 7515): strict base64url and JSON, within limits, and what is wrong with it in
// the words that Envoy has. Believes nothing of it: whose it is stands in chain/jwt.ts, the signature is checked in keys.ts. Once for a token: what was good
// is remembered.

import { tokenAlgorithms } from "../../wire/key-set.ts";
import { longestToken, mostClaimDepth } from "./limits.ts";

/** What a request is refused for. One object for each reason, so that they can be compared. */
export interface TokenFault {
  readonly status: 401 | 403;
  readonly sentence: string;
  /** As Envoy writes `%RESPONSE_CODE_DETAILS%`. */
  readonly details: string;
}

function fault(sentence: string, status: TokenFault["status"] = 401): TokenFault {
  return { status, sentence, details: `jwt_authn_access_denied{${sentence.replaceAll(" ", "_")}}` };
}

export const faults = {
  missing: fault("Jwt is missing"),
  early: fault("Jwt not yet valid"),
  expired: fault("Jwt is expired"),
  form: fault("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
  size: fault("Jwt is too long"),
  headerCode: fault("Jwt header is an invalid Base64url encoded"),
  header: fault("Jwt header is an invalid JSON"),
  algorithm: fault("Jwt header [alg] is not supported"),
  keyId: fault("Jwt header [kid] field is not a string"),
  critical: fault("Jwt header [crit] names what is not understood"),
  payloadCode: fault("Jwt payload is an invalid Base64url encoded"),
  payload: fault("Jwt payload is an invalid JSON"),
  depth: fault("Jwt payload is nested too deeply"),
  issuerType: fault("Jwt payload [iss] field is not a string"),
  subjectType: fault("Jwt payload [sub] field is not a string"),
  idType: fault("Jwt payload [jti] field is not a string"),
  issuedType: fault("Jwt payload [iat] field is not a positive integer"),
  earlyType: fault("Jwt payload [nbf] field is not a positive integer"),
  expiryType: fault("Jwt payload [exp] field is not a positive integer"),
  audienceType: fault("Jwt payload [aud] field is not a string or string list"),
  signatureCode: fault("Jwt signature is an invalid Base64url encoded"),
  issuer: fault("Jwt issuer is not configured"),
  audience: fault("Audiences in Jwt are not allowed", 403),
  signature: fault("Jwt verification fails"),
  key: fault("Jwks doesn't have key to match kid or alg from Jwt"),
  many: fault("too many Jwts"),
} as const;

export type Claims = Readonly<Record<string, unknown>>;

/** A token as it says of itself. */
export interface Token {
  readonly algorithm: string;
  /** "": none. */
  readonly keyId: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Seconds; 0 = not said, -1 cannot be. */
  readonly notBefore: number;
  readonly expires: number;
  readonly claims: Claims;
  /** The payload as it stands in the token. */
  readonly payloadText: string;
  readonly signed: string;
  readonly signature: Buffer;
}

const alphabet = new Uint8Array(128);
for (const each of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") alphabet[each.charCodeAt(0)] = 1;

/** Whether a character may stand in a token. */
export function isTokenCharacter(code: number): boolean {
  return code === 46 || (code < 128 && alphabet[code] === 1);
}

/** Latin-1 text as it stands in the request. */
export function readToken(text: string): Token | TokenFault {
  if (text.length > longestToken) return faults.size;
  const first = text.indexOf(".");
  const second = first < 0 ? -1 : text.indexOf(".", first + 1);
  if (second < 0 || text.indexOf(".", second + 1) >= 0) return faults.form;
  const headerBytes = decode(text.slice(0, first));
  if (headerBytes === null) return faults.headerCode;
  const header = readObject(headerBytes);
  if (header === null) return faults.header;
  const { alg, kid } = header;
  if (typeof alg !== "string" || !Object.hasOwn(tokenAlgorithms, alg)) return faults.algorithm;
  if (kid !== undefined && typeof kid !== "string") return faults.keyId;
  // RFC 7515 4.1.11: what is critical and not understood makes the token invalid. Nothing of the kind is understood here.
  if (header.crit !== undefined) return faults.critical;
  const payloadText = text.slice(first + 1, second);
  const payloadBytes = decode(payloadText);
  if (payloadBytes === null) return faults.payloadCode;
  const claims = readObject(payloadBytes);
  if (claims === null) return faults.payload;
  if (deeperThan(claims, mostClaimDepth)) return faults.depth;
  const { iss, sub, jti, aud } = claims;
  if (iss !== undefined && typeof iss !== "string") return faults.issuerType;
  if (sub !== undefined && typeof sub !== "string") return faults.subjectType;
  if (jti !== undefined && typeof jti !== "string") return faults.idType;
  if (seconds(claims.iat) < 0) return faults.issuedType;
  const notBefore = seconds(claims.nbf);
  if (notBefore < 0) return faults.earlyType;
  const expires = seconds(claims.exp);
  if (expires < 0) return faults.expiryType;
  const audiences = typeof aud === "string" ? [aud] : aud === undefined ? [] : aud;
  if (!Array.isArray(audiences) || audiences.some((each) => typeof each !== "string")) return faults.audienceType;
  const signature = decode(text.slice(second + 1));
  if (signature === null) return faults.signatureCode;
  return {
    algorithm: alg,
    keyId: kid ?? "",
    issuer: iss ?? "",
    audiences: audiences as string[],
    notBefore,
    expires,
    claims,
    payloadText,
    signed: text.slice(0, second),
    signature,
  };
}

/** RFC 7515 2: no padding, no other characters, and only the one spelling of each value. */
function decode(text: string): Buffer | null {
  if (text.length % 4 === 1) return null;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 128 || alphabet[code] !== 1) return null;
  }
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : null;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function readObject(bytes: Buffer): Claims | null {
  try {
    const value: unknown = JSON.parse(utf8.decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Claims) : null;
  } catch {
    return null;
  }
}

function deeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  return Object.values(value).some((each) => deeperThan(each, levels - 1));
}

/** 0: not said; -1: no time at all. RFC 7519 2 allows fractions, which round down here. */
function seconds(value: unknown): number {
  if (value === undefined) return 0;
  return typeof value === "number" && value >= 0 && value < Number.MAX_SAFE_INTEGER ? Math.floor(value) : -1;
}
