// Owns: what the API server asks of the rest of the control plane, and what it gives back. Types only.
// Never holds behaviour: wiring is `control/app.ts`, identity is `control/identity`, live state is `insight` and `control/xds`.

import type { KindDefinition, KubeObject, Violation } from "../../api/meta.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Revision, Store } from "../store/store.ts";
import type { AuditEntry } from "./audit.ts";
import type { RateLimits } from "./rate.ts";
import type { StagedChange } from "./staged.ts";

/** Who is asking. `user` is what messages and `kubectl auth whoami` show. */
export type Caller =
  | { readonly kind: "admin"; readonly user: string; readonly actingAs?: string }
  /** Somebody with a User's token, or of whom that is pretended (`--as`). `groups` without those that every user has. */
  | { readonly kind: "user"; readonly user: string; readonly groups: readonly string[]; readonly actingAs?: string }
  /** A join token's holder; `user` is `system:serviceaccount:NAMESPACE:NAME`. */
  | {
      readonly kind: "workload";
      readonly user: string;
      readonly namespace: string;
      readonly serviceAccount: string;
      /** Whose credential it really was (`--as`); for the audit log. */
      readonly actingAs?: string;
    };

/** `reason` goes to the client as it is: say what is wrong with the credentials and how to get good ones, and never quote them. */
export type Authentication =
  | {
      readonly ok: true;
      readonly caller: Caller;
      /** Asked later, of what is open by these credentials: why they are good no more; undefined: they are. Absent: they are for good. */
      readonly whyNoMore?: () => string | undefined;
    }
  | { readonly ok: false; readonly reason: string };

export type Verb =
  | "get"
  | "list"
  | "watch"
  | "create"
  | "update"
  | "patch"
  | "delete"
  | "deletecollection"
  | "bind"
  | "escalate"
  | "impersonate";

/** What a caller wants to do. A `path` access is for everything outside the resource paths (`/insight/...`, `/openapi/...`, discovery). */
export type Access =
  | {
      readonly type: "resource";
      readonly verb: Verb;
      /** As `resourceOf` says it: `services`, `workloadentries.networking.istio.io`, `serviceaccounts`. */
      readonly resource: string;
      /** `status`, `token` or empty. */
      readonly subresource: string;
      /** Empty for cluster-scoped kinds and for a request over all namespaces. */
      readonly namespace: string;
      /** Empty for collections and for create. */
      readonly name: string;
    }
  | { readonly type: "path"; readonly verb: Lowercase<string>; readonly path: string };

export type Decision =
  | {
      readonly allowed: true;
      /**
       * Narrows the permission to some objects. Lists and watches leave the others out; get, update, patch and delete of another
       * one, and a create or change whose outcome does not pass, are forbidden. Absent = every object.
       */
      readonly owns?: (object: KubeObject) => boolean;
      /** What `owns` asks for, in words, for the message of a refusal: `spec.serviceAccount must be "reviews"`. */
      readonly ownsWhat?: string;
    }
  | { readonly allowed: false; readonly reason: string };

/** The source of kinds with `virtual: true`. Objects carry no resourceVersion: the API server numbers changes itself. */
export interface VirtualSource {
  /** Everything of one kind now, over all namespaces, in any order. Objects are fresh or never changed after they were handed out. */
  list(resource: string): readonly KubeObject[];
  /**
   * Calls `onChange` after something of that kind may have changed, at most as often as watchers should hear of it (the API server
   * compares and sends differences only). Returns what ends the subscription.
   */
  subscribe(resource: string, onChange: () => void): () => void;
}

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** 600 to 86 400, of a bound token to 30 days; checked before. */
  readonly expirationSeconds: number;
  /** The JoinToken that the token is bound to; it is there. */
  readonly bound?: { readonly namespace: string; readonly name: string; readonly uid: string };
}

export interface IssuedToken {
  readonly token: string;
  /** RFC 3339. */
  readonly expirationTimestamp: string;
}

/** A subtree of paths served beside the resources, after authentication and after `authorize` allowed the path. */
export interface ExtraRoute {
  /** `/insight/`: matched against the start of the path. */
  readonly prefix: string;
  /** It hands out secrets: the audit log has it though it is a GET. */
  readonly sensitive?: boolean;
  /** `hold` keeps Bun's idle timeout off a response that streams. undefined = not found. */
  readonly handle: (request: Request, caller: Caller, hold: () => void) => Response | undefined | Promise<Response | undefined>;
}

