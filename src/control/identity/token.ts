// Owns: join tokens (JWT, ES256): issuing, and saying exactly why one is not accepted. The signing key lives in `signing.key`.
// Never logs a token.

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { join } from "node:path";
import { longestJoinTokenSeconds } from "../../api/kinds/jointoken.ts";
import type { Clock } from "../../base/clock.ts";
import { StoreFailure } from "../store/store.ts";
import { IdentityError } from "./failure.ts";
import { createFileOnce, privateMode, readPrivate } from "./files.ts";
import type { CheckBinding, TokenBinding, TokenPurpose } from "./jointokens.ts";
import type { Revocations } from "./revocations.ts";
import { Secret } from "./secret.ts";

export const tokenAudience = "weft";
/** Kubernetes's own bounds for a TokenRequest start at ten minutes; a join token is used at once, so a day is plenty. */
export const tokenLifeSeconds = { least: 600, default: 3600, most: 86_400, mostBound: longestJoinTokenSeconds } as const;
/** Claim that names the JoinToken a token is bound to. */
const boundClaim = "weft.dev/jointoken";

export interface ServiceAccount {
  readonly namespace: string;
  readonly serviceAccount: string;
}

export type TokenVerdict =
  | {
      readonly ok: true;
      readonly account: ServiceAccount;
      /** Asked later, of what is open by the token: why it is to end; undefined: the token was not revoked. Cheap. A token that has had its time ends nothing. */
      readonly whyNoMore: () => string | undefined;
    }
  | { readonly ok: false; readonly reason: string };

export interface TokenAuthority {
  /** `expirationSeconds` must lie within `tokenLifeSeconds`, its upper bound `mostBound` when the token is bound; throws RangeError otherwise. */
  issue(
    account: ServiceAccount,
    expirationSeconds: number,
    bound?: TokenBinding,
  ): Promise<{ readonly token: Secret; readonly expiresAtMs: number }>;
  /**
   * Each way of being wrong has its own sentence; throws only StoreFailure. A bound token is asked after in the list, and its use noted there, with
   * `keySha256` (of the public key that is certified, SubjectPublicKeyInfo) where it is used for a certificate.
   */
  verify(token: string, purpose?: TokenPurpose, keySha256?: string): Promise<TokenVerdict>;
}

/** The key that signs tokens, from `signing.key`, made on first start. Throws IdentityError. */
export function openSigningKey(dir: string): KeyObject {
  const path = join(dir, "signing.key");
  let pem = readPrivate(path);
  if (pem === undefined) {
    const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
    createFileOnce(path, pair.privateKey.export({ format: "pem", type: "pkcs8" }).toString(), privateMode);
    pem = readPrivate(path) as string;
  }
  try {
    return createPrivateKey(pem);
  } catch {
    throw new IdentityError(
      `${path} is not a private key in PEM; restore it, or move it away: a new one is made and join tokens given out before stop working`,
    );
  }
}

