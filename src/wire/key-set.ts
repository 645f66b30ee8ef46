// Owns: JSON Web Key Sets (RFC 7517) as both processes take them: what a set may be, and its public part in one canonical form. Secrets for HMAC and
// private keys never pass. Knows no cryptography: whether a key is one is found where it is used.

/** A key of a set, with the members that checking a signature needs and no others. */
export interface PublicKeyJson {
  readonly kty: "RSA" | "EC" | "OKP";
  readonly kid?: string;
  readonly alg?: string;
  readonly n?: string;
  readonly e?: string;
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
}

export interface KeySet {
  readonly keys: readonly PublicKeyJson[];
  /** What was left out and why, for people. */
  readonly passedOver: readonly string[];
}

/** A set of certificates of ten keys has some 30 KiB; a larger one would travel to every proxy. */
export const mostKeySetBytes = 131_072;
/** Each key without a fitting `kid` costs a signature check. */
export const mostKeys = 50;

/** Algorithms of RFC 7518 and RFC 8037 with a public key, and what key each takes. `none` and HMAC are not among them, and never will be. */
export const tokenAlgorithms: Readonly<Record<string, { readonly kty: PublicKeyJson["kty"]; readonly crv?: string }>> = {
  RS256: { kty: "RSA" },
  RS384: { kty: "RSA" },
  RS512: { kty: "RSA" },
  PS256: { kty: "RSA" },
  PS384: { kty: "RSA" },
  PS512: { kty: "RSA" },
  ES256: { kty: "EC", crv: "P-256" },
  ES384: { kty: "EC", crv: "P-384" },
  ES512: { kty: "EC", crv: "P-521" },
  EdDSA: { kty: "OKP", crv: "Ed25519" },
};

/**
 * A set of one key that nobody can sign with: a point of P-256 whose x is the SHA-256 of a sentence, so that whoever made it does not know its private key
 * either. For issuers whose keys are not known: their tokens are refused, by proxies that take no empty set too.
 */
export const keysOfNobody = JSON.stringify({
  keys: [
    {
      kty: "EC",
      kid: "keys-not-known",
      crv: "P-256",
      x: "GbdCDZ2KoO2JbsfkJN8v2xp2LyO5RoaXx2HxAh8DcwY",
      y: "86s4U6AS3EPKAHFb_gPCXC-59uF5VbLGIwAjkkOdzd4",
    },
  ],
});

const base64url = /^[A-Za-z0-9_-]+$/;
/** RFC 7518 3.3: 2048 bits or more. In bytes. */
const shortestModulus = 256;
const longestModulus = 1_024;
const bytesOf: Readonly<Record<string, number>> = { "P-256": 32, "P-384": 48, "P-521": 66, Ed25519: 32 };
const longestName = 256;

/** The public keys of a set. A string: why it is none. Keys for other purposes are passed over, as RFC 7517 5 has it. */
export function readKeySet(text: string): KeySet | string {
  if (text.length > mostKeySetBytes) return `is longer than ${mostKeySetBytes} characters`;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return "is no JSON";
  }
  const list = isRecord(parsed) ? parsed.keys : undefined;
  if (!Array.isArray(list)) return 'is no JSON Web Key Set: {"keys": [...]} (RFC 7517)';
  if (list.length > mostKeys) return `has ${list.length} keys; at most ${mostKeys} are taken`;
  const keys: PublicKeyJson[] = [];
  const passedOver: string[] = [];
  for (const [at, each] of list.entries()) {
    const key = readKey(each);
    if (typeof key === "string") passedOver.push(`keys[${at}] ${key}`);
    else keys.push(key);
  }
  return { keys, passedOver };
}

/** A set that says more than anybody may know: a private key, or a secret. */
export function givesAway(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text);
    const list = isRecord(parsed) && Array.isArray(parsed.keys) ? parsed.keys : [];
    return list.some((each) => isRecord(each) && (each.d !== undefined || each.k !== undefined));
  } catch {
    return false;
  }
}

