// Owns: who is calling a gRPC service (a join token or a certificate of the mesh), and that a call ends when its caller is to be believed no more.
// Never decides what a caller may do.

import { type ServerDuplexStream, status } from "@grpc/grpc-js";
import type { Logger } from "../../base/log.ts";
import { type Identity, parseIdentity } from "../../wire/spiffe.ts";
import { backdateMs } from "../../wire/trust.ts";
import type { Authority } from "../identity/authority.ts";
import type { Revocations } from "../identity/revocations.ts";
import type { TokenAuthority } from "../identity/token.ts";
import { StoreFailure } from "../store/store.ts";

export type AnyCall = Pick<ServerDuplexStream<unknown, unknown>, "metadata" | "getAuthContext">;

/** What a round of asking has found out about certificates, by fingerprint: a connection has many calls. */
export type Judged = Map<string, string | undefined>;

/** The time of a certificate. */
export interface Life {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface Believed {
  readonly ok: true;
  readonly identity: Identity;
  /** Of the certificate that it came with; undefined: it came with a token. */
  readonly life?: Life;
  /** Why the caller of an open call is to be believed no more. A token was good when the call was opened, and may have had its time since. */
  readonly whyNoMore: (judged: Judged) => string | undefined;
}

/** `away`: the store that knows the token does not answer; the same credential may be good in a moment. */
export type WhoIs = Believed | { readonly ok: false; readonly reason: string; readonly away?: true };

export interface CallerDeps {
  readonly authority: Pick<Authority, "trustDomain" | "isTrusted">;
  readonly tokens: Pick<TokenAuthority, "verify">;
  readonly revoked?: Pick<Revocations, "whyCertificate" | "whyIdentity">;
}

/** UNAVAILABLE is tried again, elsewhere; UNAUTHENTICATED makes a client doubt its credential. */
export function codeOf(who: { readonly away?: true }): status {
  return who.away === true ? status.UNAVAILABLE : status.UNAUTHENTICATED;
}

/** How a call ends that something of ours threw in: a store that is away comes back, and the caller with it. */
export function failureOf(cause: unknown, otherwise: string): { readonly code: status; readonly details: string } {
  return cause instanceof StoreFailure
    ? { code: status.UNAVAILABLE, details: `the control plane cannot read its state just now: ${cause.message}` }
    : { code: status.INTERNAL, details: otherwise };
}

/** `certifying`: SHA-256 of the public key that is to be certified; a one-time token is used up by that, and good for the same key alone from then on. */
export async function whoIs(call: AnyCall, deps: CallerDeps, certifying?: string): Promise<WhoIs> {
  const { trustDomain } = deps.authority;
  const header = call.metadata.get("authorization")[0];
  if (header === undefined) return byCertificate(call, deps);
  const token = /^bearer +(\S+)$/i.exec(String(header).trim())?.[1];
  if (token === undefined) return { ok: false, reason: "the authorization metadata is not of the form `Bearer TOKEN`" };
  let verdict: Awaited<ReturnType<TokenAuthority["verify"]>>;
  try {
    verdict = await deps.tokens.verify(token, certifying === undefined ? "api" : "certificate", certifying);
  } catch (cause) {
    if (!(cause instanceof StoreFailure)) throw cause;
    return { ok: false, away: true, reason: `whether the join token is good cannot be found out: ${cause.message}` };
  }
  if (!verdict.ok) return verdict;
  const identity = { trustDomain, ...verdict.account };
  const { whyNoMore } = verdict;
  const why = () => whyNoMore() ?? deps.revoked?.whyIdentity(identity);
  const refused = why();
  return refused === undefined ? { ok: true, identity, whyNoMore: why } : { ok: false, reason: refused };
}

// grpc-js shows a certificate only if TLS found its chain good; the dates are looked at again, for a call may be opened on an old connection.
function byCertificate(call: AnyCall, { authority, revoked }: CallerDeps): WhoIs {
  const peer = call.getAuthContext().sslPeerCertificate;
  const none = "no credentials: come with a join token (authorization: Bearer JWT) or with a certificate of this mesh that is in its time";
  if (peer === undefined || !authority.isTrusted(peer.raw)) return { ok: false, reason: none };
  const uri = /(?:^|, )URI:([^,]+)/.exec(peer.subjectaltname ?? "")?.[1] ?? "";
  const identity = parseIdentity(uri);
  if (identity === undefined || identity.trustDomain !== authority.trustDomain) {
    return {
      ok: false,
      reason: `the certificate's name ${JSON.stringify(uri)} is not an identity of trust domain ${authority.trustDomain}`,
    };
  }
  const whyRevoked = () => revoked?.whyCertificate(peer.serialNumber, identity, Date.parse(peer.valid_from) + backdateMs);
  const refused = whyRevoked();
  if (refused !== undefined) return { ok: false, reason: refused };
  return {
    ok: true,
    identity,
    life: { notBeforeMs: Date.parse(peer.valid_from), notAfterMs: Date.parse(peer.valid_to) },
    whyNoMore(judged) {
      const print = peer.fingerprint256;
      if (!judged.has(print)) judged.set(print, authority.isTrusted(peer.raw) ? whyRevoked() : none);
      return judged.get(print);
    },
  };
}

/** Calls that are looked at within one turn of the loop: each certificate costs a check of its signature. */
const askedTogether = 64;

interface Standing {
  readonly who: Believed;
  readonly end: (why: string) => void;
}

/** The open calls of believed callers. */
export class OpenCalls {
  readonly #log: Logger;
  readonly #open = new Set<Standing>();
  #asking = false;
  #again = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** `end` is called, once, when the caller is to be believed no more, at once if that is so already; not after what is returned was called. */
  add(who: Believed, end: (why: string) => void): () => void {
    const one = { who, end };
    this.#open.add(one);
    this.#ask(one, new Map());
    return () => {
      this.#open.delete(one);
    };
  }

  /** Ends the calls of those who are refused now. */
  recheck(): void {
    this.#again = true;
    if (this.#asking) return;
    this.#asking = true;
    void this.#askAll().finally(() => {
      this.#asking = false;
    });
  }

  async #askAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      const judged: Judged = new Map();
      const all = [...this.#open];
      for (let at = 0; at < all.length; at += askedTogether) {
        for (const one of all.slice(at, at + askedTogether)) this.#ask(one, judged);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  #ask(one: Standing, judged: Judged): void {
    if (!this.#open.has(one)) return;
    let why: string | undefined;
    try {
      why = one.who.whyNoMore(judged);
    } catch (cause) {
      this.#log.error({ cause }, "It could not be found out whether a caller is refused");
      return;
    }
    if (why === undefined) return;
    this.#open.delete(one);
    one.end(why);
  }
}