/** Tokens of users (`weft.dev` User), where there are any. */
export interface UserTokenRequest {
  readonly name: string;
  /** 600 to `longestUserTokenSeconds`; checked before. */
  readonly expirationSeconds: number;
}

export interface ApiServerDeps {
  readonly store: Store;
  readonly kinds: readonly KindDefinition[];
  /**
   * Conflicts of an object with the others; called after defaults and validation, one write at a time, with the object as it would
   * be stored. With the SQLite store every acknowledged write has been delivered to watchers before the next call.
   */
  readonly admit: (
    candidate: KubeObject,
    existing: KubeObject | undefined,
    /** Of a transaction: what else would be otherwise; judged as if it were so. */
    staged?: readonly StagedChange[],
  ) => readonly Violation[] | Promise<readonly Violation[]>;
  /**
   * How far `admit` has followed the store: with it a verdict is made anew where others wrote between it and the write. Absent = nothing is ever
   * written beside this server. `reached` rejects with StoreFailure when that takes too long.
   */
  readonly followed?: { revision(): Revision; reached(revision: Revision): Promise<void> };
  /** What the writer of an accepted object should know; goes out as warnings. `staged` as for `admit`. */
  readonly advise?: (candidate: KubeObject, staged?: readonly StagedChange[]) => readonly string[];
  /** What the proxies would do otherwise after these changes; absent = nobody can tell. */
  readonly preview?: (changes: readonly StagedChange[]) => unknown;
  readonly authenticate: (request: Request) => Authentication | Promise<Authentication>;
  readonly authorize: (caller: Caller, access: Access) => Decision;
  /** Calls back when credentials may have been revoked or rights changed: open watches are judged again. Absent = that never happens. */
  readonly onAccessChange?: (run: () => void) => void;
  /** Why the caller may not write this (it would give away more than they have); undefined = they may. `store` = a transaction's own view. */
  readonly escalation?: (
    store: Store,
    caller: Caller,
    candidate: KubeObject,
    existing: KubeObject | undefined,
  ) => Promise<string | undefined>;
  /** The caller behind a user name and the groups claimed for it (`--as`, reviews); undefined = nobody of that name. */
  readonly callerNamed?: (user: string, groups: readonly string[]) => Caller | undefined;
  /** Groups that reviews show of a caller. */
  readonly groupsOf?: (caller: Caller) => readonly string[];
  /** Objects that are part of the program, by resource, sorted by name: read like stored ones, never written. */
  readonly builtin?: Readonly<Record<string, readonly KubeObject[]>>;
  /** A name that is kept for those. */
  readonly isReserved?: (resource: string, name: string) => boolean;
  readonly issueUserToken?: (request: UserTokenRequest) => Promise<IssuedToken | undefined>;
  readonly audit?: { record(entry: AuditEntry): void };
  readonly limits?: RateLimits;
  /** Hears of each request that was answered; for metrics. */
  readonly answered?: (verb: string, code: number, durationMs: number) => void;
  readonly virtual: VirtualSource;
  readonly routes: readonly ExtraRoute[];
  readonly issueToken: (request: TokenRequest) => Promise<IssuedToken>;
  /** The mesh's roots as a SPIFFE bundle document, for `/spiffe-bundle`: what anybody may know. */
  readonly bundle?: () => string;
  /** undefined = ready; otherwise why not, for `/readyz`. */
  readonly notReady: () => string | undefined;
  readonly clock: Clock;
  /** For uids and generated names: fills the array with random bytes. */
  readonly random: (bytes: Uint8Array<ArrayBuffer>) => void;
  readonly log: Logger;
  /** Of Weft, for `/version`: `0.1.0`. */
  readonly version: string;
}

/** What a handler needs of the server that got the request: Bun's `server.timeout(request, 0)`. */
export interface Holder {
  timeout(request: Request, seconds: number): void;
  /** Where a request comes from. */
  requestIP?(request: Request): { readonly address: string; readonly port: number } | null;
  /** What the client certificate of its connection says; absent = none was shown. */
  readonly certificate?: Authentication;
}

export interface ApiServer {
  /**
   * Answers one request; never rejects. `caller` set = already authenticated (the dashboard's cookie), `authenticate` is not asked.
   * `holder` is Bun's server object, so that watches outlive its idle timeout.
   */
  handle(request: Request, holder: Holder, caller?: Caller): Promise<Response>;
  /** Ends every open watch, so that clients come back to the next process. */
  close(): void;
}