/** In one form, whatever order it came in. */
export function writeKeySet(keys: readonly PublicKeyJson[]): string {
  return JSON.stringify({ keys });
}

function readKey(value: unknown): PublicKeyJson | string {
  if (!isRecord(value)) return "is no object";
  const { kty, use, alg, kid } = value;
  if (kty !== "RSA" && kty !== "EC" && kty !== "OKP") return "is of no kind that is taken (RSA, EC, OKP)";
  if (use !== undefined && use !== "sig") return "is not for signatures";
  if (Array.isArray(value.key_ops) && !value.key_ops.includes("verify")) return "is not for checking signatures";
  if (kid !== undefined && (typeof kid !== "string" || kid.length > longestName)) return "has no fitting kid";
  if (alg !== undefined && (typeof alg !== "string" || !Object.hasOwn(tokenAlgorithms, alg)))
    return "is for an algorithm that is not taken";
  const wanted = alg === undefined ? undefined : tokenAlgorithms[alg as string];
  if (wanted !== undefined && wanted.kty !== kty) return "is for an algorithm of another kind of key";
  const names = { ...(kid === undefined ? {} : { kid: kid as string }), ...(alg === undefined ? {} : { alg: alg as string }) };
  if (kty === "RSA") {
    const { n, e } = value;
    if (!isText(n) || !isText(e) || e.length > 8) return "has no fitting n and e";
    const modulus = Buffer.from(n, "base64url");
    const exponent = Buffer.from(e, "base64url");
    if ((modulus[0] ?? 0) === 0 || (exponent[0] ?? 0) === 0) return "has no fitting n and e";
    if (modulus.length < shortestModulus) return "is shorter than 2048 bits";
    if (modulus.length > longestModulus) return "is longer than 8192 bits";
    // With an exponent of 1 anybody could sign; even numbers are no key at all.
    if (!isOdd(modulus) || !isOdd(exponent) || (exponent.length === 1 && exponent[0] === 1)) return "is no RSA key";
    return { kty, ...names, n, e };
  }
  const { crv, x, y } = value;
  if (typeof crv !== "string" || !Object.hasOwn(bytesOf, crv) || (crv === "Ed25519") !== (kty === "OKP"))
    return "is of no curve that is taken";
  if (wanted?.crv !== undefined && wanted.crv !== crv) return "is for an algorithm of another curve";
  const size = Math.ceil(((bytesOf[crv] as number) * 4) / 3);
  if (!isText(x) || x.length !== size) return "has no fitting x";
  if (kty === "OKP") return { kty, ...names, crv, x };
  if (!isText(y) || y.length !== size) return "has no fitting y";
  if (!isOnCurve(crv, x, y)) return "is no point of its curve";
  return { kty, ...names, crv, x, y };
}

function isOdd(bytes: Buffer): boolean {
  return ((bytes.at(-1) ?? 0) & 1) === 1;
}

/** NIST SP 800-186: y^2 = x^3 - 3x + b mod p. A proxy that is given another point refuses the set, and what it stands in. */
const curves: Readonly<Record<string, { readonly p: bigint; readonly b: bigint }>> = {
  "P-256": {
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  "P-384": {
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
  "P-521": {
    p: 2n ** 521n - 1n,
    b: 0x0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00n,
  },
};

function isOnCurve(name: string, xText: string, yText: string): boolean {
  const curve = curves[name];
  if (curve === undefined) return false;
  const { p, b } = curve;
  const [x, y] = [xText, yText].map((text) => BigInt(`0x${Buffer.from(text, "base64url").toString("hex")}`)) as [bigint, bigint];
  return x < p && y < p && (y * y - (x * x * x - 3n * x + b)) % p === 0n;
}

function isText(value: unknown): value is string {
  return typeof value === "string" && base64url.test(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
