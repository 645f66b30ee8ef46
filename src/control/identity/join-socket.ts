// Owns: the Unix socket at which programs of this machine join by being who they are: the kernel says which user is calling, a rule says as whom that user may
// join, and a join token comes back. One line of JSON each way. Never believes what a caller says of itself.

import { chmodSync, existsSync, lstatSync, readFileSync, unlinkSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { IdentityError } from "./failure.ts";
import type { PeerCredentials } from "./peer-credentials.ts";
import type { ServiceAccount } from "./token.ts";

/** A user of this machine and whom it may join as; `*` = any. */
export interface JoinRule {
  readonly uid: number;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export interface JoinSocketDeps {
  readonly path: string;
  readonly rules: readonly JoinRule[];
  /** Of this process: who runs the control plane can read its keys, and may join as anybody; so may root. */
  readonly ownUid: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly credentials: (fd: number) => PeerCredentials | undefined;
  readonly issue: (account: ServiceAccount) => Promise<{ readonly token: string; readonly expiresAt: string }>;
  /** Where the token is to be used. */
  readonly access: () => { readonly server: string; readonly caBundle: string };
  readonly onJoined: (account: ServiceAccount, who: PeerCredentials) => void;
}

/** Connections at once: a program holds one for some milliseconds. */
export const mostJoining = 256;
/** Of a request. */
export const mostJoinBytes = 4_096;
/** Within which a request must be whole. */
export const joinWithinMs = 5_000;
/** 107 of a Unix socket's address. */
const longestPath = 107;

const word = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/**
 * `1000=shop/cart,www-data=shop/*,ci=*`: users by number or name, each with a service account, all of a namespace, or all. `passwd`: text of /etc/passwd.
 * Throws IdentityError naming the word.
 */
export function parseJoinRules(text: string, passwd: () => string): JoinRule[] {
  return text.split(",").map((each) => {
    const [, user = "", account = ""] = /^\s*([^=\s]+)=(\S+)\s*$/.exec(each) ?? [];
    const [namespace = "", serviceAccount = "*", more] = account === "*" ? ["*"] : account.split("/");
    const good = (part: string) => part === "*" || word.test(part);
    if (user === "" || more !== undefined || (account !== "*" && !account.includes("/")) || !good(namespace) || !good(serviceAccount))
      throw new IdentityError(
        `--join-users: ${JSON.stringify(each)} is not of the form USER=NAMESPACE/ACCOUNT, USER=NAMESPACE/* or USER=*`,
      );
    if (namespace === "*" && serviceAccount !== "*")
      throw new IdentityError(`--join-users: ${JSON.stringify(each)} leaves the namespace open and not the account; name the namespace`);
    return { uid: uidOf(user, passwd), namespace, serviceAccount };
  });
}

function uidOf(user: string, passwd: () => string): number {
  if (/^\d{1,10}$/.test(user)) return Number(user);
  const line = passwd()
    .split("\n")
    .find((each) => each.startsWith(`${user}:`));
  const uid = line?.split(":")[2];
  if (uid === undefined || !/^\d{1,10}$/.test(uid))
    throw new IdentityError(`--join-users: this machine has no user ${JSON.stringify(user)}; name it by its number`);
  return Number(uid);
}

export const readPasswd = (): string => readFileSync("/etc/passwd", "utf8");

function mayJoin(uid: number, account: ServiceAccount, { rules, ownUid }: Pick<JoinSocketDeps, "rules" | "ownUid">): boolean {
  if (uid === ownUid || uid === 0) return true;
  return rules.some(
    (rule) =>
      rule.uid === uid &&
      (rule.namespace === "*" || rule.namespace === account.namespace) &&
      (rule.serviceAccount === "*" || rule.serviceAccount === account.serviceAccount),
  );
}

interface Caller {
  text: string;
  answered: boolean;
  deadline: Timer | undefined;
}

type Socket = Bun.Socket<Caller> & { readonly fd: number };

/** Listens; throws IdentityError where it cannot. */
export function openJoinSocket(deps: JoinSocketDeps): { stop(): void } {
  const { path, rules, clock, log } = deps;
  if (Buffer.byteLength(path) > longestPath)
    throw new IdentityError(`--join-socket ${path}: the path may have ${longestPath} bytes, this one has ${Buffer.byteLength(path)}`);
  const folder = dirname(resolve(path));
  if (!existsSync(folder)) throw new IdentityError(`--join-socket ${path}: there is no folder ${folder}; make it first`);
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && !there.isSocket()) throw new IdentityError(`--join-socket ${path}: something that is no socket stands there`);
  if (there !== undefined) unlinkSync(path);
  let open = 0;

  const answer = (socket: Socket, body: object): void => {
    if (socket.data.answered) return;
    socket.data.answered = true;
    socket.data.deadline?.cancel();
    socket.end(`${JSON.stringify(body)}\n`);
  };
  const join = async (socket: Socket, line: string): Promise<void> => {
    const who = deps.credentials(socket.fd);
    if (who === undefined) return answer(socket, { error: "the kernel does not say who is calling" });
    const account = readRequest(line);
    if (typeof account === "string") return answer(socket, { error: account });
    if (!mayJoin(who.uid, account, deps)) {
      log.warn({ ...who, ...account }, "A program of this machine was not let in");
      return answer(socket, {
        error: `user ${who.uid} of this machine may not join as ${account.namespace}/${account.serviceAccount}; the control plane's --join-users says who may`,
      });
    }
    const issued = await deps.issue(account);
    deps.onJoined(account, who);
    answer(socket, { ...account, ...issued, ...deps.access() });
  };
  const mask = process.umask(0o177);
  let listener: ReturnType<typeof Bun.listen<Caller>>;
  try {
    listener = Bun.listen<Caller>({
      unix: path,
      socket: {
        open(socket) {
          open++;
          socket.data = { text: "", answered: false, deadline: undefined };
          if (open > mostJoining) return answer(socket as Socket, { error: `${mostJoining} programs are joining already; try again` });
          socket.data.deadline = clock.after(joinWithinMs, () =>
            answer(socket as Socket, { error: `no whole request within ${joinWithinMs / 1000} s` }),
          );
        },
        data(socket, bytes) {
          const caller = socket.data;
          if (caller.answered) return;
          caller.text += bytes.toString("utf8");
          const end = caller.text.indexOf("\n");
          if (end < 0 && caller.text.length > mostJoinBytes)
            return answer(socket as Socket, { error: `the request has more than ${mostJoinBytes} bytes` });
          if (end < 0) return;
          join(socket as Socket, caller.text.slice(0, end)).catch((cause: unknown) => {
            log.error({ cause }, "A join token could not be issued at the socket");
            answer(socket as Socket, { error: "the token could not be issued; the control plane's log says why" });
          });
        },
        close(socket) {
          open--;
          socket.data?.deadline?.cancel();
        },
        error(_socket, cause) {
          log.debug({ cause }, "A connection at the join socket failed");
        },
      },
    });
    // Other users must reach it where a rule is for them; what they may, the kernel's word decides.
    chmodSync(path, rules.length > 0 ? 0o666 : 0o600);
  } catch (cause) {
    throw new IdentityError(`--join-socket ${path}: cannot listen there: ${cause instanceof Error ? cause.message : String(cause)}`);
  } finally {
    process.umask(mask);
  }
  return {
    stop() {
      listener.stop(true);
      try {
        unlinkSync(path);
      } catch {
        // Somebody has cleaned up.
      }
    },
  };
}

function readRequest(line: string): ServiceAccount | string {
  let value: { namespace?: unknown; serviceAccount?: unknown } | null;
  try {
    value = JSON.parse(line) as typeof value;
  } catch {
    return "the request is not a line of JSON";
  }
  const { namespace, serviceAccount } = value ?? {};
  if (typeof namespace !== "string" || typeof serviceAccount !== "string" || !word.test(namespace) || !word.test(serviceAccount))
    return 'the request is not {"namespace": NAMESPACE, "serviceAccount": NAME}';
  return { namespace, serviceAccount };
}
