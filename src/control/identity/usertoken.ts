// Owns: tokens of users (JWT, ES256, by the key of join tokens, for another audience): issuing, and saying why one is not accepted.
// A user's token is good for the API alone: never for a certificate, never for a stream of a proxy. Never logs a token.

import { createPublicKey, type KeyObject } from "node:crypto";
import type { UserObject } from "../../api/kinds/user.ts";
import type { Clock } from "../../base/clock.ts";
import type { Authentication } from "../apiserver/deps.ts";
import { Secret } from "./secret.ts";

export const userAudience = "weft-api";
/** Claim that holds the uid of the User a token is bound to. */
const uidClaim = "weft.dev/user-uid";

export interface UserTokens {
  issue(user: UserObject, expirationSeconds: number): Promise<{ readonly token: Secret; readonly expiresAtMs: number }>;
  /** Never throws. */
  verify(token: string): Promise<Authentication>;
}

/** What a token says of its audience, unverified: which verifier it is for. */
export function isUserToken(token: string): boolean {
  try {
    const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { aud?: unknown } | null;
    return claims?.aud === userAudience;
  } catch {
    return false;
  }
}

export function userTokens(key: KeyObject, trustDomain: string, clock: Clock, find: (name: string) => UserObject | undefined): UserTokens {
  const publicKey = createPublicKey(key);
  const issuer = `https://weft.${trustDomain}`;
  return {
    async issue(user, expirationSeconds) {
      const { SignJWT } = await import("jose");
      const now = Math.floor(clock.now() / 1000);
      const token = await new SignJWT({ [uidClaim]: user.metadata.uid ?? "" })
        .setProtectedHeader({ alg: "ES256", typ: "JWT" })
        .setIssuer(issuer)
        .setAudience(userAudience)
        .setSubject(user.metadata.name)
        .setIssuedAt(now)
        .setExpirationTime(now + expirationSeconds)
        .sign(key);
      return { token: new Secret(token), expiresAtMs: (now + expirationSeconds) * 1000 };
    },
    async verify(token) {
      const jose = await import("jose");
      let name: string;
      let uid: unknown;
      try {
        const { payload } = await jose.jwtVerify(token, publicKey, {
          algorithms: ["ES256"],
          issuer,
          audience: userAudience,
          requiredClaims: ["exp", "sub"],
          clockTolerance: 30,
          currentDate: new Date(clock.now()),
        });
        name = payload.sub ?? "";
        uid = payload[uidClaim];
      } catch (cause) {
        if (cause instanceof jose.errors.JWTExpired) return no("the token expired; ask for a new one (weft kubeconfig --user NAME)");
        return no("the token is not one of this mesh, or was changed; ask for a new one (weft kubeconfig --user NAME)");
      }
      const groups = find(name)?.spec?.groups ?? [];
      const whyNot = () => {
        const user = find(name);
        if (user === undefined || user.metadata.uid !== uid || user.metadata.deletionTimestamp !== undefined)
          return `the user ${JSON.stringify(name)} of this token was deleted; ask for a new token (weft user create)`;
        const { expiresAt } = user.spec ?? {};
        if (expiresAt !== undefined && Date.parse(expiresAt) <= clock.now())
          return `the user ${JSON.stringify(name)} expired at ${expiresAt}`;
        const lost = groups.find((group) => !(user.spec?.groups ?? []).includes(group));
        if (lost !== undefined) return `the user ${JSON.stringify(name)} is not in the group ${JSON.stringify(lost)} any more; ask again`;
        return undefined;
      };
      const why = whyNot();
      if (why !== undefined) return no(why);
      return { ok: true, caller: { kind: "user", user: name, groups }, whyNoMore: whyNot };
    },
  };
}

function no(reason: string): Authentication {
  return { ok: false, reason };
}