/** `check` judges bound tokens; without it none is good. `revoked`: who is refused. `whyNoMore`: why a bound token that was good is not any more. */
export function openTokenAuthority(
  dir: string,
  trustDomain: string,
  clock: Clock,
  check?: CheckBinding,
  revoked?: Pick<Revocations, "whyToken" | "whyIdentity">,
  whyNoMore?: (binding: TokenBinding) => string | undefined,
): TokenAuthority {
  const privateKey = openSigningKey(dir);
  const publicKey = createPublicKey(privateKey);
  const issuer = `https://weft.${trustDomain}`;

  return {
    async issue(account, expirationSeconds, bound) {
      const most = bound === undefined ? tokenLifeSeconds.most : tokenLifeSeconds.mostBound;
      if (!(expirationSeconds >= tokenLifeSeconds.least && expirationSeconds <= most)) {
        throw new RangeError(`expirationSeconds is ${expirationSeconds}; it must lie from ${tokenLifeSeconds.least} to ${most}`);
      }
      const { SignJWT } = await import("jose");
      const now = Math.floor(clock.now() / 1000);
      const token = await new SignJWT(bound === undefined ? {} : { [boundClaim]: { name: bound.name, uid: bound.uid } })
        .setProtectedHeader({ alg: "ES256", typ: "JWT" })
        .setIssuer(issuer)
        .setAudience([tokenAudience])
        .setSubject(`system:serviceaccount:${account.namespace}:${account.serviceAccount}`)
        .setIssuedAt(now)
        .setExpirationTime(now + expirationSeconds)
        .sign(privateKey);
      return { token: new Secret(token), expiresAtMs: (now + expirationSeconds) * 1000 };
    },
    async verify(token, purpose = "api", keySha256) {
      const jose = await import("jose");
      try {
        const { payload } = await jose.jwtVerify(token, publicKey, {
          algorithms: ["ES256"],
          issuer,
          audience: tokenAudience,
          requiredClaims: ["exp", "sub"],
          clockTolerance: 30,
          currentDate: new Date(clock.now()),
        });
        const [system, kind, namespace, serviceAccount, extra] = (payload.sub ?? "").split(":");
        if (system !== "system" || kind !== "serviceaccount" || !namespace || !serviceAccount || extra !== undefined) {
          return {
            ok: false,
            reason: `the token's subject ${JSON.stringify(payload.sub)} is not of the form system:serviceaccount:NAMESPACE:NAME`,
          };
        }
        const whyRevoked = () => revoked?.whyToken(token) ?? revoked?.whyIdentity({ trustDomain, namespace, serviceAccount });
        const refused = whyRevoked();
        if (refused !== undefined) return { ok: false, reason: refused };
        let binding: TokenBinding | undefined;
        const bound = payload[boundClaim];
        if (bound !== undefined) {
          const { name, uid } = (bound ?? {}) as { name?: unknown; uid?: unknown };
          if (typeof name !== "string" || typeof uid !== "string")
            return { ok: false, reason: `the token's claim ${boundClaim} is malformed` };
          binding = { namespace, name, uid };
          const why =
            check === undefined
              ? "join tokens from the list are not accepted here"
              : await check(binding, serviceAccount, purpose, keySha256);
          if (why !== undefined) return { ok: false, reason: why };
        }
        return {
          ok: true,
          account: { namespace, serviceAccount },
          whyNoMore: () => whyRevoked() ?? (binding === undefined ? undefined : whyNoMore?.(binding)),
        };
      } catch (cause) {
        // Nothing is known of the token then: whoever is told that it is bad gives up, or throws it away.
        if (cause instanceof StoreFailure) throw cause;
        return { ok: false, reason: whyNot(cause, issuer, jose.errors) };
      }
    },
  };
}

type JoseErrors = typeof import("jose").errors;

function whyNot(cause: unknown, issuer: string, errors: JoseErrors): string {
  if (cause instanceof errors.JWTExpired) {
    const at = typeof cause.payload.exp === "number" ? ` at ${new Date(cause.payload.exp * 1000).toISOString()}` : "";
    return `the join token expired${at}; ask for a new one (POST …/serviceaccounts/NAME/token, or \`weft run\` does it for you)`;
  }
  if (cause instanceof errors.JWTClaimValidationFailed) {
    const found = JSON.stringify(cause.payload[cause.claim]);
    if (cause.claim === "aud") return `the token's audience is ${found ?? "missing"}, this mesh wants ${JSON.stringify(tokenAudience)}`;
    if (cause.claim === "iss")
      return `the token was issued by ${found ?? "nobody"}, this mesh believes ${JSON.stringify(issuer)} only (is it a token of another mesh or trust domain?)`;
    return `the token's claim ${cause.claim} is ${found ?? "missing"}: ${cause.message}`;
  }
  if (cause instanceof errors.JWSSignatureVerificationFailed) {
    return "the token is not signed by this control plane's key (was the data folder made anew since it was issued?)";
  }
  if (cause instanceof errors.JOSEAlgNotAllowed) return "the token is not signed with ES256";
  return "the bearer credential is neither the admin token nor a join token of this mesh, nor the token of a user (`weft user create` prints one)";
}
