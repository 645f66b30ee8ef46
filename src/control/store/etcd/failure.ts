// Owns: etcd's and gRPC's errors in words that name the way out, and which of them another member or another try may cure. No state.

import { status } from "@grpc/grpc-js";
import { StoreFailure } from "../store.ts";

/** What went wrong with one call, and what may be done about it. */
export interface Trouble {
  readonly error: StoreFailure;
  /** `member`: another member may answer. `login`: the token is stale. `never`: it would be the same again. */
  readonly cure: "member" | "login" | "never";
  /** etcd may have carried it out all the same. */
  readonly unknownOutcome: boolean;
  readonly code: number;
  readonly compacted: boolean;
}

/** The store's prefix in etcd was never made, is another program's, or of another format. */
export class EtcdLayoutError extends StoreFailure {}

/** What grpc-js throws. */
interface RpcError {
  readonly code?: number;
  readonly details?: string;
  readonly message?: string;
}

const memberCodes: ReadonlySet<number> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.INTERNAL,
  status.UNKNOWN,
]);

/** `where`: the member asked, for messages; `user`: the name we come under, if any. */
export function troubleOf(cause: unknown, where: string, user: string | undefined): Trouble {
  const { code = status.UNKNOWN, details, message } = cause as RpcError;
  const said = details ?? message ?? String(cause);
  const make = (words: string, cure: Trouble["cure"], unknownOutcome = false): Trouble => ({
    error: new StoreFailure(words, { cause }),
    cure,
    unknownOutcome,
    code,
    compacted: said.includes("required revision has been compacted"),
  });
  if (said.includes("database space exceeded"))
    return make(
      `etcd (${where}) has used up its space quota; nothing was written. Free space there (etcdctl compact REVISION; etcdctl defrag; etcdctl alarm disarm) or raise --quota-backend-bytes of etcd.`,
      "never",
    );
  if (said.includes("authentication failed, invalid user ID or password"))
    return make(
      `etcd (${where}) refuses the password of user ${JSON.stringify(user ?? "")}; correct --etcd-user and --etcd-password-file.`,
      "never",
    );
  if (said.includes("authentication is not enabled"))
    return make(
      `etcd (${where}) has no authentication enabled, but user ${JSON.stringify(user ?? "")} was to log in; leave --etcd-user out, or enable it there (etcdctl auth enable).`,
      "never",
    );
  if (said.includes("user name is empty") || said.includes("user name not found"))
    return make(`etcd (${where}) asks for a user and a password; give --etcd-user NAME and --etcd-password-file FILE.`, "never");
  if (code === status.UNAUTHENTICATED || said.includes("invalid auth token") || said.includes("revision of auth store is old"))
    return make(`etcd (${where}) does not accept our login any more (${said}).`, "login");
  if (code === status.PERMISSION_DENIED || said.includes("permission denied"))
    return make(
      `etcd (${where}) does not let ${user === undefined ? "us" : `user ${JSON.stringify(user)}`} read and write the keys of the store; grant the role readwrite on the prefix (etcdctl role grant-permission ROLE readwrite --prefix=true PREFIX).`,
      "never",
    );
  if (said.includes("request is too large") || said.includes("received message larger than max"))
    return make(
      `etcd (${where}) finds the request too large; raise --max-request-bytes of etcd, or write less at once. Nothing was written.`,
      "never",
    );
  if (said.includes("too many operations"))
    return make(
      `etcd (${where}) takes fewer operations at once than were asked for; raise --max-txn-ops of etcd to 128 (its default) or more. Nothing was written.`,
      "never",
    );
  if (said.includes("too many requests")) return make(`etcd (${where}) is overloaded (${said}).`, "member", false);
  if (memberCodes.has(code)) return make(`etcd (${where}) cannot be reached, or has no leader (${said}).`, "member", true);
  if (said.includes("no space left"))
    return make(`the disk of etcd (${where}) is full; nothing was written. Free some space there.`, "member", true);
  return make(`etcd (${where}) refuses: ${said}.`, "never");
}
