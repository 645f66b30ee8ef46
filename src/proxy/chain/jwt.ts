// Owns: the tokens of end users (JWT; Envoy's `envoy.filters.http.jwt_authn`): looked for, checked against the keys of their issuers, remembered until they
// expire, and what becomes known of them. A request with a bad one is answered here; without one it goes on, and policies judge that nobody is known.
// Stands before authorization. Everything is synchronous: keys come with the configuration, nobody is asked.

import type { JwtConfig, JwtProviderConfig, JwtRequirement } from "../config.ts";
import { fieldByte, latin1 } from "../http/bytes.ts";
import type { Head } from "../http1/head.ts";
import { compileKeys } from "../tokens/keys.ts";
import { longestKnownToken, mostKnownTokens, mostTokens } from "../tokens/limits.ts";
import { type Claims, faults, readToken, type Token, type TokenFault } from "../tokens/token.ts";
import { compileFinder, type FindTokens } from "./jwt-find.ts";

/** What good tokens say, by the name that rules know each payload by. */
export type KnownClaims = Readonly<Record<string, Claims>>;

/** What becomes of a request that may go on; valid until the next check. */
export interface TokenOutcome {
  /** null: nobody is known. */
  claims: KnownClaims | null;
  /** Fields to be taken out, in lower case. */
  readonly drop: Uint8Array[];
  /** Parameters to be taken out of the query. */
  readonly params: string[];
  /** Field lines to be added, each with its CRLF, in Latin-1. */
  lines: string;
}

export interface CompiledJwt {
  readonly bypassPreflights: boolean;
  /** `seconds`: now, since 1970. null: it may go on, as `outcome` says. */
  check(bytes: Uint8Array, head: Head, seconds: number): TokenFault | null;
  readonly outcome: TokenOutcome;
}

/** A token whose signature is right. */
interface Known {
  readonly token: Token;
  /** As rules see them. */
  readonly claims: KnownClaims | null;
  readonly lines: string;
}

interface Provider {
  readonly find: FindTokens;
  /** Tokens at the places of this provider; their last one (the first in the request) is what becomes known. */
  verify(bytes: Uint8Array, head: Head, seconds: number, outcome: TokenOutcome): TokenFault | null;
}

/** null: satisfied. `faults.missing`: there is no token. */
type Demand = (bytes: Uint8Array, head: Head, seconds: number, outcome: TokenOutcome) => TokenFault | null;

/** Throws a sentence. */
export function compileJwt(config: JwtConfig): CompiledJwt {
  const providers = config.providers.map(compileProvider);
  const demand = config.requires === null ? null : compileDemand(config.requires, providers);
  // What we write for the application nobody else may have written, whether there is a token or not.
  const sanitized = [...new Set(config.providers.flatMap((each) => [each.payloadHeader, ...each.claimHeaders.map(({ header }) => header)]))]
    .filter((name) => name !== "")
    .map((name) => latin1(name.toLowerCase()));
  const outcome: TokenOutcome = { claims: null, drop: [], params: [], lines: "" };
  const keep = sanitized.length;
  for (const each of sanitized) outcome.drop.push(each);
  return {
    bypassPreflights: config.bypassPreflights,
    outcome,
    check(bytes, head, seconds) {
      outcome.claims = null;
      outcome.drop.length = keep;
      outcome.params.length = 0;
      outcome.lines = "";
      return demand === null ? null : demand(bytes, head, seconds, outcome);
    },
  };
}

function compileDemand(requirement: JwtRequirement, providers: readonly Provider[]): Demand {
  switch (requirement.kind) {
    case "provider": {
      const provider = providers[requirement.provider];
      if (provider === undefined) throw new Error(`there is no token provider ${requirement.provider}`);
      return provider.verify;
    }
    case "all": {
      const of = requirement.of.map((each) => compileDemand(each, providers));
      return (bytes, head, seconds, outcome) => {
        for (let i = 0; i < of.length; i++) {
          const fault = (of[i] as Demand)(bytes, head, seconds, outcome);
          if (fault !== null) return fault;
        }
        return null;
      };
    }
    case "any": {
      const of = requirement.of.map((each) => compileDemand(each, providers));
      const { missing } = requirement;
      return (bytes, head, seconds, outcome) => {
        // What says most is told: a bad token before one of somebody unknown before none.
        let worst: TokenFault = faults.missing;
        for (let i = 0; i < of.length; i++) {
          const fault = (of[i] as Demand)(bytes, head, seconds, outcome);
          if (fault === null) return null;
          if (worst === faults.missing || (fault !== faults.missing && fault !== faults.issuer)) worst = fault;
        }
        return missing && worst === faults.missing ? null : worst;
      };
    }
  }
}

function compileProvider(config: JwtProviderConfig): Provider {
  const find = compileFinder(config);
  const check = compileKeys(config.keys);
  if (typeof check === "string") throw new Error(`the keys of token provider ${config.name}: ${check}`);
  const audiences = new Set(config.audiences.map(plainAudience));
  const known = new Map<string, Known>();

  /** null: it is good, and stands in `known`, or would if it were shorter. */
  const judge = (text: string, seconds: number): Known | TokenFault => {
    const met = known.get(text);
    if (met !== undefined) {
      const fault = timeFault(met.token, seconds, config.skewS);
      if (fault !== null) known.delete(text);
      // Who was used last matters only once somebody will have to go.
      else if (known.size * 2 > mostKnownTokens) {
        known.delete(text);
        known.set(text, met);
      }
      return fault ?? met;
    }
    const token = readToken(text);
    if ("sentence" in token) return token;
    if (config.issuer !== "" && token.issuer !== config.issuer) return faults.issuer;
    const fault = timeFault(token, seconds, config.skewS);
    if (fault !== null) return fault;
    if (audiences.size > 0 && !token.audiences.some((each) => audiences.has(plainAudience(each)))) return faults.audience;
    const wrong = check(token);
    if (wrong !== null) return wrong;
    const good: Known = {
      token,
      claims: config.payloadName === "" ? null : { [config.payloadName]: asRulesSee(token.claims, config.spaceDelimited) },
      lines: linesOf(token, config),
    };
    if (text.length <= longestKnownToken) {
      if (known.size >= mostKnownTokens) known.delete(known.keys().next().value as string);
      known.set(text, good);
    }
    return good;
  };

  return {
    find,
    verify(bytes, head, seconds, outcome) {
      const found = find(bytes, head);
      if (found.length === 0) return faults.missing;
      if (found.length > mostTokens) return faults.many;
      // All must be good, as nobody knows which one the application reads.
      const { claims, lines } = outcome;
      const [drops, params] = [outcome.drop.length, outcome.params.length];
      for (let i = found.length - 1; i >= 0; i--) {
        const each = found[i] as (typeof found)[number];
        const judged = judge(each.text, seconds);
        if ("sentence" in judged) {
          outcome.claims = claims;
          outcome.lines = lines;
          outcome.drop.length = drops;
          outcome.params.length = params;
          return judged;
        }
        if (judged.claims !== null) outcome.claims = outcome.claims === null ? judged.claims : { ...outcome.claims, ...judged.claims };
        outcome.lines += judged.lines;
        if (config.forward) continue;
        if (each.header !== null) outcome.drop.push(each.header);
        else if (each.param !== null) outcome.params.push(each.param);
      }
      return null;
    },
  };
}

function timeFault({ notBefore, expires }: Token, seconds: number, skewS: number): TokenFault | null {
  if (notBefore > seconds + skewS) return faults.early;
  return expires > 0 && seconds > expires + skewS ? faults.expired : null;
}

/** Envoy compares audiences without scheme and without a slash at the end. */
function plainAudience(text: string): string {
  const bare = text.startsWith("https://") ? text.slice(8) : text.startsWith("http://") ? text.slice(7) : text;
  return bare.endsWith("/") ? bare.slice(0, -1) : bare;
}

function asRulesSee(claims: Claims, spaceDelimited: readonly string[]): Claims {
  const split = spaceDelimited.filter((name) => Object.hasOwn(claims, name) && typeof claims[name] === "string");
  if (split.length === 0) return claims;
  return {
    ...claims,
    ...Object.fromEntries(split.map((name) => [name, (claims[name] as string).split(" ").filter((each) => each !== "")])),
  };
}

/** What the application is told of a good token. */
function linesOf({ payloadText, claims }: Token, { payloadHeader, claimHeaders }: JwtProviderConfig): string {
  let lines = payloadHeader === "" ? "" : `${payloadHeader}: ${payloadText}\r\n`;
  for (const { header, claim } of claimHeaders) {
    const value = claimText(claims, claim);
    if (value !== "") lines += `${header}: ${value}\r\n`;
  }
  return lines;
}

/** Texts, numbers and truth values; "" for all else, and for what no field value may hold. */
function claimText(claims: Claims, path: readonly string[]): string {
  let value: unknown = claims;
  for (const name of path) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, name)) return "";
    value = (value as Claims)[name];
  }
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return "";
  const bytes = Buffer.from(value.trim(), "utf8");
  for (const each of bytes) if (fieldByte[each] !== 1) return "";
  return bytes.toString("latin1");
}
